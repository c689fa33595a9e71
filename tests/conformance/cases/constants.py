"""Section 4: the constants of mod_python.apache."""

from suite.case import Case, Group


def family(name, *prefixes, extra=()):
    """A case that compares all names with one of the prefixes."""
    return Case(f"const-{name}", f"4.constants: {name}", f"""
        names = [n for n in dir(apache) if n.startswith({prefixes!r})] + {list(extra)!r}
        return answer(req, {{n: getattr(apache, n, "missing") for n in names}})
    """)


def named(name, names):
    """A case that compares names, of which Vivarium has more than mod_python."""
    return Case(f"const-{name}", f"4.constants: {name}", f"""
        return answer(req, {{n: getattr(apache, n, "missing") for n in {names.split()!r}}})
    """)


HTTP = """
    HTTP_ACCEPTED HTTP_BAD_GATEWAY HTTP_BAD_REQUEST HTTP_CONFLICT HTTP_CONTINUE HTTP_CREATED HTTP_EXPECTATION_FAILED
    HTTP_FAILED_DEPENDENCY HTTP_FORBIDDEN HTTP_GATEWAY_TIME_OUT HTTP_GONE HTTP_IM_A_TEAPOT HTTP_INSUFFICIENT_STORAGE
    HTTP_INTERNAL_SERVER_ERROR HTTP_LENGTH_REQUIRED HTTP_LOCKED HTTP_METHOD_NOT_ALLOWED HTTP_MOVED_PERMANENTLY
    HTTP_MOVED_TEMPORARILY HTTP_MULTIPLE_CHOICES HTTP_MULTI_STATUS HTTP_NON_AUTHORITATIVE HTTP_NOT_ACCEPTABLE
    HTTP_NOT_EXTENDED HTTP_NOT_FOUND HTTP_NOT_IMPLEMENTED HTTP_NOT_MODIFIED HTTP_NO_CONTENT HTTP_OK HTTP_PARTIAL_CONTENT
    HTTP_PAYMENT_REQUIRED HTTP_PRECONDITION_FAILED HTTP_PROCESSING HTTP_PROXY_AUTHENTICATION_REQUIRED
    HTTP_RANGE_NOT_SATISFIABLE HTTP_REQUEST_ENTITY_TOO_LARGE HTTP_REQUEST_TIME_OUT HTTP_REQUEST_URI_TOO_LARGE
    HTTP_RESET_CONTENT HTTP_SEE_OTHER HTTP_SERVICE_UNAVAILABLE HTTP_SWITCHING_PROTOCOLS HTTP_TEMPORARY_REDIRECT
    HTTP_UNAUTHORIZED HTTP_UNPROCESSABLE_ENTITY HTTP_UNSUPPORTED_MEDIA_TYPE HTTP_UPGRADE_REQUIRED HTTP_USE_PROXY
    HTTP_VARIANT_ALSO_VARIES HTTP_VERSION_NOT_SUPPORTED
"""
MPMQ = """
    AP_MPMQ_DYNAMIC AP_MPMQ_HARD_LIMIT_DAEMONS AP_MPMQ_HARD_LIMIT_THREADS AP_MPMQ_IS_FORKED AP_MPMQ_IS_THREADED
    AP_MPMQ_MAX_DAEMONS AP_MPMQ_MAX_DAEMON_USED AP_MPMQ_MAX_REQUESTS_DAEMON AP_MPMQ_MAX_SPARE_DAEMONS
    AP_MPMQ_MAX_SPARE_THREADS AP_MPMQ_MAX_THREADS AP_MPMQ_MIN_SPARE_DAEMONS AP_MPMQ_MIN_SPARE_THREADS
    AP_MPMQ_NOT_SUPPORTED AP_MPMQ_STATIC
"""


GROUP = Group("constants", (
    family("results", "REQ_", extra=("OK", "DECLINED", "DONE")),
    named("HTTP", HTTP),
    Case("const-newer", "4.constants: HTTP", """
        return answer(req, [getattr(apache, name, None) for name in ("HTTP_EARLY_HINTS", "HTTP_MISDIRECTED_REQUEST",
                            "HTTP_TOO_MANY_REQUESTS", "HTTP_UNAVAILABLE_FOR_LEGAL_REASONS")])
    """, expect=[103, 421, 429, 451], differs="the codes that HTTP has been given since are there too"),
    family("APLOG", "APLOG_"),
    family("REMOTE", "REMOTE_"),
    family("FINFO", "FINFO_"),
    family("URI", "URI_"),
    family("PROXYREQ", "PROXYREQ_"),
    family("methods", "M_"),
    family("path-info", "AP_REQ_"),
    named("MPMQ", MPMQ),
    family("magic", "CGI_MAGIC", "INCLUDES_MAGIC", "DIR_MAGIC"),
    family("REQUEST", "REQUEST_"),
    family("CONN", "AP_CONN_"),
    family("APR-types", "APR_NOFILE", "APR_REG", "APR_DIR", "APR_CHR", "APR_BLK", "APR_PIPE", "APR_LNK", "APR_SOCK",
        "APR_UNK"),
    family("APR-FINFO", "APR_FINFO_"),
    Case("const-others", "4.constants: others", """
        known = ("HTTP_", "REQ_", "APLOG_", "REMOTE_", "FINFO_", "URI_", "PROXYREQ_", "M_", "AP_REQ_", "AP_MPMQ_",
            "CGI_",
                 "INCLUDES_", "DIR_", "REQUEST_", "AP_CONN_", "APR_", "MODULE_MAGIC")
        return answer(req, sorted(n for n in dir(apache) if n.isupper() and not n.startswith(("_", *known))))
    """),
))
