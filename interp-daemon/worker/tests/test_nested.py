"""Python inside Python: redirects and filters on one lane, and connection handlers."""


def test_redirect(host):
    report = host.run('nested::redirects', tree=60, request={'fields': {'uri': '/start'}},
                      redirects={'/target': {'handlers': ['nested::target'],
                                             'request': {'fields': {'uri': '/target'}}}})
    assert report['result'] == 0
    target = host.do('request', tree=60, rid=1)
    assert target['out'] == "True ['mine', 'theirs'] /start True "
    first = report['req']['out']
    assert first == "through prev back: ('/target', True, True), 1"
    # A write to a request that is not the one entered has to be synchronous.
    assert ['body', 0, 3, 13] in report['trace']
    assert ['left', 2, 0] in report['trace']


def test_redirect_to_failure(host):
    report = host.run('nested::redirects', tree=61, request={'fields': {'uri': '/start'}},
                      redirects={'/target': {'handlers': ['basic::boom'],
                                             'request': {'fields': {'uri': '/target'}}}})
    assert ['left', 2, 500] in report['trace']
    # The handler goes on: a redirect that fails does not raise, as in mod_python.
    assert report['result'] == 0 and report['req']['out'].startswith("back: ('/target', ")
    assert any('ZeroDivisionError: by a handler' in line[2] for line in report['logs'])


def test_unknown_prev_is_fetched(host):
    host.run('basic::quiet', tree=62, request={'fields': {'uri': '/zero'}})
    report = host.run('nested::redirects', tree=63, request={'fields': {'uri': '/start'}},
                      redirects={'/target': {'handlers': ['nested::prev_unknown'],
                                             'request': {'fields': {'uri': '/target'}}}})
    assert host.do('request', tree=63, rid=1)['out'] == '/start True None None'
    del report


def test_filter_in_write(host):
    filters = [{'id': 7, 'name': 'UPPER', 'handler': 'nested::upper'}]
    report = host.run('nested::writes', tree=64, flags=2, request={'filters': filters})
    assert report['req']['out'] == 'SOME TEXT AND MORE'
    assert [t for t in report['trace'] if t[0] == 'left'] == [['left', 2, 0]] * 2
    # The end of the stream: a conversation of its own, on the same request.
    end = host.run('nested::upper', tree=64, phase='OutputFilter', filter=7, brigade='!end', eos=True,
                   pinned=True, flags=1)
    assert end['req']['out'] == 'SOME TEXT AND MORE!END'
    # Nobody is after it: the close needs no answer. 4 is *filter*, 8 *close*.
    assert ['body', 0, 12, 0] in end['trace']


def test_filter_registered_by_handler(host):
    report = host.run('nested::registers', tree=65, request={})
    assert report['req']['out'] == 'QUIET NO SUCH FILTER'
    assert report['keep'] is True


def test_filter_sees_and_changes_the_request(host):
    filters = [{'id': 7, 'name': 'ASKS', 'handler': 'nested::asks'}]
    report = host.run('nested::seen', tree=66, flags=2, request={'filters': filters})
    assert report['req']['out'] == 'body /here by the filter kept/here'


def test_filter_by_line(host):
    report = host.run('nested::by_line', tree=67, phase='OutputFilter', brigade='a\nbb\nccc', eos=True,
                      request={})
    assert report['req']['out'] == '> a\n> bb\n> ccc'


def test_filter_end(host):
    """None once at the end of the stream, then nothing, as in mod_python."""
    for eos, end in ((True, None), (False, b'')):
        report = host.run('nested::ends', tree=70, phase='OutputFilter', brigade='line\ntwo', eos=eos,
                          request={})
        assert report['req']['out'] == repr([b'', b'li', b'ne\n', b'two', end, b'', b'', b''])


def test_filter_attributes(host):
    report = host.run('nested::describes', tree=68, phase='OutputFilter', filter=3, flags=0,
                      brigade='0123abcdef\nrest', eos=True, request={'fields': {'uri': '/f'}})
    first = repr(('upper', 0, 'nested::describes', '/srv/', 0, 0, '/f'))
    assert report['req']['out'].startswith(first + repr((b'0123', b'abc', 1, '<mp_filter')))
    late = host.run('nested::late_filter', tree=68, pinned=True)
    assert late['req']['out'].endswith(
        "RuntimeError: the filter is not running ['I/O operation on closed filter', "
        "'I/O operation on closed filter', 'I/O operation on closed filter']")


def test_connection(host):
    report = host.run('nested::connectionhandler', tree=69, phase='Connection',
                      input='a line\nxyzrest of it')
    assert report['result'] == 0
    assert report['req']['out'] == "hello a line\nxyzREST OF IT('nested::connectionhandler', '127.0.0.2', '1')"
    assert ['Connection', 3, 'from the connection'] in report['logs']


def test_thread_in_a_redirect(host):
    report = host.run('nested::redirects', tree=71, request={'fields': {'uri': '/start'}},
                      redirects={'/target': {'handlers': ['nested::target_with_thread'],
                                             'request': {'fields': {'uri': '/target'}}}})
    assert host.do('request', tree=71, rid=1)['out'] == 'inner from a thread '
    assert report['req']['out'].startswith('outer from a thread ')


def test_redirect_on_a_thread(host):
    report = host.run('nested::redirect_in_thread', tree=72, request={'fields': {'uri': '/start'}},
                      redirects={'/target': {'handlers': ['basic::hello'],
                                             'request': {'fields': {'uri': '/target'}}}})
    assert report['result'] == 0
    assert report['req']['out'] == '.' * 100
    assert host.do('request', tree=72, rid=1)['out'] == 'Hello, world!\n'


def test_deep_nesting(host):
    steps = {f'/{n}': {'handlers': ['nested::fibre'], 'request': {'fields': {'uri': f'/{n}'}}}
             for n in range(1, 21)}
    report = host.run('nested::fibre', tree=73, request={'fields': {'uri': '/0'}}, redirects=steps)
    assert report['result'] == 0
    assert [host.do('request', tree=73, rid=n)['out'] for n in range(21)] == [f'/{n}' for n in range(21)]
    assert max(note[1] for note in report['trace'] if note[0] == 'left') == 21
