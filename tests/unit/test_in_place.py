"""Views of a shared buffer written to a transport: in order, exact, and the buffer is the caller's again at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import pytest
import uvloop

from sidecar.in_place import descriptor_of, write_in_place

PIECE_BYTES = 200_000
PIECES = 8


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_what_a_full_socket_does_not_take_is_copied_and_stays_in_order(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def written() -> None:
        near, far = socket.socketpair()
        with far:
            far.setblocking(False)
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
            buffer = bytearray(PIECE_BYTES)
            wanted, got = bytearray(), bytearray()
            for number in range(PIECES):
                small = b"%d" % number * 100
                transport.write(small)
                buffer[:] = bytes([65 + number]) * PIECE_BYTES
                write_in_place(transport, descriptor_of(transport), memoryview(buffer))
                wanted += small + buffer
                buffer[:] = bytes(PIECE_BYTES)  # another connection's by now
                if number == PIECES // 2:  # the socket takes more now, but not before what the transport holds
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            got += far.recv(1 << 20)
            assert transport.get_write_buffer_size() > 0  # else the socket took all, and nothing was shown
            while len(got) < len(wanted):
                got += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(far, 1 << 20), 10)
            assert got == wanted
            transport.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(written())


async def test_nothing_is_written_to_a_descriptor_that_may_be_anothers() -> None:
    near, far = socket.socketpair()
    with far:
        far.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
        descriptor = descriptor_of(transport)
        transport.abort()
        write_in_place(transport, descriptor, memoryview(bytearray(100_000)))
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(far, 100), 10) == b""
