"""Attributes, tables, phases and methods of the request."""

REQUEST = {
    'fields': {
        'the_request': 'GET /a?b HTTP/1.1', 'method': 'GET', 'method_number': 0, 'uri': '/a',
        'unparsed_uri': '/a?b', 'args': 'b', 'protocol': 'HTTP/1.1', 'proto_num': 1001,
        'hostname': 'example.com', 'request_time': 1_234_567_890_500_000, 'status': 200,
        'user': 'j\xf6rg', 'filename': '/srv/caf\xc3\xa9', 'path_info': '/p\xe9th', 'mtime': 0,
        'parsed_uri': [None, None, None, None, None, 80, '/a', 'b', None],
        'allowed_methods': [], 'used_path_info': 2, 'bytes_sent': 0, 'handler': 'mod_python',
    },
    'tables': {
        'headers_in': [['Host', 'example.com'], ['X-U', 'caf\xc3\xa9'], ['X-L', 'caf\xe9'],
                       ['Cookie', 'a=1'], ['cookie', 'b=2']],
        'config': [['PythonDebug', '1']],
        'options': [['colour', 'blue'], ['none', '']],
    },
}


def probe(host, source, **more):
    """Runs source in a handler; gives the lines that it printed and the whole report."""
    what = {'fields': dict(REQUEST['fields']), 'tables': dict(REQUEST['tables'])}
    what['fields'].update(more.pop('fields', {}))
    what['tables']['notes'] = [['code', source]]
    what['body'] = more.pop('body', '')
    report = host.run('basic::probe', request=what, flags=more.pop('flags', 1), **more)
    assert report.get('result') == 0, report
    return report['req']['out'].encode('latin-1').decode().split('\n'), report


def test_hello(host):
    report = host.run('basic::hello', request=REQUEST)
    assert report['req']['out'] == 'Hello, world!\n'
    assert report['req']['fields']['content_type'] == 'text/plain'
    assert ['X-Hello', 'there'] in report['req']['tables']['headers_out']
    # One frame of changes, one of body with its flush; and nothing is kept.
    assert report['trace'] == [['changes', 0], ['body', 0, 1, 14]]
    assert (report['result'], report['keep'], report['cleanups']) == (0, False, False)


def test_attributes(host):
    lines, report = probe(host, '''
for name in ('the_request method method_number uri unparsed_uri args protocol proto_num hostname request_time status '
             'user filename path_info mtime parsed_uri allowed_methods used_path_info handler content_type').split():
    p(name, repr(getattr(req, name)))
p(req.interpreter, req.phase, req.extension, req._content_type_set, req._bytes_queued)
p(type(req), type(req.headers_in), type(req.connection), type(req.server), repr(req)[:22])
''')
    assert lines[0] == "the_request 'GET /a?b HTTP/1.1'"
    shown = dict(line.split(' ', 1) for line in lines[:20])
    assert shown['request_time'] == '1234567890.5'
    assert shown['user'] == "'jörg'"
    assert shown['filename'] == "'/srv/café'"
    assert shown['path_info'] == "'/péth'"  # not UTF-8: read as ISO-8859-1
    assert shown['parsed_uri'] == "(None, None, None, None, None, 80, '/a', 'b', None)"
    assert shown['allowed_methods'] == '()'
    assert shown['content_type'] == 'None'
    assert shown['mtime'] == '0.0'
    assert lines[20] == 'main_interpreter PythonHandler  0 0'
    assert lines[21] == ("<class 'mp_request'> <class 'mp_table'> <class 'mp_conn'> <class 'mp_server'> "
                         '<mp_request object at ')
    # Only what no snapshot has was asked for.
    asked = [what for kind, _, *what in report['trace'] if kind == 'call']
    assert asked == [['Field'], ['Field'], ['Connection'], ['Server']]


def test_assignment(host):
    lines, report = probe(host, '''
req.status = 404
req.user = 'J\\xfcrgen'
req.args = None
req.handler = b'other'
req.content_type = 'text/x'
p(req.status, req.user, req.args, req.handler, req.content_type, req._content_type_set)
e(lambda: setattr(req, 'status', 'x'))
e(lambda: setattr(req, 'status', None))
e(lambda: setattr(req, 'uri', None))
e(lambda: setattr(req, 'filename', '\\u20ac'))
e(lambda: setattr(req, 'method', 'PUT'))
e(lambda: setattr(req, 'headers_in', {}))
e(lambda: setattr(req, 'phase', 'x'))
e(lambda: delattr(req, 'status'))
e(lambda: delattr(req, 'method'))
e(lambda: req.nonsense)
e(lambda: type(req)())
req.anything = 1
p(req.anything, req.__dict__)
del req.anything
e(lambda: req.anything)
''')
    assert lines[0] == '404 Jürgen None other text/x 1'
    assert lines[1:12] == [
        "!! TypeError: 'str' object cannot be interpreted as an integer",
        "!! TypeError: 'NoneType' object cannot be interpreted as an integer",
        '!! TypeError: not an ISO-8859-1 string',
        '!! TypeError: not an ISO-8859-1 string',
        "!! AttributeError: attribute 'method' of 'mp_request' objects is not writable",
        "!! AttributeError: attribute 'headers_in' of 'mp_request' objects is not writable",
        "!! AttributeError: attribute 'phase' of 'mp_request' objects is not writable",
        "!! TypeError: can't delete numeric/char attribute",
        "!! AttributeError: attribute 'method' of 'mp_request' objects is not writable",
        "!! AttributeError: 'mp_request' object has no attribute 'nonsense'",
        "!! TypeError: cannot create 'builtins.mp_request' instances",
    ]
    assert lines[12] == "1 {'anything': 1}"
    fields = report['req']['fields']
    assert (fields['status'], fields['user'], fields['args']) == (404, 'J\xfcrgen', None)
    assert (fields['handler'], fields['content_type']) == ('other', 'text/x')


def test_live_tables(host):
    lines, report = probe(host, '''
h = req.headers_in
p(h['host'], h['X-U'], h['x-l'], h['COOKIE'], h.get('cookie'), len(h), h is req.headers_in)
p(req.get_options(), req.get_config())
req.headers_out['A'] = '1'
req.headers_out.add('a', '2')
req.headers_out['B'] = 'caf\\xe9'
del req.headers_out['B']
req.err_headers_out.add('Set-Cookie', b'x\\xff')
req.notes.clear()
req.notes['n'] = 'm'
req.subprocess_env['E'] = 'V'
p(req.headers_out, req.err_headers_out)
''')
    assert lines[0] == "example.com café café ['a=1', 'b=2'] a=1 5 True"
    assert lines[1] == "{'colour': 'blue'} {'PythonDebug': '1'}"
    assert lines[2] == "{'a': '2', 'A': '1'} {'Set-Cookie': 'xÿ'}"
    tables = report['req']['tables']
    assert tables['headers_out'] == [['A', '1'], ['a', '2']]
    assert tables['err_headers_out'] == [['Set-Cookie', 'x\xff']]
    assert tables['notes'] == [['n', 'm']]
    assert tables['subprocess_env'] == [['E', 'V']]
    # Everything was told at once, before the first word of the answer.
    assert report['trace'][0] == ['changes', 0] and report['trace'][1][0] == 'body'


def test_live_after_output(host):
    lines, report = probe(host, '''
p(req.bytes_sent, req.sent_bodyct)
req.headers_out['X'] = '1'
req.write('four')
p(req.bytes_sent, req.sent_bodyct, req.headers_out['X'], req.uri, req._bytes_queued)
p(req.bytes_sent)
''')
    assert lines[0] == 'four0 None'
    assert lines[1] == '4 1 1 /a 4'
    calls = [note[2] for note in report['trace'] if note[0] == 'call']
    # What may have changed was asked once each, what cannot have changed not at all.
    assert calls == ['Field', 'Field', 'Table']


def test_methods(host):
    lines, _ = probe(host, '''
e(lambda: req.construct_url('/x'))
e(lambda: req.auth_name())
e(lambda: req.is_https())
e(lambda: req.get_remote_host())
e(lambda: req.get_remote_host(2, 1))
e(lambda: req.get_basic_auth_pw())
e(lambda: req.user)
e(lambda: req.set_content_length(77))
e(lambda: req.clength)
e(lambda: req.allow_methods(['GET', 'PUT'], 1))
e(lambda: req.allow_methods(5))
e(lambda: req.add_cgi_vars())
e(lambda: req.subprocess_env['gateway'])
e(lambda: req.meets_conditions())
e(lambda: req.update_mtime(5.5))
e(lambda: req.send_http_header())
e(lambda: req.write(5))
e(lambda: req.write(s='x'))
e(lambda: req.log_error(5))
e(lambda: req.log_error(None))
e(lambda: req.register_cleanup(5))
e(lambda: req.internal_redirect(5))
e(lambda: _vivarium.op('mpm_query', 9))
e(lambda: _vivarium.op('server_root'))
e(lambda: _vivarium.op('exists_config_define', 0, b'YES'))
e(lambda: _vivarium.current_request() is req)
''')
    assert lines == [
        "-> '/x'", '-> None', '-> 0', "-> '127.0.0.2'", "-> ('127.0.0.2', 1)", "-> 'päss'",
        "-> 'jörg'", '-> None', '-> 77', '-> None',
        '!! TypeError: First argument must be a sequence', '-> None', "-> 'CGI/1.1'", '-> 0',
        '-> None', '-> None', "!! TypeError: a bytes-like object is required, not 'int'",
        "!! TypeError: mp_request.write() got an unexpected keyword argument 's'",
        '!! TypeError: argument 1 must be str or None, not int', '-> None',
        '!! ValueError: first argument must be a callable object',
        '!! TypeError: argument 1 must be str, not int', '-> 9', "-> '/etc/apache2'", '-> 1',
        '-> True',
    ]


def test_connection_and_server(host):
    lines, _ = probe(host, '''
c, s = req.connection, req.server
p(c.client_addr, c.client_ip, c.local_addr, c.id, c.keepalives, c.notes, c is req.connection)
p(s.server_hostname, s.server_admin, s.names, s.timeout, s.port, s.get_options(), s is req.server)
p(s.next.server_hostname, s.next.next, s.next.is_virtual, c.base_server.server_hostname)
s.mine = 3
p(req.server.mine)
e(lambda: setattr(c, 'mine', 1))
e(lambda: setattr(c, 'id', 1))
e(lambda: setattr(s, 'port', 1))
c.keepalive = 1
p(c.keepalive)
e(lambda: s.register_cleanup(req, 5))
e(lambda: s.register_cleanup(5, 5))
e(lambda: c.hlist)
p(_vivarium.main_server().server_hostname)
''')
    assert lines[0] == "('127.0.0.2', 4711) 127.0.0.2 ('127.0.0.1', 80) 99 3 {'n': '1'} True"
    assert lines[1] == "host0 you@example.com ('a.example',) 60.0 0 {'colour': 'green'} True"
    assert lines[2] == 'host1 None 1 host0'
    assert lines[3] == '3'
    assert lines[4].startswith('!! AttributeError')
    assert lines[5].startswith('!! AttributeError')
    assert lines[6] == "!! AttributeError: attribute 'port' of 'mp_server' objects is not writable"
    assert lines[7] == '1'
    assert lines[8:11] == ['!! ValueError: second argument must be a callable object',
                           '!! ValueError: first argument must be a request object',
                           '!! AttributeError: hlist: no connection handler is running']
    assert lines[11] == 'host0'


def test_phases_share_the_request(host):
    first = host.run('basic::keep', tree=20, phase='Access', flags=8, request=REQUEST)
    assert (first['result'], first['keep']) == (0, True)
    second = host.run('basic::again', tree=20, phase='Content', flags=0, pinned=True)
    assert second['req']['out'] == "True ['left by', 'PythonAccessHandler'] PythonHandler 200"
    assert second['keep'] is True
    over = host.run([], tree=20, phase='Forget', pinned=True)
    assert (over['result'], over['keep'], over['trace']) == (0, False, [])


def test_cleanups(host):
    first = host.run('basic::register', tree=21, request=REQUEST)
    assert (first['keep'], first['cleanups']) == (True, True)
    over = host.run('basic::logs', tree=21, phase='Cleanup', pinned=True)
    assert [line[2] for line in over['logs']] == ['two /a 200', 'one /a 200', 'the log handler ran']
    assert [line[1] for line in over['logs']] == [6, 6, 3]
    # Log calls only: attributes are what they were.
    assert {call[2] for call in over['trace']} == {'Log'}
    assert over['keep'] is False


def test_added_handlers(host):
    report = host.run('basic::adds_handlers', tree=22, request=REQUEST)
    assert report['req']['out'].split('\n') == [
        'IndexError: Invalid phase: PythonFoo',
        'IndexError: Invalid phase: PythonCleanupHandler',
        'TypeError: argument 2 must be str, not int',
        "{'handler':'basic::adds_handlers','directory':'/srv/','is_location':False,'silent':0}",
        'basic::second /some/where/ 0',
        'None',
    ]
    assert report['keep'] is True
    assert ['call', 0, 'AddedHandler'] in report['trace']
    log = host.run([], tree=22, phase='Log', flags=1, pinned=True)
    assert log['logs'] == [['Request', 3, 'the log handler ran']]


def test_extension_and_results(host):
    lines, _ = probe(host, 'p(req.extension)', extension='.py')
    assert lines == ['.py']
    for code in (0, -1, -2, 404, 503):
        report = host.run('basic::code', request={'fields': {'args': str(code)}})
        assert report['result'] == code


def test_printing(host):
    report = host.run('basic::prints', request=REQUEST)
    assert [line[2] for line in report['logs']] == [
        'one line', 'two halves', 'to stderr', 'and an unfinished one']
    assert {(line[0], line[1]) for line in report['logs']} == {('Request', 3)}


def test_finfo_of_the_request(host):
    """Whole seconds in Python, microseconds on the way there and back."""
    known = [0x644, 1, 2, 3, 4, 5, 6, 7_500_000, 8_250_000, 9_999_999, '/f', None, 1, 0x8170]
    lines, report = probe(host, '''
i = req.finfo
p(type(i), i.size, i.fname, i.name, i.filetype, hex(i.protection), i.atime, i.mtime, i.ctime)
for value in (5, None, (1, 2)):
    try:
        req.finfo = value
    except TypeError as error:
        p('TypeError')
req.finfo = i
p(req.finfo.size, req.finfo.mtime)
''', fields={'finfo': known})
    assert lines[:2] == ["<class 'mp_finfo'> 6 /f None 1 0x644 7 8 9", 'TypeError']
    assert lines[2:5] == ['TypeError', 'TypeError', '6 8']
    assert report['req']['fields']['finfo'] == known


def test_finfo(host):
    lines, _ = probe(host, '''
f = _vivarium.stat('/etc/passwd', 0x7fffff)
p(type(f), f.fname, f.filetype, hex(f.protection), f[10] == f.fname, f[12], f[6] == f.size)
p(_vivarium.stat('/no/such', 1))
e(lambda: f[13])
e(lambda: setattr(f, 'size', 1))
g = _vivarium.finfo((0x644, 1, 2, 3, 4, 5, 6, 7, 8, 9, '/f', None, 2))
p(g.protection, g.size, g.fname, g.filetype, list(g))
''')
    assert lines[0] == "<class 'mp_finfo'> /etc/passwd 1 0x644 True 1 True"
    assert lines[1].startswith("{'fname': None, 'filetype': 0, 'valid': None")
    assert lines[2] == '!! IndexError: tuple index out of range'
    assert lines[3].startswith('!! TypeError')
    assert lines[4] == ("1604 6 /f 2 [1604, 1, 2, 3, 4, 5, 6, 7, 8, 9, '/f', None, 2]")
