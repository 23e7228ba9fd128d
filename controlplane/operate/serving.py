"""Serves a small HTTP application on a listener, with the bound on connections that aiohttp has none of.

One too many is not kept waiting: whoever has been connected longest is let go for it. So whoever opens connections and
says nothing can neither use up this process's descriptors nor keep a probe or an operator out.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Final

from aiohttp import web

CONNECTIONS: Final = 64
_SHUTDOWN_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.1


async def serve(application: web.Application, listener: socket.socket) -> None:
    """Serve ``application`` on ``listener``, which is bound and listening, until cancelled."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    server = runner.server
    if server is None:
        raise AssertionError("a runner that was set up has a server")
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    connected: deque[asyncio.Transport] = deque()
    try:
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
                transport, _ = await loop.connect_accepted_socket(server, connection)
            except OSError:
                # Out of descriptors, or the other side is gone again: neither ends by asking at once.
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            connected = deque(one for one in connected if not one.is_closing())
            connected.append(transport)
            if len(connected) > CONNECTIONS:
                connected.popleft().abort()
    finally:
        await runner.cleanup()
