"""Opaque bytes from the mesh to the app. Adapter."""

from __future__ import annotations

import asyncio
from typing import cast

from ringfence.snapshot import Port
from sidecar.caller import Caller
from sidecar.limits.limiter import CallerLimits
from sidecar.opaque import ReadsInPlace
from sidecar.relay import Relay, RelayFacts, RelayOwner
from sidecar.tls_notes import TlsNotes


class InboundOpaqueRelay(Relay):
    """A relay whose app side is connected by us; ``preamble`` is the first that the app reads."""

    limits: CallerLimits | None = None

    def __init__(self, owner: RelayOwner, facts: RelayFacts, caller: Caller, port: Port) -> None:
        super().__init__(owner, facts)
        self.caller = caller
        self.app_port = port
        self.preamble = b""
        self._notes: TlsNotes | None = TlsNotes()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.preamble:
            cast(asyncio.Transport, transport).write(self.preamble)
        super().connection_made(transport)

    def on_data(self, data: bytes | memoryview) -> bool:
        if self._notes is not None and not self._notes.wants_more(self.facts, data):
            self._notes = None
        return self.to_app(data, len(data))


class InboundRelay(InboundOpaqueRelay, ReadsInPlace):
    """One for bytes that nobody looks at; its stream may hand over views."""
