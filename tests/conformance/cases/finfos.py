"""Section 10: mp_finfo, and apache.stat which makes it."""

from suite.case import Case, Group

NAMES = "fname filetype valid protection user group size inode device nlink atime mtime ctime name".split()
STAT = "4.stat(fname, wanted)"

PAGE = """
        info = apache.stat(req.document_root() + "/static/page.txt", {wanted})
"""


def page(wanted, rest):
    """Code that looks at a file."""
    return PAGE.format(wanted=wanted) + "        " + rest.strip() + "\n"


GROUP = Group("finfos", (
    Case("finfo-values", ("10.values", STAT), page("apache.APR_FINFO_NORM", """
        real = os.stat(info.fname)
        return answer(req, [info.fname, info.filetype == apache.APR_REG, oct(info.protection), info.size,
                            [info.user, info.group, info.inode, info.nlink] ==
                            [real.st_uid, real.st_gid, real.st_ino, real.st_nlink],
                            [info.atime, info.mtime, info.ctime] ==
                            [int(real.st_atime), int(real.st_mtime), int(real.st_ctime)], info.device == real.st_dev])
    """), expect=["@htdocs@/static/page.txt", True, "0o3104", 14, True, True, True]),
    Case("finfo-types", "10.values", page("apache.APR_FINFO_NORM", f"""
        return answer(req, {{name: type(getattr(info, name)).__name__ for name in {NAMES!r}}})
    """)),
    Case("finfo-valid", "10.valid", """
        path = req.document_root() + "/static/page.txt"
        wanted = (apache.APR_FINFO_MIN, apache.APR_FINFO_NORM, apache.APR_FINFO_SIZE, apache.APR_FINFO_NAME)
        return answer(req, [apache.stat(path, w).valid for w in wanted])
    """),
    Case("finfo-min", "10.None when unknown", page("apache.APR_FINFO_SIZE", f"""
        return answer(req, [info.size, info.name])
    """)),
    Case("finfo-name", "10.None when unknown", page("apache.APR_FINFO_NAME", "return answer(req, info.name)")),
    Case("finfo-directory", STAT, """
        info = apache.stat(req.document_root(), apache.APR_FINFO_MIN)
        return answer(req, [info.filetype == apache.APR_DIR, info.fname])
    """),
    Case("finfo-link", STAT, """
        info = apache.stat("/proc/self/exe", apache.APR_FINFO_LINK | apache.APR_FINFO_TYPE)
        return answer(req, [info.filetype == apache.APR_LNK])
    """, expect=[True]),
    Case("finfo-missing", STAT, f"""
        info = apache.stat("/no/such/file", apache.APR_FINFO_MIN)
        return answer(req, [info.filetype, apache.APR_NOFILE, {{n: getattr(info, n) for n in {NAMES!r}}}])
    """),
    Case("finfo-below-file", STAT, """
        path = req.document_root() + "/static/page.txt/below"
        return answer(req, attempt(lambda: apache.stat(path, apache.APR_FINFO_MIN).filetype))
    """),
    Case("finfo-wrong-arguments", STAT, """
        return answer(req, [attempt(apache.stat, 5, 1), attempt(apache.stat, "/"), attempt(apache.stat, "/", "x")])
    """),
    Case("finfo-index", "10.indexable", page("apache.APR_FINFO_NORM", """
        names = [n for n in dir(apache) if n.startswith("FINFO_") and n != "FINFO_FILETYPE"]
        return answer(req, {name: info[getattr(apache, name)] == getattr(info, name[6:].lower().replace("mode",
                            "protection").replace("dev", "device").replace("uid", "user").replace("gid", "group"),
                                "none")
                            for name in names})
    """)),
    Case("finfo-index-constants", "10.indexable", """
        return answer(req, sorted((n, getattr(apache, n)) for n in dir(apache) if n.startswith("FINFO_")))
    """),
    Case("finfo-index-filetype", ("10.indexable", "21.finfo[12]"), page("apache.APR_FINFO_NORM", """
        return answer(req, info[apache.FINFO_FILETYPE] == apache.APR_REG)
    """), expect=True, defect="`finfo[FINFO_FILETYPE]` raises IndexError"),
    Case("finfo-index-out", "10.indexable", page("apache.APR_FINFO_NORM", """
        return answer(req, [attempt(lambda: info[13]), attempt(lambda: info[-1]), attempt(lambda: info["size"]),
                            attempt(len, info)])
    """)),
    Case("finfo-read-only", "10.values", page("apache.APR_FINFO_NORM", f"""
        # Which of the two it is depends on the process in mod_python.
        errors = ("TypeError", "AttributeError")
        return answer(req, [attempt(setattr, info, name, 1) in errors for name in {NAMES!r} + ["mine"]])
    """)),
    Case("finfo-repr", "10.values", page("apache.APR_FINFO_NORM", """
        return answer(req, [str(type(info)), isinstance(info, tuple)])
    """)),
    Case("finfo-of-request", "6.finfo (mp_finfo only)", """
        info = req.finfo
        return answer(req, [info.filetype, info.size, info.fname, info.name])
    """, path="page.txt", files={"page.txt": "four"}),
    Case("finfo-of-directory", "6.finfo (mp_finfo only)", "return answer(req, [req.finfo.filetype, req.finfo.fname])"),
    Case("finfo-of-nothing", "6.finfo (mp_finfo only)", """
        info = req.finfo
        return answer(req, [info.filetype, info.size, info.fname, info.name])
    """, path="none.txt"),
), files={"static/page.txt": "a static page\n"})
