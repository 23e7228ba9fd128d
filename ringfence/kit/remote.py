"""From where a connection comes."""

from __future__ import annotations

import asyncio


def remote_host(transport: asyncio.BaseTransport | None) -> str:
    """The peer's address without its port; empty where there is none, as on a Unix socket."""
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""
