"""The global locks: between threads, between processes, and when a holder is killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
from fake_vivarium import Server, table
from sites import PACKAGE

from mod_python import _apache, _locks

WATCHDOG = 60

# Another process: takes locks by line-wise commands.
OTHER = """
import sys
sys.path[:0] = {path!r}
import fake_vivarium
fake_vivarium.install()
from mod_python import _apache
server = fake_vivarium.Server()
server.options = fake_vivarium.table({options!r})
for line in sys.stdin:
    name, key, index = line.split()
    try:
        done = getattr(_apache, '_global_' + name)(server, None if key == '-' else key, int(index))
    except Exception as error:
        done = type(error).__name__
    print(done, flush=True)
"""


class Process:
    """Another worker of the same tenant."""

    def __init__(self, options: Any) -> None:
        path = [str(Path(__file__).parent), str(PACKAGE)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER.format(path=path, options=options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, *words: Any) -> None:
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, *words: Any) -> str:
        self.say(*words)
        return self.hear()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WATCHDOG)


@pytest.fixture
def options(tmp_path: Path) -> Any:
    return {"mod_python.mutex_directory": str(tmp_path)}


@pytest.fixture
def server(options: Any, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(_locks, "_locks", _locks.Locks())
    made = Server()
    made.options = table(options)
    return made


@pytest.fixture
def process(options: Any) -> Iterator[Callable[[], Process]]:
    made: List[Process] = []

    def make() -> Process:
        made.append(Process(options))
        return made[-1]

    yield make
    for each in made:
        each.kill()
        for stream in (each.process.stdin, each.process.stdout):
            if stream is not None:
                stream.close()


def lock_file(tmp_path: Path) -> Path:
    return tmp_path / f"vivarium-locks.{os.geteuid()}"


def in_thread(call: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def waits(thread: threading.Thread, server: Server, name: str) -> None:
    """Returns when the thread is waiting in the call of that name."""

    def there() -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        while frame is not None and frame.f_code.co_name != name:
            frame = frame.f_back
        return frame is not None

    event = threading.Event()
    for _ in range(WATCHDOG * 100):
        if there():
            return
        event.wait(0.01)
    raise TimeoutError(name)


def test_lock_and_unlock(server: Server, tmp_path: Path) -> None:
    assert _apache._global_lock(server, "key") is None
    assert _apache._global_trylock(server, "key") is False
    assert _apache._global_unlock(server, "key") is None
    assert _apache._global_trylock(server, "key") is True
    _apache._global_unlock(server, "key")
    found = lock_file(tmp_path).stat()
    assert stat.S_IMODE(found.st_mode) == 0o600


def test_which_lock(server: Server) -> None:
    def place(key: Any, index: int = -1) -> int:
        return _locks._place(server, key, index)[1]

    found = {place(f"key {n}") for n in range(200)}
    assert found == set(range(1, 8))
    assert [place(None, n) for n in range(8)] == list(range(8))
    # Not Python's hash, which differs from process to process.
    assert [place(key) for key in ("abc", b"abc", "\xe9", "", None, 5)] == [6, 6, 5, 1, 5, 7]
    server.options["mod_python.mutex_locks"] = "1"
    assert place("abc") == place("other") == 0
    server.options["mod_python.mutex_locks"] = "2"
    assert place("abc") == place("other") == 1
    for index in (2, 99, -2):
        with pytest.raises(ValueError, match="Lock index is out of range for number of global mutex locks"):
            place(None, index)
    assert server.lines == [(4, f"Index {n} is out of range for number of global mutex locks") for n in (2, 99, -2)]


def test_mistakes(server: Server) -> None:
    with pytest.raises(TypeError, match="First argument must be a server object"):
        _apache._global_lock(None, "key")
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        _apache._global_lock(server, [])
    with pytest.raises(TypeError):
        _apache._global_lock(server, "key", "1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Failed to release global mutex lock"):
        _apache._global_unlock(server, "key")
    server.options["mod_python.mutex_locks"] = "many"
    with pytest.raises(ValueError, match="mutex_locks must be a number, not 'many'"):
        _apache._global_lock(server, "key")


def test_threads_of_a_process(server: Server) -> None:
    taken = threading.Event()
    _apache._global_lock(server, None, 3)

    def other() -> None:
        _apache._global_lock(server, None, 3)
        taken.set()

    thread = in_thread(other)
    waits(thread, server, "take")
    assert not taken.is_set()
    # Another thread than the one that took it gives it back, as sessions do at the end of a request.
    back = in_thread(lambda: _apache._global_unlock(server, None, 3))
    assert taken.wait(WATCHDOG)
    back.join()
    thread.join()
    assert _apache._global_trylock(server, None, 4)


def test_processes(server: Server, process: Callable[[], Process]) -> None:
    other = process()
    assert other.do("lock", "a", -1) == "None"
    assert _apache._global_trylock(server, "a") is False
    assert _apache._global_trylock(server, None, 0) is True
    assert other.do("trylock", "-", 0) == "False"
    assert other.do("unlock", "a", -1) == "None"
    assert _apache._global_trylock(server, "a") is True
    other.say("lock", "a", -1)
    _apache._global_unlock(server, "a")
    assert other.hear() == "None"


def test_kill_frees_the_lock(server: Server, process: Callable[[], Process]) -> None:
    holder, waiter = process(), process()
    assert holder.do("lock", "-", 5) == "None"
    waiter.say("lock", "-", 5)
    taken = threading.Event()

    def here() -> None:
        _apache._global_lock(server, None, 5)
        taken.set()

    thread = in_thread(here)
    waits(thread, server, "_take_from_kernel")
    assert not taken.is_set()
    holder.kill()
    # One after the other, both get it.
    if taken.wait(0.2):
        _apache._global_unlock(server, None, 5)
        assert waiter.hear() == "None"
    else:
        assert waiter.hear() == "None"
        waiter.kill()
        assert taken.wait(WATCHDOG)
    thread.join()


def test_what_only_looks_like_a_deadlock(server: Server, process: Callable[[], Process]) -> None:
    """Each process holds one lock and waits for the other's; but the threads that hold go on."""
    other = process()
    _apache._global_lock(server, None, 1)
    assert other.do("lock", "-", 2) == "None"
    other.say("lock", "-", 1)
    done = threading.Event()

    def wait_for_two() -> None:
        _apache._global_lock(server, None, 2)
        done.set()

    thread = in_thread(wait_for_two)
    waits(thread, server, "_take_from_kernel")
    _apache._global_unlock(server, None, 1)
    assert other.hear() == "None"
    assert other.do("unlock", "-", 2) == "None"
    assert done.wait(WATCHDOG)
    thread.join()


def test_fork_holds_nothing(server: Server) -> None:
    _apache._global_lock(server, None, 6)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"?"
        try:
            said = b"%d" % _apache._global_trylock(server, None, 6)
        finally:
            os.write(write, said)
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read, "rb") as pipe:
        assert pipe.read() == b"0"
    # The child's end has taken nothing from us.
    assert _apache._global_trylock(server, None, 6) is False


def test_removed_file(server: Server, process: Callable[[], Process], tmp_path: Path) -> None:
    """Programs that clean /tmp may remove the file: whoever locks then makes a new one, that all use."""
    _apache._global_lock(server, None, 1)
    lock_file(tmp_path).unlink()
    assert _apache._global_trylock(server, None, 2) is True
    other = process()
    assert other.do("trylock", "-", 2) == "False"
    _apache._global_unlock(server, None, 1)
    _apache._global_unlock(server, None, 2)
    assert other.do("trylock", "-", 2) == "True"
    assert _apache._global_trylock(server, None, 2) is False


@pytest.mark.parametrize("trap", ["link", "hard link", "folder", "open to others", "pipe"])
def test_traps_in_the_directory(server: Server, tmp_path: Path, trap: str) -> None:
    path = lock_file(tmp_path)
    target = tmp_path / "target"
    target.write_text("precious")
    target.chmod(0o600)
    if trap == "link":
        path.symlink_to(target)
    elif trap == "hard link":
        os.link(target, path)
    elif trap == "folder":
        path.mkdir()
    elif trap == "pipe":
        os.mkfifo(path, 0o600)
    else:
        path.touch()
        path.chmod(0o666)
    with pytest.raises(OSError):
        _apache._global_lock(server, "key")
    assert target.read_text() == "precious"
    # Nothing is held after that.
    if trap != "folder":
        path.unlink()
        assert _apache._global_trylock(server, "key") is True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_file_of_another_user(server: Server, tmp_path: Path) -> None:
    path = lock_file(tmp_path)
    path.touch(0o600)
    os.chown(path, 12345, 12345)
    with pytest.raises(PermissionError, match="file of this user's own"):
        _apache._global_lock(server, "key")


def test_default_directory(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    del server.options["mod_python.mutex_directory"]
    monkeypatch.setattr(_locks.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    with pytest.raises(FileNotFoundError):
        _apache._global_lock(server, "key")
    (tmp_path / "tmp").mkdir()
    assert _apache._global_trylock(server, "key") is True
    assert lock_file(tmp_path / "tmp").exists()
