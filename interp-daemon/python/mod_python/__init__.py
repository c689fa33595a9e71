"""mod_python's package, as Vivarium offers it.

The module that programs use is :mod:`mod_python.apache`. It can be imported anywhere (constants work, what needs httpd
raises :class:`RuntimeError`), so that handlers can be unit-tested and type-checked without a server.
"""

__all__ = ["apache", "version"]

#: The release of mod_python whose interface this package follows.
mp_version: str = "3.5.0"

from mod_python import version as version  # noqa: E402 (it takes the number from here)
