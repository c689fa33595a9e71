"""Imported before the first request."""

import _vivarium


def imported():
    _vivarium.main_server().told = 'before'


def handler(req):
    main = _vivarium.main_server()
    req.write(f'{main.told} {main.next.server_hostname}')
    return 0
