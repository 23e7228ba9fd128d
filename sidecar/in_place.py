"""Bytes that stand in a shared buffer, written to a transport at once: what a socket takes is never copied. Adapter."""

from __future__ import annotations

import asyncio
import os

_COPY_BELOW_BYTES = 16 * 1024  # a copy this small costs less than to ask the transport first


def descriptor_of(transport: asyncio.BaseTransport) -> int:
    """The transport's socket, to be asked for once a connection; -1 if it has none."""
    sock = transport.get_extra_info("socket")
    return sock.fileno() if sock is not None else -1


def write_in_place(transport: asyncio.WriteTransport, descriptor: int, view: memoryview) -> None:
    """Write ``view`` behind what the transport still holds; the buffer is the caller's again when this returns.

    A transport would keep the view itself until the socket takes it. So the socket is offered the bytes first, when
    nothing waits before them, and the transport gets a copy of what it did not take. An error of the socket is left for
    the transport to meet, which ends the connection in its own way.
    """
    size = len(view)
    if size >= _COPY_BELOW_BYTES and descriptor >= 0 and not transport.get_write_buffer_size():
        if transport.is_closing():  # the descriptor may be another connection's by now
            return
        try:
            taken = os.write(descriptor, view)
        except OSError:
            taken = 0
        if taken == size:
            return
        view = view[taken:]
    transport.write(bytes(view))
