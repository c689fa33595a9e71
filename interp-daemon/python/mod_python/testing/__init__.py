"""Running handlers in tests, without httpd: ``from mod_python.testing import Client``.

::

    def test_greeting():
        client = Client("hello", PythonOption={"greeting": "Good day"})
        response = client.get("/hello?name=Ada")
        assert response.status == 200
        assert response.text == "Good day, Ada"

The handlers are run by the dispatcher that runs them in a worker, found and reloaded by the same importer; only the
objects that stand for httpd (request, connection, server, table, filter) are doubles in plain Python. docs/testing.md
says what they do, and what only a real httpd can show.
"""

from mod_python.testing._client import Client, Response, Upload
from mod_python.testing._cookies import Cookies
from mod_python.testing._objects import LogLine

__all__ = ["Client", "Cookies", "LogLine", "Response", "Upload"]
