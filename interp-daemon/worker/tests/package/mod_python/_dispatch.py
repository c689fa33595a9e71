"""A dispatcher that does as little as possible: `module::function`, errors raised as they are."""

import importlib
import pathlib
import sys

import _vivarium

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'handlers'))


def resolve(name, default):
    module, _, function = name.partition('::')
    return getattr(importlib.import_module(module), function or default)


class Dispatcher:
    def handler(self, req, phase, handlers, debug):
        result = 0
        for handler in handlers:
            req._set_hlist(handler)
            try:
                result = resolve(handler[0], 'handler')(req)
            except _vivarium.SERVER_RETURN as done:
                result = done.args[0]
            if result != 0:
                break
        return result

    def filter(self, filt, handlers, debug):
        resolve(handlers[0][0], 'outputfilter')(filt)
        if not filt.closed:
            filt.flush()

    def connection(self, conn, handlers, debug):
        return resolve(handlers[0][0], 'connectionhandler')(conn)

    def python_import(self, spec, server=None, debug=False):
        try:
            resolve(spec, 'imported')()
            print(f'{spec} by {server.server_hostname}, {_vivarium.main_server() is server}')
        except Exception as error:
            print(f'{spec}: {error}')

    def cleanup(self, req, callable, data):
        callable(data)


def install(interpreter=None):
    made = Dispatcher()
    _vivarium.set_dispatcher(made)
    return made
