"""Handlers for the tests: what they see goes back as text."""

import sys
import threading

import _vivarium


def hello(req):
    req.content_type = 'text/plain'
    req.headers_out['X-Hello'] = 'there'
    req.write('Hello, world!\n')
    return 0


def quiet(req):
    return 0


def code(req):
    return int(req.args)


def probe(req):
    """Runs the code that came as the body; what it prints with p() is the answer."""
    shown = []
    source = req.notes['code']

    def p(*values):
        shown.append(' '.join(str(value) for value in values))

    def e(function):
        """What a call gives or raises."""
        try:
            shown.append('-> ' + repr(function()))
        except BaseException as error:
            shown.append(f'!! {type(error).__name__}: {error}')

    exec(compile(source, 'probe', 'exec'), {'req': req, 'p': p, 'e': e, '_vivarium': _vivarium})
    req.write('\n'.join(shown).encode('utf-8', 'backslashreplace'))
    return 0


kept = {}


def keep(req):
    """First phase: leaves something on the request."""
    req.mark = ['left by', req.phase]
    kept['req'] = req
    kept['conn'] = req.connection
    return 0


def again(req):
    """Later phase: finds it."""
    same = kept['req'] is req and kept['conn'] is req.connection
    req.write(f'{same} {req.mark} {req.phase} {req.status}')
    return 0


def register(req):
    req.register_cleanup(late, (req, 'one'))
    req.register_cleanup(late, (req, 'two'))
    return 0


def late(data):
    req, what = data
    req.log_error(f'{what} {req.uri} {req.status}', 6)


def boom(req):
    raise ZeroDivisionError('by a handler')


def panics(req):
    from pyo3_runtime import PanicException
    raise PanicException('on purpose')


def prints(req):
    print('one line')
    print('two', end='')
    sys.stdout.write(' halves\nand an un')
    print('to stderr', file=sys.stderr)
    sys.stdout.write('finished one')
    return 0


def from_thread(req):
    """Another thread writes while this one is in Python, then after the request is over."""
    thread = threading.Thread(target=req.write, args=('from a thread\n',))
    thread.start()
    thread.join()
    req.write('from the handler\n')
    return 0


def races(req):
    """Several threads and the handler itself ask at the same time."""
    results = []

    def ask(n):
        results.append(req.construct_url(f'/{n}'))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for n in range(8, 40):
        ask(n)
    for thread in threads:
        thread.join()
    req.write(repr(sorted(results) == sorted(f'/{n}' for n in range(40))))
    return 0


def late_write(req):
    """A thread that goes on after the request."""
    go = threading.Event()
    kept['late'] = []

    def run():
        go.wait()
        for call in (lambda: req.write('x'), lambda: req.method, lambda: req.headers_in['Host'],
                     lambda: req.construct_url('/'), lambda: req.register_cleanup(print)):
            try:
                kept['late'].append(repr(call()))
            except Exception as error:
                kept['late'].append(f'{type(error).__name__}: {error}')

    kept['thread'] = threading.Thread(target=run)
    kept['thread'].start()
    kept['go'] = go
    return 0


def late_result(req):
    kept['go'].set()
    kept['thread'].join()
    req.write('\n'.join(kept['late']))
    return 0


def echo(req):
    body = req.read()
    req.write(body)
    return 0


def chunks(req):
    while True:
        data = req.read(100_000)
        if not data:
            return 0
        req.write(data, 0)


def lines(req):
    req.write(repr([req.readline(), req.readline(3), req.read(4), req.readlines(), req.read()]))
    return 0


def hints(req):
    req.write(repr(req.readlines(int(req.args))))
    return 0


def reads(req):
    try:
        req.write(repr(req.read(10)))
    except OSError as error:
        req.write(f'{type(error).__name__}: {error}')
    return 0


def waits(req):
    """Reads where nothing will come, and says what came instead."""
    try:
        req.read(1)
    except OSError as error:
        kept['error'] = f'{type(error).__name__} {error.errno}: {error.strerror}'
        raise


def last_error(req):
    req.write(kept.get('error', 'none'))
    return 0


def small(req):
    for n in range(int(req.args)):
        req.write(b'%d\n' % n)
    return 0


def big(req):
    req.write(b'x' * int(req.args), 0)
    return 0


def sends(req):
    name, offset, length = req.args.split(',')
    sent = req.sendfile(name, int(offset), int(length))
    req.write(f'[{sent}]')
    return 0


def adds_handlers(req):
    req.add_handler('PythonHandler', 'basic::second', '/some/where')
    req.add_handler('PythonLogHandler', 'basic::logs')
    for bad in (('PythonFoo', 'x'), ('PythonCleanupHandler', 'x'), ('PythonHandler', 5)):
        try:
            req.add_handler(*bad)
        except Exception as error:
            req.write(f'{type(error).__name__}: {error}\n')
    req.write(f'{req.hlist!r}\n')
    return 0


def second(req):
    req.write(f'{req.hlist.handler} {req.hlist.directory} {req.hlist.silent}\n')
    req.hlist.next()
    req.write(f'{req.hlist.handler}')
    return 0


def logs(req):
    req.log_error('the log handler ran')
    return 0


def at_exit(req):
    _vivarium.register_cleanup(lambda data: print('clean-up', data), 'of the process')
    req.server.register_cleanup(req, lambda data: print('clean-up', data), 'of the server')
    return 0


def hangs(req):
    req.flush()
    threading.Event().wait()


def forks(req):
    """A child process tries to use the request; its parent goes on."""
    import os
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = []
        for call in (lambda: req.write('x'), lambda: req.log_error('x'), lambda: req.method):
            try:
                said.append(repr(call()))
            except Exception as error:
                said.append(f'{type(error).__name__}: {error}')
        print('printed by a child')
        os.write(write, '\n'.join(said).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read) as said:
        req.write(said.read())
    return 0


def fork_falls_out(req):
    """A child process returns from the handler."""
    import os
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        req.write(f'child: {os.waitstatus_to_exitcode(status)}')
    return 0


def cycle(req):
    """Leaves reference cycles through everything that can be part of one."""
    import weakref
    req.me = req
    req.server.back = req
    kept.setdefault('cycles', []).append((weakref.ref(req), weakref.ref(req.server)))
    req.headers_out['X'] = '1'
    req.write('x')
    return 0


def cycle_filter(filt):
    import weakref
    filt.req.filter = filt
    kept.setdefault('cycles', []).append((weakref.ref(filt), weakref.ref(filt.req)))
    filt.pass_on()


def cycles_left(req):
    import gc
    gc.collect()
    left = [ref() for pair in kept.pop('cycles') for ref in pair]
    req.write(repr([each for each in left if each is not None]))
    return 0


def length(req):
    req.write(str(len(req.read())))
    return 0
