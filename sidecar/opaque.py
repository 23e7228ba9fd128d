"""Relays of opaque bytes read their app to where its bytes are sent from. Adapter.

Mixed into a relay, behind it in the order of bases. Small reads are copied, and gathered with what else the turn sends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from sidecar.tunnel.stream import Stream

if TYPE_CHECKING:
    from sidecar.relay import RelayFacts

_COPY_BELOW_BYTES: Final = 4096
_LONE_BYTES: Final = 64 * 1024  # a read that goes to no stream of a tunnel


class ReadsInPlace(asyncio.BufferedProtocol):
    """``stream.takes_views`` may be set where one of these is the endpoint."""

    facts: RelayFacts
    stream: Any  # a ByteStream or None, as the relay has it
    transport: asyncio.Transport | None
    _reading: memoryview

    if TYPE_CHECKING:

        def data_received(self, data: bytes) -> None: ...

    @property
    def keeps_what_it_sends(self) -> bool:
        """Whether ``data_received`` must see each byte."""
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        stream = self.stream
        view = stream.read_into() if type(stream) is Stream else None
        self._reading = view if view is not None else memoryview(bytearray(_LONE_BYTES))
        return self._reading

    def buffer_updated(self, nbytes: int) -> None:
        stream = self.stream
        if (
            nbytes < _COPY_BELOW_BYTES
            or type(stream) is not Stream
            or stream.machine.clear is None
            or self.keeps_what_it_sends
        ):
            self.data_received(bytes(self._reading[:nbytes]))
            return
        self.facts.bytes_from_app += nbytes
        if not stream.send_in_place(nbytes) and self.transport is not None:
            self.transport.pause_reading()
