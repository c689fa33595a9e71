"""What scripts/serve, scripts/bench and the end-to-end tests share: a build to serve, and an httpd of one's own.

Only the standard library of /usr/bin/python3 is used.
"""
