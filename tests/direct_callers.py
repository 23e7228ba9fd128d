"""Callers at the redirected inbound port without a tunnel, and what is asked of their connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from OpenSSL import SSL

from ringfence.snapshot import PortMode
from ringfence.spiffe import X509Svid
from tests.data_path import HTTP_PORT, TCP_PORT, WEB, HttpClient, Mesh, plaintext_rule, rule
from tests.redirected import DirectClient

PERMISSIVE = PortMode.PERMISSIVE
PLAIN = (
    plaintext_rule("plain orders", ports=[HTTP_PORT], methods=["GET"], paths=["/orders/{id}"]),
    plaintext_rule("plain ledger", ports=[TCP_PORT]),
    rule("web ledger", ports=[TCP_PORT]),
)


async def direct(mesh: Mesh, port: int, svid: X509Svid | None = None, **context: Any) -> DirectClient:
    """A SPIFFE client, web by default, on a TLS connection to a port of api."""
    return await DirectClient.over(await mesh.arrive(port), svid or mesh.ca.svid(WEB), **context)


async def direct_http(mesh: Mesh, svid: X509Svid | None = None, **context: Any) -> HttpClient:
    client = await direct(mesh, HTTP_PORT, svid, **context)
    return HttpClient(client.reader, client)  # type: ignore[arg-type]


async def ended(reader: asyncio.StreamReader) -> None:
    """The connection ends, in whatever way, without a byte."""
    with contextlib.suppress(ConnectionError, SSL.Error):
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def refused(reader: asyncio.StreamReader) -> None:
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.readexactly(1), 10)


async def lives(reader: asyncio.StreamReader, writer: Any) -> None:
    writer.write(b"ping")
    assert await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"


def nothing_left(mesh: Mesh) -> Callable[[], bool]:
    return lambda: not len(mesh.api.inbound.relays) and not mesh.api.inbound.direct.open_count
