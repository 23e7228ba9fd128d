"""An app's connection to an upstream of protocol ``auto``, until it is known what it speaks. Adapter.

The stream is opened at once, since the server may speak first, and the app's first bytes are read. If they are HTTP the
connection begins anew as one of HTTP (``sidecar.outbound_http``), where every refusal finds a request to answer; the
stream goes along if all requests go one way, and is dropped if they are spread. Where the last connection spoke HTTP
the next one is given a moment to do so, too, before any stream is opened.

A refusal that comes before the app has said a word is kept for a moment too: HTTP is told it in its own words.
Nothing is judged here, that is for the other side.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from ringfence.policy.reasons import DenyReason
from sidecar.balance import Member
from sidecar.detections import Detections
from sidecar.first_bytes import FirstLine, Spoken, of_server
from sidecar.http2.frames import CANCEL
from sidecar.openers import Carrier, Openers
from sidecar.outbound_relay import OutboundRelay
from sidecar.relay import Relay, RelayFacts, RelayOwner
from sidecar.target import Target
from sidecar.tunnel.stream import Stream

HOLD_SECONDS: Final = 0.05  # for bytes that may be either, and for a refusal
HINT_SECONDS: Final = 0.03  # for the first byte of HTTP where there was HTTP before
HOLD_LIMIT_BYTES: Final = 16 * 1024


class OutboundDetectionOwner(RelayOwner, Protocol):
    """The outbound side."""

    @property
    def draining(self) -> bool: ...

    def begin_anew(self, before: OutboundDetection, spoken: Spoken) -> Relay | None:
        """A relay of HTTP for the same upstream, registered in place of ``before``; None if there is no endpoint."""


class OutboundDetection(OutboundRelay):
    """See the module. Once the connection is known to be opaque it is an ordinary relay of opaque bytes."""

    owner: OutboundDetectionOwner

    def __init__(
        self,
        owner: OutboundDetectionOwner,
        facts: RelayFacts,
        openers: Openers,
        target: Target,
        member: Member,
        detections: Detections,
    ) -> None:
        super().__init__(owner, facts, openers, target, member)
        self.target = target
        self._detections = detections
        self._key = (target.service, target.upstream.port)
        self._hint = detections.hint(self._key)
        self._line: FirstLine | None = FirstLine()  # None: it is known what this is
        self._opened = False  # a stream was asked for
        self._left = False
        self._link_leaves = False  # it takes no more streams
        self._kept = b""
        self._from_mesh = b""
        self._refusal: tuple[str, str] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def open_on_connect(self) -> bool:
        if self._hint is None or self._hint is Spoken.OPAQUE:
            return True
        self._wait_for_word(HINT_SECONDS)
        return False

    def open_stream(self) -> None:
        self._opened = True
        super().open_stream()
        if self._line is not None and self.transport is not None and not self.ended:
            self.transport.resume_reading()  # what the app says is wanted before there is a link

    # -- the app speaks -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        line = self._line
        if line is None:
            super().data_received(data)
            return
        self._kept += data
        found = line.feed(data)
        if found is Spoken.OPAQUE:
            self._become_opaque()
        elif found is not None:
            self._begin_anew(found)
        elif self._hint is Spoken.OPAQUE or len(self._kept) > HOLD_LIMIT_BYTES:
            self._become_opaque()
        else:
            self._wait_for_word(HOLD_SECONDS)

    def app_end(self) -> None:
        if self._line is not None and (self._opened or self._kept):
            self._become_opaque()
        elif self._line is not None:
            self.end("closed")  # it came, asked nothing, and left
        if not self.ended:
            super().app_end()

    # -- the mesh speaks ----------------------------------------------------------------------------------------------

    def on_data(self, data: bytes) -> bool:
        if self._line is None:
            return super().on_data(data)
        self._from_mesh += data
        found = of_server(self._from_mesh)
        if found is None:
            self._wait_for_word(HOLD_SECONDS)
        elif found is Spoken.HTTP2:
            self._begin_anew(found)
        else:
            return self._become_opaque()
        return True

    def on_end(self) -> None:
        if self._refusal is not None:
            return
        if self._line is not None:
            self._become_opaque()
        if not self.ended:
            super().on_end()

    def on_reset(self, code: int) -> None:
        if self._refusal is None:
            super().on_reset(code)

    def refused(self, reason: str, detail: str) -> None:
        if self._line is None:
            super().refused(reason, detail)
        elif self._refusal is None:
            self._refusal = (reason, detail)
            self._wait_for_word(HOLD_SECONDS)

    # -- what it is ---------------------------------------------------------------------------------------------------

    def _become_opaque(self) -> bool:
        """Let go on what was held; False: what came from the mesh is not consumed yet."""
        self._known(Spoken.OPAQUE)
        if self._refusal is not None:
            super().refused(*self._refusal)
            return True
        if not self._opened:
            self.open_stream()
        from_mesh, self._from_mesh = self._from_mesh, b""
        consumed = super().on_data(from_mesh) if from_mesh else True
        held, self._kept = self._kept, b""
        if held and not self.ended:
            super().data_received(held)
        return consumed

    @property
    def lent(self) -> Member | None:
        """Where the stream leads, if there is one that another relay may go on with."""
        able = isinstance(self.stream, Stream) and self._refusal is None and self._member.usable
        return self._member if able and not self._link_leaves else None

    def move_from(self, carrier: Carrier) -> None:
        self._link_leaves = True  # what is opaque stays to its end, HTTP is led elsewhere

    def _begin_anew(self, spoken: Spoken) -> None:
        self._known(spoken)
        relay = self.owner.begin_anew(self, spoken)
        if relay is None:
            super().refused(DenyReason.UPSTREAM_UNREACHABLE, "the service has no endpoint")
            return
        self.ended = True
        transport, self.transport = self.transport, None
        if transport is None:
            self._drop_stream(CANCEL)
            return
        transport.set_protocol(relay)
        relay.connection_made(transport)
        if self.lent is not None and isinstance(relay, OutboundRelay) and not relay.shut_out:
            relay.take_stream_of(self)
        else:
            self._drop_stream(CANCEL)
            self._from_mesh = b""
        transport.resume_reading()
        if self._kept:
            relay.data_received(self._kept)
        if self._from_mesh and not relay.ended:
            relay.on_data(self._from_mesh)
        if self.owner.draining and not relay.ended:
            relay.drain()

    def _known(self, spoken: Spoken) -> None:
        self._cancel()
        self._line = None
        self.facts.protocol = spoken
        if self._kept or self._from_mesh:
            self._detections.told(self._key, self.facts, spoken)

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _wait_for_word(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._no_word)

    def _no_word(self) -> None:
        self._timer = None
        if self.ended or self._line is None:
            return
        if self._refusal is not None or self._kept or self._from_mesh:
            self._become_opaque()
        elif not self._opened:
            self.open_stream()

    def leave_target(self) -> None:
        if not self._left:
            self._left = True
            super().leave_target()

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = CANCEL) -> None:
        self._cancel()
        super().end(reason, detail, abort=abort, code=code)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
