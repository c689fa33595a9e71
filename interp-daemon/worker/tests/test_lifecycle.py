"""A worker's start and end."""

import os
import pathlib
import signal

from conftest import HERE, ROOT, TARGET, until


def test_start(own):
    made = own(threads=3)
    assert made.started['ready'] == 3
    assert made.started['python'].startswith('3.')

    def names():
        tasks = pathlib.Path(f'/proc/{made.pid}/task')
        return [(task / 'comm').read_text().strip() for task in tasks.iterdir()]

    until(lambda: 'vivarium-contro' in names())
    environment = made.run('basic::probe', request={'tables': {'notes': [['code', '''
import os, sys, threading
p(sorted(name for name in os.environ if name.startswith(('VIVARIUM', 'PYTHON'))))
p(sys.argv, sys.modules['__main__'].__name__, [f.name for f in threading.enumerate()][1:])
p(type(sys.stdout).__name__, sys.stderr.isatty(), sys.stdout.encoding, sys.stdout.fileno())
sys.stdout.buffer.write(b'raw \\xff line\\n')
p(os.get_inheritable(3), os.get_inheritable(4) if os.path.exists('/proc/self/fd/4') else 'closed')
''']]}})
    lines = environment['req']['out'].split('\n')
    assert lines[0] == '[]'
    assert lines[1] == "['mod_python'] __main__ ['vivarium-0', 'vivarium-1', 'vivarium-2']"
    assert lines[2] == 'LogStream False utf-8 1'
    assert lines[3] == 'False closed'
    assert environment['logs'] == [['Request', 3, 'raw \xff line']]


def test_imports_at_the_start(own):
    """PythonImport: done before the worker is ready; a failure does not keep it from serving."""
    made = own(imports=['started::imported', 'no_such_module'])
    assert made.started['ready'] == 3
    assert made.run('started', request={})['req']['out'] == 'before host1'
    assert made.close().splitlines() == [
        'started::imported by host0, True', "no_such_module: No module named 'no_such_module'"]


def test_cannot_start(own, tmp_path):
    def reason(**start):
        made = own(**start)
        assert made.do('wait')['status'] == 1
        said = made.close()
        return made.started.get('failed', ''), said

    (tmp_path / 'vivarium').symlink_to(ROOT / 'interp-daemon' / 'python' / 'vivarium')
    text, said = reason(path=[tmp_path])
    assert 'mod_python' in text and text.count('\n') == 0
    assert text in said
    (tmp_path / 'mod_python').mkdir()
    (tmp_path / 'mod_python' / '__init__.py').touch()
    (tmp_path / 'mod_python' / '_dispatch.py').write_text('this is no Python')
    text, _ = reason(path=[tmp_path])
    assert 'SyntaxError' in text and text.count('\n') == 0
    text, said = reason(threads=0)
    assert 'VIVARIUM_THREADS is 0' in said
    _, said = reason(env={'VIVARIUM_EXTENSION': '/no/such/file.so'})
    assert '/no/such/file.so' in said


def test_started_by_hand():
    import subprocess
    env = {'PYTHONPATH': f'{HERE / "package"}:{ROOT / "interp-daemon" / "python"}',
           'VIVARIUM_EXTENSION': str(TARGET / 'lib_vivarium.so'), 'VIVARIUM_SLOT': '0',
           'VIVARIUM_EPOCH': '0'}
    done = subprocess.run(['/usr/bin/python3', '-m', 'vivarium.worker'], env=env, close_fds=True,
                          capture_output=True, text=True)
    assert done.returncode == 1
    assert 'started by vivariumd, not by hand' in done.stderr


def test_stop(own):
    made = own()
    assert made.run('basic::at_exit', request={})['result'] == 0
    made.do('stop', grace_ms=60_000)
    assert made.do('wait') == {'status': 0, 'signal': None}
    assert made.close().splitlines() == ['clean-up of the server', 'clean-up of the process']


def test_stop_finishes_what_runs(own):
    made = own(threads=1)
    running = made.enter('basic::waits', fail={'Read': 'stall'}, request={'body': 'x'})
    made.do('request', stalled=1)
    made.do('stop', grace_ms=60_000)
    # The handler goes on until its httpd is gone; then the worker ends by itself.
    made.do('region_gone', region=1)
    assert made.do('wait')['status'] == 0
    del running


def test_stop_has_a_deadline(own):
    made = own(threads=1)
    made.enter('basic::hangs', request={}, mark='Flush')
    made.do('request', stalled=1)
    made.do('stop', grace_ms=200)
    assert made.do('wait')['status'] == 1
    assert 'did not finish its requests in time' in made.close()


def test_supervisor_gone(own):
    made = own()
    assert made.run('basic::hello', request={})['result'] == 0
    made.do('hang_up')
    assert made.do('wait')['status'] == 0


def test_killed(own):
    made = own()
    os.kill(made.pid, signal.SIGKILL)
    assert made.do('wait')['signal'] == signal.SIGKILL


def test_several_regions_and_lanes(own):
    made = own(threads=3)
    for _ in range(3):
        made.do('region')
    running = [made.enter('basic::hello', tree=tree, region=1 + tree % 4, lane=tree // 4 % 8,
                          request={}) for tree in range(32)]
    for tree, number in enumerate(running):
        assert made.join(number)['result'] == 0, tree
        assert made.do('request', tree=tree)['out'] == 'Hello, world!\n'
