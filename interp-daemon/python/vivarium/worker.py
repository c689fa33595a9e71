"""A worker process: sets the interpreter up, then serves requests until the supervisor says stop.

Started by `vivariumd` as `python3 -m vivarium.worker`, as the tenant's user, with its control socket and its pool's
page as descriptors 3 and 4. What it needs to know is in environment variables `VIVARIUM_*`, which are gone before any
handler runs.
"""

import atexit
import contextlib
import faulthandler
import importlib.machinery
import importlib.util
import os
import signal
import sys
import threading
import time
import traceback

OLDEST = (3, 9)


def one_line(error):
    """An exception as one line for a log."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def load_extension(path):
    """The extension module `_vivarium`: from its file if that is named, else as Python finds it."""
    if '_vivarium' in sys.modules:
        return sys.modules['_vivarium']
    if not path:
        import _vivarium
        return _vivarium
    loader = importlib.machinery.ExtensionFileLoader('_vivarium', path)
    spec = importlib.util.spec_from_file_location('_vivarium', path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules['_vivarium'] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules['_vivarium']
        raise
    return module


def take_environment():
    """The worker's own variables, which are taken out of the environment."""
    names = [name for name in os.environ if name.startswith('VIVARIUM_')]
    own = {name: os.environ.pop(name) for name in names}
    os.environ.pop('PYTHONPATH', None)
    return own


def clean_path():
    """Takes the directory that `-m` was run in, and the user's site directory, off the search path."""
    import site
    unwanted = {os.getcwd(), ''}
    if site.ENABLE_USER_SITE:
        unwanted.add(site.getusersitepackages())
        site.ENABLE_USER_SITE = False
    sys.path[:1] = [entry for entry in sys.path[:1] if entry not in unwanted]
    sys.path[:] = [entry for entry in sys.path if not (site.USER_SITE and entry == site.USER_SITE)]


def log_exception(kind, value, trace):
    """`sys.excepthook`: the traceback goes to the log."""
    for line in ''.join(traceback.format_exception(kind, value, trace)).splitlines():
        print(line, file=sys.stderr)


def log_thread_exception(args):
    """`threading.excepthook`: the same for threads that handlers have started."""
    if args.exc_type is SystemExit:
        return
    name = args.thread.name if args.thread is not None else 'a thread'
    print(f'Exception in {name}:', file=sys.stderr)
    log_exception(args.exc_type, args.exc_value, args.exc_traceback)


def install_streams(extension):
    """Standard output and error become the error log, line by line."""
    sys.stdout = extension.LogStream(1)
    sys.stderr = extension.LogStream(2)
    sys.excepthook = log_exception
    threading.excepthook = log_thread_exception


def join(threads, deadline):
    """Waits for threads, together until `deadline` (monotonic seconds)."""
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def start(own):
    """Everything that can fail before the first request; returns the extension and the number of threads."""
    if sys.version_info < OLDEST:
        raise RuntimeError('Python %d.%d is older than %d.%d, the oldest that works'
                           % (sys.version_info[:2] + OLDEST))
    threads = int(own.get('VIVARIUM_THREADS', '1'))
    if not 1 <= threads <= 1024:
        raise ValueError(f'VIVARIUM_THREADS is {threads}')
    extension = load_extension(own.get('VIVARIUM_EXTENSION'))
    extension.set_up(own.get('VIVARIUM_SLOT', ''), own.get('VIVARIUM_EPOCH', ''),
                     own.get('VIVARIUM_INTERPRETER', ''))
    return extension, threads


def fail(extension, reason):
    """Says why the worker cannot come up, to the supervisor and on standard error; never returns."""
    with contextlib.suppress(OSError):  # the supervisor may be gone already
        print(f'vivarium.worker: {reason}', file=sys.__stderr__, flush=True)
    if extension is not None:
        try:
            extension.failed(reason)
        except Exception:  # the supervisor sees the exit status
            pass
    sys.exit(1)


def main():
    faulthandler.enable(file=2)
    sys.argv = ['mod_python']
    clean_path()
    own = take_environment()
    # As inside httpd: Python installs no handlers of its own for signals.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    extension = None
    try:
        extension, count = start(own)
        os.register_at_fork(after_in_child=extension.forked)
        install_streams(extension)
        # Registered first, it is called last: when nothing of Python runs any more.
        atexit.register(extension.end)
        from mod_python import _dispatch
        dispatcher = _dispatch.install(own.get('VIVARIUM_INTERPRETER'))
        if 'VIVARIUM_STARTUP' in own:
            imports, server = extension.startup()
            for each in imports:
                # Logs its own failure; the worker serves nevertheless, as in mod_python.
                dispatcher.python_import(each, server)
    except BaseException as error:
        if extension is None:
            extension = sys.modules.get('_vivarium')
        fail(extension, f'the worker cannot start: {one_line(error)}')
    # `-m` made this file the main module; programs that look for theirs find an empty one, as inside httpd.
    threads = [threading.Thread(target=extension.serve, name=f'vivarium-{n}', daemon=True)
               for n in range(count)]
    for thread in threads:
        thread.start()
    extension.ready(sys.version.split()[0])
    left = extension.wait()
    join(threads, time.monotonic() + left)
    extension.run_exit_cleanups()
    sys.exit(0)


if __name__ == '__main__':
    main()
