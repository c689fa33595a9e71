"""Errors of handlers, threads of handlers, and what httpd may say wrong."""

from conftest import until


def test_exception(host):
    report = host.run('basic::boom', tree=80)
    assert report['result'] == 500
    assert report['logs'][0][2] == 'PythonHandler: Traceback (most recent call last):'
    assert report['logs'][-1][2] == 'PythonHandler: ZeroDivisionError: by a handler'


def test_panic(host):
    """A panic of the extension in the middle of a handler costs the request, not the thread."""
    for _ in range(4):
        report = host.run('basic::panics', tree=81)
        assert report['result'] == 500
    assert host.run('basic::quiet', tree=82)['result'] == 0


def test_missing_handler(host):
    report = host.run('nowhere::nothing', tree=83)
    assert report['result'] == 500
    assert 'ModuleNotFoundError' in report['logs'][-1][2]


def test_other_threads(host):
    report = host.run('basic::from_thread', tree=84)
    assert report['req']['out'] == 'from a thread\nfrom the handler\n'
    report = host.run('basic::races', tree=85)
    assert report['req']['out'] == 'True'


def test_after_the_request(host):
    assert host.run('basic::late_write', tree=86, request={
        'fields': {'method': 'PUT'}, 'tables': {'headers_in': [['Host', 'h']]}})['result'] == 0
    report = host.run('basic::late_result', tree=87)
    assert report['req']['out'].split('\n') == [
        'RuntimeError: the request is over',
        "'PUT'",
        "'h'",
        'RuntimeError: the request is over',
        'RuntimeError: the request is over',
    ]


def test_garbage(own):
    """An Enter that cannot be decoded ends its conversation, with an answer, and nothing else."""
    made = own()
    report = made.join(made.enter([], garbage='this is no Enter'))
    assert report['result'] == 500
    assert made.run('basic::hello', tree=2)['req']['out'] == 'Hello, world!\n'
    assert 'cannot be understood' in made.close()


def test_region_gone_in_a_call(own):
    """httpd dies while a handler waits for it: the call fails, the mapping and the descriptors go."""
    made = own(threads=2)

    def regions():
        with open(f'/proc/{made.pid}/maps') as maps:
            return sum('vivarium-region' in line for line in maps)

    def descriptors():
        import os
        return len(os.listdir(f'/proc/{made.pid}/fd'))

    until(lambda: regions() == 1)
    made.run('basic::quiet', request={})
    before = descriptors()
    for round in range(3):
        number = made.do('region')['region']
        made.enter('basic::waits', tree=10 + round, region=number, fail={'Read': 'stall'},
                   request={'body': 'x'})
        made.do('request', stalled=round + 1)
        assert regions() == 2
        made.do('region_gone', region=number)
        until(lambda: regions() == 1)
        until(lambda: descriptors() == before)
    report = made.run('basic::last_error', tree=90, region=1)
    assert report['req']['out'].startswith('ConnectionResetError 104: httpd has ended the connection')


def test_region_gone_with_cleanups(own):
    """What a request has registered is run when its httpd dies."""
    made = own()
    made.run('basic::register', tree=1, request={'fields': {'uri': '/u', 'status': 200}})
    made.do('region_gone', region=1)
    made.do('region')
    assert made.run('basic::quiet', tree=5)['result'] == 0
    made.do('stop', grace_ms=60_000)
    assert made.do('wait') == {'status': 0, 'signal': None}
    # httpd is gone: the log call fails, which the worker's own log shows.
    assert 'the request is over' in made.close()


def test_fork(own):
    made = own()
    report = made.run('basic::forks', request={'fields': {'method': 'GET'}})
    forked = 'RuntimeError: a forked process cannot use the request of its parent'
    assert report['req']['out'].split('\n') == [forked, forked, "'GET'"]
    report = made.run('basic::fork_falls_out', tree=2, request={})
    assert report['req']['out'] == 'child: 1'
    assert made.run('basic::hello', tree=3, request={})['result'] == 0
    said = made.close()
    assert 'printed by a child' in said and "returned from its parent's handler" in said


def test_cycles_are_collected(host):
    for tree in range(5):
        assert host.run('basic::cycle', tree=90 + tree, request={})['result'] == 0
        host.run('basic::cycle_filter', tree=90 + tree, phase='OutputFilter', request={}, pinned=True)
        assert host.run([], tree=90 + tree, phase='Forget', pinned=True)['result'] == 0
    assert host.run('basic::cycles_left', tree=99, request={})['req']['out'] == '[]'


def test_memory_stays(own):
    """Many requests with everything that a request can hold: the worker does not grow."""
    made = own(threads=1)

    def grown():
        with open(f'/proc/{made.pid}/statm') as statm:
            return int(statm.read().split()[1]) * 4096

    request = {'tables': {'headers_in': [[f'X-{n}', 'v' * 50] for n in range(20)]}, 'body': 'b' * 5000}
    for handler in ('basic::cycle', 'basic::echo', 'basic::boom'):
        made.do('bench', count=2000, handlers=[handler], trace=False, request=request)
    made.run('basic::cycles_left', request={})
    before = grown()
    for handler in ('basic::cycle', 'basic::echo', 'basic::boom'):
        made.do('bench', count=10_000, handlers=[handler], trace=False, request=request)
    made.run('basic::cycles_left', request={})
    assert grown() - before < 4 << 20
