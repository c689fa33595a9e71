"""Handlers for the phases that are not the content, with the real package."""

import os
import subprocess
import sys
import threading

from mod_python import apache

kept = {}


def handler(req):
    req.write('plain')
    return int(req.args or 0)


def marks(req):
    req.mark = 'made'
    return int(req.args or 0)


def sees(req):
    req.write(f'{req.prev.uri} {req.prev.mark}')
    return 0


def cleans(req):
    req.register_cleanup(lambda uri: req.log_error(f'cleaned {uri}'), req.uri)
    return 0


def cleanuphandler(req):
    """The calls of a request that is over fail, but for the log; what is known stays known."""
    try:
        req.write('x')
    except Exception as error:
        req.log_error(f'{req.phase} {req.uri} {getattr(req, "mark", None)} {type(error).__name__}')
    return 0


def adds(req):
    for directory in ('rel/x', '/abs', './a/../b//c', '', '/../..', None):
        req.add_handler('PythonHandler', 'phases::added', directory)
    req.add_handler('PythonAccessHandler', 'phases::added', 'rel')
    req.add_handler('PythonHandler', 'phases::shows')
    return 0


def added(req):
    req.write(f'{req.hlist.directory} ')
    return 0


def shows(req):
    req.write(repr(req.hlist))
    return 0


def asks(req):
    req.write(repr((req.requires(), req.get_addhandler_exts(), apache.config_tree())))
    return 0


def connectionhandler(conn):
    reads = [('readline', 3), ('readline', -1), ('readline', 0), ('read', 2), ('read', 100), ('readline', 2),
             ('read', 1), ('read', -1), ('read', -1), ('read', 5), ('readline', -1)]
    said = []
    for name, most in reads:
        try:
            said.append(getattr(conn, name)(most))
        except OSError as error:
            said.append(str(error))
    conn.write(repr(said))
    return 0


def echo(conn):
    """The loop of mod_python's documentation."""
    try:
        while 1:
            conn.write(b'<' + conn.readline() + b'>')
    except OSError as error:
        conn.write(str(error))
    return 0


def checkpassword(req, user, password):
    req.log_error(f'{req.phase} {req.hlist.handler} {user} {password}')
    return {'yes': True, 'no': False, 'none': None}[password]


def realmhash(req, user, realm):
    return None if user == 'nobody' else f'{user}:{realm}'.encode().hex()


def groups(req, user):
    yield from ('staff', 'two words')


class Backend:
    def __init__(self, req):
        self.req = req

    def checkpassword(self, req, user, password):
        return req is self.req and user == password

    def groups(self, req, user):
        return [user]


def child(req):
    """Leaves a process behind that nobody has asked to end."""
    left = subprocess.Popen([sys.executable, '-c', 'import sys; print(flush=True); sys.stdin.read()'],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    left.stdout.readline()
    kept['child'] = left
    req.write(f'{left.pid} {os.getpgid(left.pid) == os.getpgid(0) == os.getpid()}')
    return 0


def talks(req):
    """Says something where nobody listens: outside of requests the supervisor does."""
    print('in a request')
    thread = threading.Thread(target=print, args=('on a thread',))
    thread.start()
    thread.join()
    req.server.register_cleanup(req, lambda data: print('at the end'))
    return 0
