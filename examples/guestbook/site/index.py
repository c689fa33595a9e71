"""A guestbook. Everybody may read it; who has logged in may sign it, with a photo.

The functions without an underscore in front are what the publisher shows: `/guestbook/sign` is `sign`, and the fields of
its form are its arguments. What they show is in the templates.
"""

import hmac
import os
import secrets

from mod_python import Session, apache, psp, util

# A module: the publisher does not show it. It is loaded again when its file changes, as this one is.
book = apache.import_module("_book")

_TEMPLATES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "templates")
_PER_PAGE = 10


def index(req, page="1"):
    """The entries, the latest first."""
    number = int(page) if isinstance(page, str) and page.isascii() and page.isdigit() and len(page) < 7 else 1
    session = _session(req)
    entries, more = _book(req).entries(max(number, 1), _PER_PAGE)
    return _show(req, "index.psp", session, entries=entries, page=max(number, 1), more=more)


def sign(req, text="", photo=None, token=""):
    """A new entry."""
    session = _session_of_form(req, token)
    if "user" not in session:
        return _show(req, "login.psp", session, "Log in to sign.", apache.HTTP_FORBIDDEN)
    # Without a file, a browser sends an empty one.
    data = None if photo is None or isinstance(photo, (str, list)) or not photo.filename else photo.file
    try:
        _book(req).sign(session["user"], _text(text), data)
    except book.Refused as why:
        return _show(req, "message.psp", session, str(why), apache.HTTP_BAD_REQUEST)
    return util.redirect(req, "./")


def login(req, name="", password="", token=""):
    """The form for logging in, and what it does."""
    return _enter(req, name, password, token, "check")


def join(req, name="", password="", token=""):
    """Makes an account and logs in."""
    return _enter(req, name, password, token, "join")


def logout(req, token=""):
    """Ends the session."""
    _session_of_form(req, token).invalidate()
    return util.redirect(req, "./")


def photo(req, entry=""):
    """The photo of an entry."""
    found = _book(req).photo(int(entry)) if isinstance(entry, str) and entry.isascii() and entry.isdigit() else None
    if found is None:
        raise apache.SERVER_RETURN(apache.HTTP_NOT_FOUND)
    path, req.content_type = found
    # It is an image, whatever a browser may think of its content.
    req.headers_out["X-Content-Type-Options"] = "nosniff"
    req.headers_out["Cache-Control"] = "private, max-age=86400"
    req.sendfile(path)


# What follows is not published: its names begin with an underscore.


def _book(req):
    return book.Book(req.get_options().get("guestbook.data"))


def _text(value):
    """A field's text. Anybody can send a file, or two fields, where the form has a line of text."""
    if not isinstance(value, str):
        raise apache.SERVER_RETURN(apache.HTTP_BAD_REQUEST)
    return value.replace("\r\n", "\n").strip()


def _session(req):
    session = req.session = Session.Session(req)
    if "token" not in session:
        session["token"] = secrets.token_urlsafe()
        session.save()
    return session


def _session_of_form(req, token):
    """The session, if the request is a form of ours that was sent from one of our pages."""
    if req.method != "POST":
        req.allow_methods(["POST"], 1)
        raise apache.SERVER_RETURN(apache.HTTP_METHOD_NOT_ALLOWED)
    session = _session(req)
    if not hmac.compare_digest(session["token"].encode(), _text(token).encode()):
        raise apache.SERVER_RETURN(apache.HTTP_FORBIDDEN)
    return session


def _enter(req, name, password, token, how):
    if req.method != "POST":
        return _show(req, "login.psp", _session(req))
    session = _session_of_form(req, token)
    try:
        user = getattr(_book(req), how)(_text(name), _text(password))
    except book.Refused as why:
        return _show(req, "login.psp", session, str(why), apache.HTTP_FORBIDDEN)
    # A new id: whoever knew the old one is not logged in now.
    session.regenerate()
    session["user"] = user
    session["token"] = secrets.token_urlsafe()
    session.save()
    return util.redirect(req, "./")


def _show(req, template, session, message="", status=None, **names):
    """Runs a template. Its expressions are escaped."""
    names.update(message=message, user=session.get("user"), token=session["token"], limits=book)
    req.content_type = "text/html; charset=utf-8"
    req.headers_out["Content-Security-Policy"] = "default-src 'self'; form-action 'self'; frame-ancestors 'none'"
    req.headers_out["Cache-Control"] = "no-store"
    if status is not None:
        req.status = status
    psp.PSP(req, os.path.join(_TEMPLATES, template), vars=names, autoescape=True).run()
