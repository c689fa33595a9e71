"""What the tenants of tests/attacks/test_phases.py and test_between.py do in each phase.

The query says what: `hang=PHASE` waits in that phase until the file `release` is in the document root (`root`), `say=PHASE`
only logs it, `no=PHASE` refuses the request there.
"""

import os
import threading
import time

from mod_python import apache

PASSWORD = "right"
MEETING = threading.Semaphore(0)
FORGED = b"HTTP/1.1 200 forged\r\nX-Forged: yes\r\nContent-Length: 7\r\n\r\nforged\n"


def arg(req, name):
    for part in (req.args or "").split("&"):
        key, _, value = part.partition("=")
        if key == name:
            return value
    return None


def phase(req, name, good=apache.OK):
    """One phase's turn."""
    if name in (arg(req, "say"), arg(req, "hang")):
        req.log_error(f"in {name} {arg(req, 'value')}.")
    if arg(req, "hang") == name:
        release = os.path.join(arg(req, "root"), arg(req, "until") or "release")
        while not os.path.exists(release):
            time.sleep(0.02)
    if arg(req, "no") == name:
        return apache.HTTP_FORBIDDEN
    return good


def postreadrequesthandler(req):
    return phase(req, "postread")


def sneak(req):
    """Filters and handlers out of one's own directory."""
    here = os.path.dirname(__file__)
    req.register_output_filter("sneak", "sneaked::grab", here)
    req.add_output_filter("sneak")
    req.register_input_filter("sneak", "sneaked::grab", here)
    req.add_input_filter("sneak")
    req.add_handler("PythonAccessHandler", "sneaked", here)
    req.add_handler("PythonAuthzHandler", "sneaked::accesshandler", here)
    req.add_handler("PythonFixupHandler", "sneaked::accesshandler", here)


def transhandler(req):
    if arg(req, "sneak"):
        # Python of its own choice, for a request that may come to be another tenant's.
        sneak(req)
    return phase(req, "trans", apache.DECLINED)


def accesshandler(req):
    return phase(req, "access")


def authenhandler(req):
    req.user = "somebody"
    return phase(req, "authen")


def fixuphandler(req):
    return phase(req, "fixup")


def loghandler(req):
    return phase(req, "log")


def outputfilter(filter):
    """Hands everything on; `longer` and `shorter` change how much there is."""
    if filter.req.main is None:
        phase(filter.req, "filter")
    data = filter.read()
    while data:
        if not arg(filter.req, "shorter"):
            filter.write(data)
        data = filter.read()
    if arg(filter.req, "longer"):
        filter.req.headers_out["Content-Length"] = arg(filter.req, "longer")
        filter.flush()
        filter.write(FORGED)
    if data is None:
        filter.close()


def handler(req):
    req.content_type = "text/plain"
    if arg(req, "meet"):
        # Two of them at once, or none.
        MEETING.release()
        while MEETING._value < 2:
            time.sleep(0.005)
    result = phase(req, "handler")
    if result != apache.OK:
        return result
    if arg(req, "length"):
        return lengths(req)
    if arg(req, "filter"):
        return add_filter(req, arg(req, "filter"))
    if arg(req, "sneaky"):
        sneak(req)
    if arg(req, "secret"):
        req.write("a secret of " + apache.interpreter + "\n")
    if arg(req, "to"):
        req.internal_redirect(arg(req, "to") + "?secret=1&read=1")
        return apache.OK
    if arg(req, "read"):
        req.write(req.read())
    req.write(f"{apache.interpreter} {arg(req, 'value')}\n")
    return result


def add_filter(req, name):
    """A filter by its name; `own`: after registering Python of one's own by that name."""
    try:
        if arg(req, "own"):
            getattr(req, f"register_{arg(req, 'own')}_filter")(name, "sneaked::grab", os.path.dirname(__file__))
        getattr(req, f"add_{arg(req, 'way') or 'output'}_filter")(name)
    except PermissionError as error:
        req.write(f"refused: {error}\n")
        return apache.OK
    req.write("secret <!--#echo var=\"DOCUMENT_NAME\" -->\n")
    return apache.OK


def lengths(req):
    """An answer whose length is not what it says."""
    how = arg(req, "length")
    if how == "none":
        req.set_content_length(60)
        return apache.OK
    if how == "status":
        req.status = apache.HTTP_NOT_MODIFIED
        req.headers_out["Content-Length"] = "4"
        req.write(FORGED)
        return apache.OK
    if how in ("two", "err"):
        # Who goes by the one and who goes by the other find the answer's end in two places.
        req.headers_out["Content-Length"] = str(4 + len(FORGED))
        (req.headers_out if how == "two" else req.err_headers_out).add("Content-Length", "4")
        req.write(b"abcd" + FORGED)
        return apache.OK
    if how == "packed":
        # httpd's own filter keeps what it is given for a while: the head goes out later than the first write.
        req.add_output_filter("DEFLATE")
        req.write(b"x" * 300000)
        req.get_remote_host()
        req.headers_out["Content-Length"] = "4"
        req.write(b"y")
        req.flush()
        req.write(FORGED)
        return apache.OK
    req.headers_out["Content-Length"] = arg(req, "says") or "60"
    req.write(b"abcd")
    if how != "gathered":
        req.flush()
    if how == "done":
        return apache.DONE
    if how == "error":
        return apache.HTTP_NOT_FOUND
    if how == "raise":
        raise ValueError("in the middle")
    if how == "die":
        os._exit(3)
    if how == "redirect":
        req.internal_redirect("/more/page?forged=1")
    if how == "more":
        req.write(FORGED)
    return apache.OK


def forged(req):
    req.write(FORGED)
    return apache.OK


class Accounts:
    """A provider that hangs, dies, or lies, as its section says."""

    @staticmethod
    def checkpassword(req, user, password):
        trouble(req)
        return password == PASSWORD

    @staticmethod
    def groups(req, user):
        trouble(req)
        return ["staff"]


ACCOUNTS = Accounts()


def trouble(req):
    how = arg(req, "how")
    if how == "hang":
        req.log_error(f"asked and hangs {arg(req, 'value')}.")
        while not os.path.exists(os.path.join(arg(req, "root"), "release")):
            time.sleep(0.02)
    elif how == "die":
        os._exit(3)
    elif how == "raise":
        raise ValueError("no answer")


def connectionhandler(conn):
    conn.write(b"spoken by Python\n")
    return apache.OK
