"""Asking a part of the mesh whether it is ready; every answer is None for yes, or the reason why not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Final

import aiohttp

from ringfence.kit.addresses import SocketAddress

_ANSWER_SECONDS: Final = 2.0
_REASON_CHARACTERS: Final = 300
_BODY_LIMIT_BYTES: Final = 16_384


async def ready_over_http(session: aiohttp.ClientSession, address: SocketAddress) -> str | None:
    """Ask ``/readyz``: any status but 200 means no, and its body says why."""
    try:
        async with session.get(f"http://{address}/readyz", timeout=aiohttp.ClientTimeout(_ANSWER_SECONDS)) as reply:
            if reply.status == 200:
                return None
            body = await reply.content.read(_BODY_LIMIT_BYTES)
            return _missing(body) or f"/readyz on {address} answers {reply.status}"
    except (aiohttp.ClientError, TimeoutError, OSError):
        return f"/readyz on {address} does not answer"


def _missing(body: bytes) -> str:
    """What ``{"waiting_for": […]}`` tells; empty if it is something else."""
    try:
        waiting_for = json.loads(body)["waiting_for"]
    except (ValueError, LookupError, TypeError):
        return ""
    if not isinstance(waiting_for, list):
        return ""
    return "it waits for " + ", ".join(str(one)[:_REASON_CHARACTERS] for one in waiting_for)


async def listening(address: SocketAddress) -> str | None:
    """Try to connect: all that can be known of an app."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError):
        return f"nothing listens on {address}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None
