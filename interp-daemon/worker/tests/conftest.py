"""Drives `examples/host`, the stand-in for httpd and the supervisor.

Run with: /usr/bin/python3 -m pytest interp-daemon/worker/tests (builds what it needs with cargo)
"""

import json
import os
import pathlib
import selectors
import subprocess
import tempfile
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TARGET = pathlib.Path(os.environ.get('CARGO_TARGET_DIR', ROOT / 'target')) / 'release'
# No answer of the host takes this long, ever: something hangs.
WATCHDOG = 60


class Host:
    """One stand-in with one worker."""

    def __init__(self, path=(HERE / 'package', ROOT / 'interp-daemon' / 'python'), **start):
        # A file, not a pipe: nobody reads it before the end.
        self.said = tempfile.TemporaryFile()
        self.process = subprocess.Popen([TARGET / 'examples' / 'host'], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.said)
        env = {'PYTHONPATH': ':'.join(map(str, path)), 'VIVARIUM_EXTENSION': str(TARGET / 'lib_vivarium.so')}
        env.update(start.pop('env', {}))
        self.started = self.do('start', env=env, **start)
        self.pid = self.started.get('pid')

    def do(self, command, **arguments):
        line = json.dumps({'cmd': command, **arguments}) + '\n'
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(WATCHDOG):
                raise TimeoutError(f'no answer to {command}: {self.stack()}')
        answer = self.process.stdout.readline()
        if not answer:
            raise EOFError(self.output())
        return json.loads(answer)

    def stack(self):
        self.process.kill()
        return self.output()

    def output(self):
        """What the host and its worker wrote to standard error."""
        self.process.wait(WATCHDOG)
        self.said.seek(0)
        return self.said.read().decode()

    def enter(self, handlers, **what):
        if isinstance(handlers, str):
            handlers = [handlers]
        return self.do('enter', handlers=handlers, **what)['id']

    def join(self, number):
        return self.do('join', id=number)

    def run(self, handlers, **what):
        """Offers a request and serves it; the report of the conversation and, in `req`, of the request."""
        report = self.join(self.enter(handlers, **what))
        tree, rid = what.get('tree', 1), what.get('rid', 0)
        report['req'] = self.do('request', tree=tree, rid=rid)
        return report

    def close(self):
        """Ends it all; returns what the worker wrote to its standard error."""
        self.process.stdin.close()
        return self.output()


@pytest.fixture(scope='module')
def host():
    """A worker that the tests of a module share."""
    made = Host()
    assert made.started.get('ready'), made.started
    yield made
    made.close()


@pytest.fixture
def own():
    """Makes workers for one test."""
    made = []

    def make(**start):
        made.append(Host(**start))
        return made[-1]

    yield make
    for each in made:
        if not each.process.stdin.closed:
            each.close()


def pytest_sessionstart(session):
    """What is tested is built from what is there."""
    subprocess.run(['cargo', 'build', '--release', '--quiet', '-p', 'vivarium-worker', '--lib',
                    '--example', 'host'], cwd=ROOT, check=True)


def until(condition, seconds=WATCHDOG):
    """Polls until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError('the condition never held')
        time.sleep(0.005)
