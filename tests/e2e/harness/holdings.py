"""What the processes of a server hold of one another: regions, descriptors of workers, pipes."""

from . import procs
from .wait import wait_until


def regions(pid):
    """How many httpd children's regions the process has mapped."""
    return procs.map_count(pid, "memfd:.*region")


def all_attached(server):
    """Sends requests until every child has attached to the pool; returns the children."""
    def attached():
        server.get("/hello")
        children = server.httpd_children()
        workers = server.workers()
        return workers and all(regions(pid) == len(children) for pid in workers) and children
    return wait_until(attached, "all children to attach")


def leaks(server, supervisor):
    """What processes hold beyond what the workers and children that there are need."""
    children, workers = server.httpd_children(), server.workers()

    def count(pid, what):
        return sum(what in target for target in procs.fds(pid).values())

    held = [("supervisor: workers", count(supervisor, "pidfd"), len(workers)),
            ("supervisor: pipes", count(supervisor, "pipe:"), 2 * len(workers)),
            ("supervisor: regions", count(supervisor, "vivarium-region"), len(children))]
    for pid in children:
        held += [("child: workers", count(pid, "pidfd"), len(workers)),
                 ("child: regions", procs.map_count(pid, "vivarium-region"), 1)]
    held += [("worker: regions", procs.map_count(pid, "vivarium-region"), len(children)) for pid in workers]
    return [row for row in held if row[1] > row[2]]
