"""A mesh that a hostile test must leave as it found it: relays, links, tasks, descriptors, and its honest callers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from ringfence.spiffe import X509Svid
from tests.data_path import HTTP_PORT, TCP_PORT, WEB, HttpClient, Mesh, echo_app, http_app, until
from tests.raw_peer import RawPeer

OWN_HTTP = b"127.0.0.1:%d" % HTTP_PORT
OWN_TCP = b"127.0.0.1:%d" % TCP_PORT


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of this process, now


async def honest_call(mesh: Mesh) -> None:
    client = await HttpClient.to(mesh.http_listen)
    assert (await client.ask("GET", "/orders/1")).status == 200
    client.close()
    await until(lambda: not len(mesh.web.outbound.relays) and not len(mesh.api.inbound.relays))


@contextlib.asynccontextmanager
async def calm_mesh(*, tcp_app: int | None = None, seen: list[bytes] | None = None) -> AsyncIterator[Mesh]:
    """A mesh that must be as calm after the test as before it, and serve its honest callers."""
    async with echo_app() as echo, http_app(seen) as http, Mesh(http_app=http, tcp_app=tcp_app or echo) as mesh:
        await honest_call(mesh)
        first = await RawPeer.dial(mesh.mesh_port, mesh.ca.svid(WEB))
        first.close()
        await until(lambda: len(mesh.api.links) == 1)
        await until(lambda: len(asyncio.all_tasks()) <= 4)
        before = (descriptors(), len(asyncio.all_tasks()))
        yield mesh
        await until(lambda: not len(mesh.api.inbound.relays) and not mesh.api.inbound.connects)
        await until(lambda: len(mesh.api.links) == 1)
        try:
            # What an earlier test of this process left may be gone meanwhile.
            await until(lambda: descriptors() <= before[0] and len(asyncio.all_tasks()) == before[1])
        except TimeoutError:
            now = (descriptors(), len(asyncio.all_tasks()))
            raise AssertionError(f"(descriptors, tasks): {before} before, {now} after: {asyncio.all_tasks()}") from None
        for link in mesh.api.links:
            await until(lambda link=link: not link.machine.streams)  # type: ignore[misc]
            assert link.machine.held_bytes == link.machine.kept_bytes == 0
        await honest_call(mesh)
        assert not mesh.api.log("defect")
        assert "internal_error" not in mesh.api.lines.getvalue()


async def dial(mesh: Mesh, svid: X509Svid | None = None) -> RawPeer:
    return await RawPeer.dial(mesh.mesh_port, svid or mesh.ca.svid(WEB))
