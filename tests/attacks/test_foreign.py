"""A worker that names a request of another tenant's in its frames: the one that its own was redirected from.

httpd itself redirects between tenants, by `ErrorDocument`. The request before is not shown to who comes after; its number is
easily guessed. The worker is the hostile one of the protocol crate, in a tenant's real sandbox.
"""

import os

import pytest

from conftest import REPO, open_to_tenants, skip_where_impossible
from harness.wait import wait_until

HOSTILE = REPO / "target/release/examples/hostile_worker"
#: What the frame asks for or does.
FRAMES = ("snapshot", "table", "field", "change", "body", "log", "server", "read")
EXTRA = """
<Location "/theirs/{frame}">
    SetHandler mod_python
    PythonHandler stages
    ErrorDocument 403 /foreign/{frame}
</Location>
<Location "/foreign/{frame}">
    VivariumTenant foreign-{frame}
    SetHandler mod_python
    PythonHandler anything
</Location>
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The server, with a hostile tenant for each kind of frame."""
    skip_where_impossible()
    if not HOSTILE.exists():
        pytest.skip(f"{HOSTILE} is not built: cargo build --release -p vivarium-protocol --features mock --example hostile_worker")
    from arena import folder, write  # pylint: disable=import-outside-toplevel
    from tenant_site import TenantSite  # pylint: disable=import-outside-toplevel

    stage = tmp_path_factory.mktemp("stage")
    open_to_tenants(stage)
    extra = "".join(EXTRA.replace("{frame}", frame) for frame in FRAMES)
    made = TenantSite(stage=stage, phases=False, extra=extra)
    try:
        programs = folder(made.site / "hostile")
        program = programs / "hostile_worker"
        program.write_bytes(HOSTILE.read_bytes())
        os.chmod(program, 0o755)
        for frame in FRAMES:
            own, _, sections = made.tenants.joinpath("other.toml").read_text().partition("[files]")
            # It waits for answers as long as a real one would.
            mode = f"VIVARIUM_HOSTILE_MODE=foreign.{frame} VIVARIUM_HOSTILE_PATIENCE_MS=100000"
            script = write(programs / f"python-{frame}", f"#!/bin/sh\n{mode} exec {program}\n", 0o755)
            sections = sections.replace("read_only = [", f'read_only = ["{programs}", ')
            write(made.tenants / f"foreign-{frame}.toml", f'{own}python = "{script}"\n[files]{sections}')
        made.server.allow("VIV0011", "VIV0012", "VIV0013", "VIV0014", "VIV0015", "VIV0021", "VIV0022", "VIV0024", "VIV0045")
        made.server.start()
        yield made
    finally:
        made.finish()


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_that_names_anothers_request(site, table, frame):
    control = []
    wait_until(lambda: control.append(site.get("closed", f"/foreign/{frame}")) or control[-1].status == 200, "the hostile worker")
    lines = len(site.server.log_lines(r"foreign-log: foreign"))
    answer = site.get("closed", f"/theirs/{frame}?no=handler")
    held = answer.status >= 400 and b"went on" not in answer.body and answer.header("X-Foreign") is None
    table.append((f"a frame for another's request: {frame}", held, "the worker is ended", control[-1].body.decode(errors="replace")[-40:].strip()))
    assert b"went on" in control[-1].body, control[-1]
    assert held, (answer, site.server.log_text()[-3000:])
    site.server.wait_log(rf"VIV0014.*foreign-{frame}.*names request 0, which is another tenant's|names request 0, which is another tenant's")
    assert len(site.server.log_lines(r"foreign-log: foreign")) == lines, "a line in another's name"
    assert site.get("closed", "/page").status == 200
