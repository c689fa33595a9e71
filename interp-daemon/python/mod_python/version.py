"""``mod_python.version``: the names that programs look at."""

from mod_python import mp_version

#: The release of mod_python whose interface this package follows.
version: str = mp_version

#: The series of httpd that the module is for, as configurations ask: ``mod_python.version.HTTPD_VERSION[:3] == "2.4"``.
HTTPD_VERSION: str = "2.4"
