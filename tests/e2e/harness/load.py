"""Steady requests from a few threads while a test does something to the servers."""

import collections
import threading

from .client import Connection, Truncated


class Load:
    """`with Load(port, "/hello") as load:` sends requests one after the other on a few connections until the block
    ends. `outcomes` counts statuses and `truncated`, `reset`, `refused`, `timeout`.

    A connection that httpd closes between two requests is no failure (a graceful restart closes idle keep-alive
    connections), and the request that met it is sent again on a new one, as browsers do.
    """

    def __init__(self, port, target, connections=4, keep_alive=False, expect=None):
        self.port = port
        self.target = target
        self.keep_alive = keep_alive
        self.expect = expect
        self.outcomes = collections.Counter()
        self.wrong = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(connections)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
        assert not any(t.is_alive() for t in self._threads), "a client thread of the load hangs"

    @property
    def done(self):
        """How many exchanges ended, one way or another."""
        with self._lock:
            return sum(self.outcomes.values())

    @property
    def failed(self):
        """Everything that was no 200 with the right body."""
        with self._lock:
            return {k: v for k, v in self.outcomes.items() if k != "200"}

    def _note(self, word):
        with self._lock:
            self.outcomes[word] += 1

    def _run(self):
        connection, used = None, 0
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection, used = Connection(self.port), 0
                headers = () if self.keep_alive else (("Connection", "close"),)
                response = connection.request("GET", self.target, headers)
                used += 1
                self._note(str(response.status))
                if response.status == 200 and self.expect not in (None, response.body):
                    with self._lock:
                        self.wrong.append(response)
                closes = (response.header("Connection") or "").lower() == "close"
                if self.keep_alive and not closes:
                    continue
            except Truncated as broken:
                if broken.response is not None:
                    self._note("truncated")
                elif not used:
                    self._note("reset")
            except ConnectionRefusedError:
                self._note("refused")
            except ConnectionError:
                if not used:
                    self._note("reset")
            except TimeoutError:
                self._note("timeout")
            if connection is not None:
                connection.close()
            connection = None
        if connection is not None:
            connection.close()
