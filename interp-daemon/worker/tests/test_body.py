"""Bodies, both ways."""

import itertools

MIB = 1 << 20


def data(size):
    """Bytes whose place shows."""
    block = bytes(itertools.islice(itertools.cycle(range(251)), 65_521))
    return (block * (size // len(block) + 1))[:size].decode('latin-1')


def test_one_mib_both_ways(host):
    body = data(MIB + 17)
    report = host.run('basic::echo', tree=40, request={'body': body})
    assert report['req']['out'] == body
    # One question for all of it; the answer in chunks, the last one with the flush.
    assert [t for t in report['trace'] if t[0] == 'call'] == [['call', 0, 'Read']]
    bodies = [t[2:] for t in report['trace'] if t[0] == 'body']
    assert bodies == [[0, 65536]] * 16 + [[1, 17]]


def test_one_mib_synchronously(host):
    body = data(MIB)
    report = host.run('basic::echo', tree=41, flags=1 | 2, request={'body': body})
    assert report['req']['out'] == body
    assert {t[2] for t in report['trace'] if t[0] == 'body'} == {2, 3}


def test_small_rings(own):
    small = own(ring=4096)
    body = data(300_000)
    report = small.run('basic::echo', request={'body': body})
    assert report['req']['out'] == body
    report = small.run('basic::chunks', tree=2, request={'body': body})
    assert report['req']['out'] == body


def test_reading_in_parts(host):
    body = data(350_000)
    report = host.run('basic::chunks', tree=42, request={'body': body})
    assert report['req']['out'] == body
    assert len([t for t in report['trace'] if t[0] == 'call']) == 5
    assert {t[2] for t in report['trace'] if t[0] == 'body'} == {0}


def test_unknown_length(host):
    """A chunked body: nothing says how long it is."""
    body = data(200_000)
    what = {'body': body, 'fields': {'read_chunked': 1, 'remaining': 0}}
    report = host.run('basic::echo', tree=43, request=what)
    assert report['req']['out'] == body
    report = host.run('basic::chunks', tree=43, request=what)
    assert report['req']['out'] == body


def test_more_than_announced(host):
    """An input filter of httpd may make the body longer, or shorter."""
    body = data(100_000)
    for announced in (10, 150_000):
        what = {'body': body, 'fields': {'remaining': announced}}
        report = host.run('basic::echo', tree=44, request=what)
        assert report['req']['out'] == body
        report = host.run('basic::chunks', tree=44, request=what)
        assert report['req']['out'] == body


def test_lines(host):
    for some in (1, 7, 4096):
        report = host.run('basic::lines', tree=45, some=some,
                          request={'body': 'first\nsecond\nthird\nfour\nno end'})
        assert report['req']['out'] == repr(
            [b'first\n', b'sec', b'ond\n', [b'third\n', b'four\n', b'no end'], b''])


def test_readlines_hint(host):
    # The hint is also the limit of every line but the first, as in mod_python.
    for hint, expected in ((-1, [b'aaaa\n', b'bbbb\n', b'cc']), (3, [b'aaaa\n']),
                           (7, [b'aaaa\n', b'bbbb\n']), (100, [b'aaaa\n', b'bbbb\n', b'cc'])):
        report = host.run('basic::hints', tree=46,
                          request={'body': 'aaaa\nbbbb\ncc', 'fields': {'args': str(hint)}})
        assert report['req']['out'] == repr(expected), hint


def test_read_errors(host):
    for kind, expected in (('Io', 'OSError: Client read error (Timeout?)'),
                           ('Permission', 'PermissionError: Client read error (Timeout?)')):
        report = host.run('basic::reads', tree=47, request={'body': 'x' * 20},
                          fail={'Read': [kind, 'Client read error (Timeout?)']})
        assert report['req']['out'] == expected
    report = host.run('basic::reads', tree=47, request={'body': 'x' * 20},
                      fail={'Read': ['ServerReturn', '411 chunked']})
    assert report['result'] == 411
    report = host.run('basic::reads', tree=47, request={'body': 'x' * 20},
                      fail={'Read': ['State', 'not in this phase']})
    assert report['result'] == 500
    assert any('RuntimeError: not in this phase' in line[2] for line in report['logs'])


def test_many_small_writes(host):
    report = host.run('basic::small', tree=48, trace=False, request={'fields': {'args': '20000'}})
    assert report['req']['out'] == ''.join(f'{n}\n' for n in range(20_000))


def test_unflushed(host):
    report = host.run('basic::big', tree=49, request={'fields': {'args': '200000'}})
    assert report['req']['out'] == 'x' * 200_000
    assert {t[2] for t in report['trace']} == {0}


def test_sendfile(host, tmp_path):
    file = tmp_path / 'file'
    file.write_bytes(bytes(range(256)) * 100)
    whole = file.read_bytes().decode('latin-1')
    for offset, length, expected in ((0, -1, whole), (100, -1, whole[100:]), (10, 5, whole[10:15])):
        report = host.run('basic::sends', tree=50,
                          request={'fields': {'args': f'{file},{offset},{length}'}})
        assert report['req']['out'] == f'{expected}[{len(expected)}]'
    for name, error in (('/no/such', 'FileNotFoundError: [Errno 2] Could not stat file for reading'),
                        ('/etc', 'OSError: Not a regular file')):
        report = host.run('basic::sends', tree=50, request={'fields': {'args': f'{name},0,-1'}})
        assert report['result'] == 500
        assert any(error in line[2] for line in report['logs']), report


def test_client_gone(host):
    """httpd's flag makes the next write fail, flushed or not, and the request over again is unharmed."""
    for call in ('req.write("x")', 'req.write(b"x", 0)'):
        report = host.run('basic::probe', tree=51, aborted=True, request={
            'tables': {'notes': [['code', call]]}})
        assert report['result'] == 500
        assert any('OSError: Write failed, client closed connection.' in line[2]
                   for line in report['logs'])
    report = host.run('basic::probe', tree=51, aborted=True, request={
        'tables': {'notes': [['code', 'req.log_error(str(req.connection.aborted))']]}})
    assert report['logs'][0][2] == '1'
    assert host.run('basic::hello', tree=52, request={})['result'] == 0
