"""Phases that are not the content, and what a tree is kept for; with the real package `mod_python`."""

import ast
import itertools
import os
import pathlib

import pytest
from conftest import HERE, ROOT, Host, until

PATH = (HERE / 'handlers', ROOT / 'interp-daemon' / 'python')
# ENTER_LAST: httpd needs Python no more for this tree, as far as it knows.
LAST = 1
# ENTER_MORE: only for the request that it names.
MORE = 16


@pytest.fixture(scope='module')
def real():
    """A worker with the real package."""
    made = Host(path=PATH)
    assert made.started.get('ready'), made.started
    yield made
    made.close()


def request(**fields):
    return {'fields': {'uri': '/here', **fields}}


def texts(report):
    return [line[2] for line in report['logs']]


@pytest.mark.parametrize('handler, args, keep', [
    ('phases', None, False), ('phases', '-2', False), ('phases', '302', False), ('phases', '400', True),
    ('phases', '500', True), ('phases::marks', None, True), ('phases::marks', '404', True), ('no_such', None, True)])
def test_what_is_kept_for_an_error_document(real, handler, args, keep):
    """An ErrorDocument's handler sees `req.prev`, the same object."""
    report = real.run(handler, tree=100, flags=LAST, request=request(args=args))
    assert report['keep'] is keep
    if not keep:
        assert report['cleanups'] is False
    real.run([], tree=100, phase='Forget', pinned=True, rid=0)


def test_error_document(real):
    report = real.run('phases::marks', tree=101, flags=LAST, request=request(args='404'))
    assert (report['result'], report['keep']) == (404, True)
    report = real.run('phases::sees', tree=101, rid=1, flags=LAST, pinned=True,
                      request={**request(uri='/error'), 'prev': 0})
    assert report['req']['out'] == '/here made'
    # The attributes are those of a request that is still there: kept until httpd says so.
    assert report['keep'] is True
    assert real.run([], tree=101, phase='Forget', pinned=True)['keep'] is False


@pytest.mark.parametrize('rid', [0, 1])
def test_cleanup_handlers_run_for_the_request_that_is_named(real, rid):
    for number in (0, 1):
        real.run('phases::marks', tree=102 + rid, rid=number, flags=0, pinned=number == 1,
                 request=request(uri=f'/{number}'))
    report = real.run(['phases'], tree=102 + rid, rid=rid, phase='Cleanup', pinned=True, flags=0)
    assert texts(report) == [f'PythonCleanupHandler /{rid} made RuntimeError']
    assert (report['result'], report['keep'], report['cleanups']) == (0, False, False)


def test_cleanup_handlers_of_a_request_that_python_has_not_met(real):
    real.run('phases::marks', tree=104, rid=1, flags=0, request=request(uri='/1'))
    report = real.run(['phases'], tree=104, rid=0, phase='Cleanup', pinned=True, flags=0)
    assert texts(report) == ['PythonCleanupHandler None None RuntimeError']


def test_cleanups_of_one_request_and_then_of_the_rest(real):
    for number in (0, 1):
        real.run('phases::cleans', tree=140, rid=number, flags=0, pinned=number == 1,
                 request=request(uri=f'/{number}'))
    report = real.run(['phases'], tree=140, rid=1, phase='Cleanup', pinned=True, flags=MORE)
    assert texts(report) == ['cleaned /1', 'PythonCleanupHandler /1 None RuntimeError']
    # The tree is not forgotten: its other clean-ups are still to come.
    assert (report['keep'], report['cleanups']) == (True, True)
    report = real.run(['phases'], tree=140, rid=0, phase='Cleanup', pinned=True, flags=0)
    assert texts(report) == ['cleaned /0', 'PythonCleanupHandler /0 None RuntimeError']
    assert (report['keep'], report['cleanups']) == (False, False)


def test_added_handlers(real):
    report = real.run('phases::adds', tree=105, request=request())
    assert report['req']['out'] == ("/rel/x/ /abs/ /b/c/ / / None "
                                    "{'handler':'phases::shows','is_location':False,'silent':0}")
    # Only the other phase has to be known to httpd; its handler is kept until then.
    assert [note for note in report['trace'] if note[0] == 'call'] == [['call', 0, 'AddedHandler']]
    assert report['keep'] is True
    report = real.run([], tree=105, phase='Access', pinned=True)
    assert report['req']['out'].endswith('/rel/ ')


def test_questions_about_the_configuration(real):
    report = real.run('phases::asks', tree=106, request=request())
    requires, extensions, tree = ast.literal_eval(report['req']['out'])
    assert requires == ('valid-user', 'group a b')
    assert extensions == 'py psp '
    assert tree == [('Listen', '80'), ('<Directory', '/srv>'), [('Require', 'all granted')], ('<Location', '/empty>')]


def test_connection_input(real):
    report = real.run('phases', tree=107, phase='Connection', input='abcdef\nghijk\nlast line')
    ended = 'Connection read error'
    assert ast.literal_eval(report['req']['out']) == [
        b'abc', b'def\n', b'ghijk\n', b'la', b'st line', ended, ended, ended, ended, ended, ended]


def test_last_line_of_a_connection(real):
    report = real.run('phases::echo', tree=109, phase='Connection', input='one\r\ntwo\nthree')
    assert report['req']['out'] == '<one\r\n><two\n><three>Connection read error'


def test_failure_while_a_connection_is_read(real):
    report = real.run('phases::echo', tree=130, phase='Connection', input='', fail={
        'ConnectionReadLine': ['Io', 'it broke']})
    assert report['req']['out'] == 'it broke'


def test_long_line_of_a_connection(real):
    report = real.run('phases', tree=108, phase='Connection', input='x' * 200_000 + '\nabc')
    said = ast.literal_eval(report['req']['out'])
    assert (len(said[0]), len(said[1]), said[2]) == (3, 199_998, b'abc')


elements = itertools.count(1)


def element(real, tree, what, code, debug=False):
    report = real.run([], tree=tree, phase='Ssi', arguments=[what, code], flags=4 if debug else 0,
                      filter=next(elements), request=request(filename='/srv/page.shtml'))
    return report['result'], report['req']['out'], texts(report)


def test_ssi(real):
    assert element(real, 110, 'exec', 'x = 5') == (0, '', [])
    assert element(real, 110, 'eval', 'x + 1') == (0, '6', [])
    assert element(real, 110, 'exec', 'filter.write(f"{filter.name} {__file__}")') == (0, 'includes /srv/page.shtml', [])
    # Another request has names of its own.
    result, out, logs = element(real, 111, 'eval', 'x + 1')
    assert (result, out) == (500, '')
    assert logs[-1] == "includes /srv/page.shtml: NameError: name 'x' is not defined"
    result, out, _ = element(real, 111, 'exec', 'filter.write("before"); 1/0', debug=True)
    assert result == 0 and out.startswith('before\n<pre>\nMod_python error: "includes /srv/page.shtml"')


def test_filter_of_an_element_that_is_over(real):
    assert element(real, 112, 'exec', 'old = filter')[0] == 0
    result, out, logs = element(real, 112, 'exec', 'old.write("x")')
    assert (result, out) == (500, '')
    assert logs[-1].endswith('RuntimeError: the filter is not running')


@pytest.mark.parametrize('password, result', [('yes', 1), ('no', 0), ('none', 2), ('odd', 3)])
def test_password(real, password, result):
    report = real.run('phases', tree=113, phase='CheckPassword', arguments=['j\xf6rg', password], request=request())
    assert report['result'] == result
    assert texts(report)[0] == f'PythonAuthnProvider phases j\xc3\xb6rg {password}'
    assert (len(texts(report)) > 1) is (password == 'odd')
    assert report['answer'] is None


def test_realm_hash(real):
    report = real.run('phases', tree=114, phase='RealmHash', arguments=['ann', 'realm x'], request=request())
    assert (report['result'], report['answer']) == (1, b'ann:realm x'.hex())
    report = real.run('phases', tree=114, phase='RealmHash', arguments=['nobody', 'realm x'], request=request())
    assert (report['result'], report['answer']) == (2, None)


@pytest.mark.parametrize('handler, wanted, result', [
    ('phases', 'other staff', 1), ('phases', 'other', 0), ('phases', '"two words"', 1), ('phases', 'two words', 0),
    ('phases::groups', 'staff', 1), ('phases::Backend', 'ann', 1), ('phases::Backend', 'bob', 0),
    ('phases::nothing', 'staff', 3), ('no_such', 'staff', 3)])
def test_groups(real, handler, wanted, result):
    report = real.run(handler, tree=115, phase='Groups', arguments=[wanted], request=request(user='ann'))
    assert report['result'] == result
    assert bool(texts(report)) is (result == 3)


def test_provider_class(real):
    for user, password, result in (('a', 'a', 1), ('a', 'b', 0)):
        report = real.run('phases::Backend', tree=116, phase='CheckPassword', arguments=[user, password],
                          request=request())
        assert report['result'] == result


def test_provider_without_arguments_is_an_error(real):
    report = real.run('phases', tree=117, phase='CheckPassword', request=request())
    assert report.get('result', 500) == 500


def alive(pid):
    """Whether a process runs: a dead one may wait for its parent to look."""
    try:
        return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    except FileNotFoundError:
        return False


def test_orphan_ends_what_its_handlers_left(own):
    made = own(path=PATH, leader=True)
    report = made.run('phases::child', tree=118, request=request())
    pid, leads = report['req']['out'].split()
    assert leads == 'True' and alive(pid)
    made.do('hang_up')
    assert made.do('wait')['signal'] == 9
    until(lambda: not alive(pid))


def test_only_the_leader_of_a_group_ends_it(own):
    made = own(path=PATH)
    made.run('phases', tree=119, request=request())
    made.do('hang_up')
    # This test's own processes are in the worker's group.
    assert made.do('wait') == {'status': 0, 'signal': None}
    assert os.getpgid(0)


def test_nobody_reads_what_the_worker_writes(own):
    made = own(path=PATH, deaf=True)
    report = made.run('phases::talks', tree=120, request=request())
    assert (report['result'], texts(report)) == (0, ['in a request'])
    assert made.run('phases', tree=121, request=request())['req']['out'] == 'plain'
    made.do('hang_up')
    assert made.do('wait') == {'status': 0, 'signal': None}
