"""``mod_python.version``: the names that programs look at."""

from mod_python import mp_version

#: The release of mod_python whose interface this package follows.
version: str = mp_version
