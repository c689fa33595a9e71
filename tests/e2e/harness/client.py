"""A small HTTP/1.1 client that hides nothing: it can read slowly, send half a body, and it knows a truncated answer."""

import socket


class Truncated(Exception):
    """The connection ended before the answer did. `response` is what came until then."""

    def __init__(self, response, why):
        super().__init__(why)
        self.response = response


class Response:
    """An answer. `body` is complete when `complete` is true."""

    def __init__(self, version, status, reason, headers):
        self.version = version
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = b""
        self.complete = False

    def header(self, name, default=None):
        """The first header of that name."""
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return default

    def all(self, name):
        """All headers of that name, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def text(self):
        """The body as text."""
        return self.body.decode()

    def __repr__(self):
        return f"<Response {self.status} {self.reason!r} {len(self.body)} bytes {self.body[:200]!r}>"


class Connection:
    """One connection; requests go one after the other."""

    def __init__(self, port, timeout=120, receive_buffer=None):
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self.port = port
        self.buffer = bytearray()
        self.method = "GET"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes it."""
        self.socket.close()

    # -- sending

    def send(self, data):
        """Sends raw bytes."""
        self.socket.sendall(data)

    def send_head(self, method, target, headers=(), host=None):
        """Sends a request line and headers."""
        self.method = method
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send_chunk(self, data):
        """Sends one chunk of a chunked body; an empty one ends it."""
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def request(self, method, target, headers=(), body=None, host=None):
        """A whole exchange."""
        headers = list(headers)
        if body is not None:
            headers.append(("Content-Length", str(len(body))))
        self.send_head(method, target, headers, host)
        if body:
            self.send(body)
        return self.response()

    # -- receiving

    def _more(self, response=None, size=256 * 1024):
        try:
            data = self.socket.recv(size)
        except ConnectionError as error:
            raise Truncated(response, f"connection broken: {error}") from error
        if not data:
            raise Truncated(response, "connection closed before the end of the answer")
        self.buffer += data

    def _line(self, response=None):
        while (end := self.buffer.find(b"\n")) < 0:
            self._more(response)
        line = bytes(self.buffer[:end]).rstrip(b"\r")
        del self.buffer[: end + 1]
        return line.decode("latin-1")

    def head(self):
        """Reads the status line and the headers; interim answers (100) are skipped."""
        while (response := self.interim_or_final()).status < 200:
            pass
        return response

    def interim(self):
        """Reads an interim answer and returns its status."""
        return self.interim_or_final().status

    def interim_or_final(self):
        """Reads the next status line and headers, whichever they are."""
        version, status, *reason = self._line().split(" ", 2)
        headers = []
        while line := self._line():
            name, _, value = line.partition(":")
            headers.append((name, value.strip()))
        return Response(version, int(status), "".join(reason), headers)

    def pieces(self, response, size=256 * 1024):
        """The body in pieces of at most `size` bytes, as they come. Ends normally only if the whole of it came."""
        if self.method == "HEAD" or response.status in (204, 304):
            response.complete = True
            return
        if "chunked" in (response.header("Transfer-Encoding") or "").lower():
            while length := int(self._line(response).split(";")[0], 16):
                yield from self._exactly(response, length, size)
                if self._line(response):
                    raise Truncated(response, "a chunk is longer than it says")
            while self._line(response):
                pass
        elif response.header("Content-Length") is not None:
            yield from self._exactly(response, int(response.header("Content-Length")), size)
        else:
            yield from self._until_close(response, size)
        response.complete = True

    def _exactly(self, response, length, size):
        while length:
            if not self.buffer:
                self._more(response, size)
            piece = bytes(self.buffer[: min(length, size)])
            del self.buffer[: len(piece)]
            length -= len(piece)
            yield piece

    def _until_close(self, response, size):
        while True:
            if self.buffer:
                yield bytes(self.buffer)
                self.buffer.clear()
            try:
                data = self.socket.recv(size)
            except ConnectionError as error:
                raise Truncated(response, f"connection broken: {error}") from error
            if not data:
                return
            self.buffer += data

    def response(self):
        """Reads a whole answer; `Truncated` has what came of one that is not whole."""
        response = self.head()
        body = bytearray()
        try:
            for piece in self.pieces(response):
                body += piece
        finally:
            response.body = bytes(body)
        return response


def request(port, method, target, headers=(), body=None, host=None, timeout=120):
    """One exchange on a connection of its own."""
    with Connection(port, timeout) as connection:
        return connection.request(method, target, [*headers, ("Connection", "close")], body, host)


def outcome(port, method, target, headers=(), body=None, timeout=120):
    """What became of a request, as one word: its status, `truncated` after a head, `reset` before one, `refused`, or
    `timeout`."""
    try:
        return str(request(port, method, target, headers, body, timeout=timeout).status)
    except Truncated as broken:
        return "truncated" if broken.response is not None else "reset"
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "reset"
    except TimeoutError:
        return "timeout"
