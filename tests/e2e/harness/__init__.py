"""What the end-to-end tests stand on: a real httpd in a folder of its own, a client that hides nothing, /proc."""

from .client import Connection, Response, Truncated, outcome
from .load import Load
from .server import Server
from .wait import wait_until

__all__ = ["Connection", "Load", "Response", "Server", "Truncated", "outcome", "wait_until"]
