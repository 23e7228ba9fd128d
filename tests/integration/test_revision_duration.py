"""How long a change of policy takes to close what it denies is measured by the sidecar itself, from the snapshot's
arrival to the last close, and told apart from revisions that ended nothing."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tests.data_path import echo_app, free_port, serving
from tests.integration.test_renewal import MESH, POLICY, metrics
from tests.mesh_files import replace_text
from tests.processes import Marked, ringfence

PORTS = POLICY.rstrip() + "\n      to: {ports: [%d]}\n"


async def revisions(port: int) -> tuple[float, float]:
    """How many revisions ended nothing, and how many ended something."""
    found = await metrics(port)
    name = "ringfence_revision_duration_seconds_count"
    return found.get(f"{name} no", 0.0), found.get(f"{name} yes", 0.0)


async def test_a_revision_that_ends_streams_or_requests_is_timed_apart_from_one_that_does_not(tmp_path: Path) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
            await reader.read()
        writer.close()

    names = ("join", "listen", "signals", "web_mesh", "web", "http_listen", "tcp_listen", "api_mesh", "api")
    ports = {name: free_port() for name in names}
    async with serving(slow) as http, echo_app() as tcp:
        policies = tmp_path / "policies"
        policies.mkdir()
        replace_text(policies / "api.yaml", POLICY)
        (tmp_path / "mesh.yaml").write_text(MESH.format(http_app=http, tcp_app=tcp, **ports))
        marked = Marked(XDG_CONFIG_HOME=str(tmp_path / "config"))
        with ringfence(marked, "up", "-f", "mesh.yaml", "--state", "s", "--json", folder=tmp_path) as command:
            await asyncio.to_thread(command.wait_for_stdout, "\n")

            async def in_force(quiet: float, ending: float) -> None:
                async with asyncio.timeout(20):
                    while await revisions(ports["api"]) != (quiet, ending):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)

            await in_force(1, 0)
            opaque, opaque_writer = await asyncio.open_connection("127.0.0.1", ports["tcp_listen"])
            opaque_writer.write(b"x")
            assert await asyncio.wait_for(opaque.readexactly(1), 10) == b"x"
            asking, asking_writer = await asyncio.open_connection("127.0.0.1", ports["http_listen"])
            asking_writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n")
            await asyncio.wait_for(asking.readuntil(b"ab"), 10)
            replace_text(policies / "api.yaml", POLICY.replace("- name: web", "- name: web-again"))
            await in_force(2, 0)
            replace_text(policies / "api.yaml", PORTS % 8080)
            assert await asyncio.wait_for(opaque.read(), 20) == b""
            await in_force(2, 1)
            replace_text(policies / "api.yaml", PORTS % 9000)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(asking.read(), 20) == b""
            await in_force(2, 2)
            opaque_writer.close()
            asking_writer.close()
