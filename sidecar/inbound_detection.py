"""A connection from the mesh to a port of protocol ``auto``, until it is known what it speaks. Adapter.

Theory of operation. Whoever speaks first tells, the client or the app; ``sidecar.first_bytes`` reads both.

A caller who may send opaque bytes to the port is joined to the app at once, for the app may greet. Meanwhile the
client's bytes are held until they tell: HTTP is handed over to the relay that judges each request, what is opaque goes
on from here, in this relay. What may be either (a word without end, an empty line) is held for a moment only, since the
client may wait for an answer to just that; then it passes, but is watched until its first line has ended or the app has
answered. Should it be the beginning of HTTP after all, the connection ends before the app has read a whole line of it.

A caller who may not send opaque bytes has no connection to the app until the client's bytes are HTTP. The answer to
CONNECT does not wait for that, for the client waits for it. What turns out opaque, or stays silent, is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from ringfence.policy.decide import Decision, Deny
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Port
from ringfence.snapshot import Protocol as PortProtocol
from sidecar.caller import Caller
from sidecar.detections import Detections
from sidecar.direct import DirectEnd
from sidecar.first_bytes import FirstLine, Spoken, of_server
from sidecar.http2.frames import CANCEL
from sidecar.inbound_http import InboundHttpRelay
from sidecar.inbound_http2 import InboundHttp2Relay
from sidecar.inbound_relay import InboundOpaqueRelay
from sidecar.limits.paced import Paced, mesh_end
from sidecar.relay import JudgingOwner, Relay, RelayFacts

HOLD_SECONDS: Final = 0.05  # for bytes that may be either, when opaque ones are permitted
HOLD_LIMIT_BYTES: Final = 16 * 1024
STRANGER_SECONDS: Final = 1.0  # for a request to come from a caller to whom nothing is permitted; it is told so by HTTP
DETECT_SECONDS: Final = 5.0  # for a client that may speak nothing but HTTP to say so


HttpInbound = InboundHttpRelay | InboundHttp2Relay
AnyInbound = InboundOpaqueRelay | HttpInbound


class DetectionOwner(JudgingOwner, Protocol):
    """The inbound side."""

    def connect(self, relay: AnyInbound) -> None:
        """Connect a relay to its app."""

    def accept(self, relay: Relay) -> None:
        """Answer CONNECT, although there is no connection to the app."""

    def http_relay(self, before: InboundDetection, spoken: Spoken) -> HttpInbound:
        """A relay that goes on where ``before`` leaves off, registered in its place."""

    def refuse(self, relay: Relay, decision: Deny, detail: str = "") -> None:
        """Deny, and end, a connection that was let in; without ``detail`` for what it is judged again."""


class InboundDetection(InboundOpaqueRelay):
    """See the module. Once the connection is known to be opaque it is an ordinary relay of opaque bytes."""

    owner: DetectionOwner

    def __init__(
        self, owner: DetectionOwner, facts: RelayFacts, caller: Caller, port: Port, detections: Detections
    ) -> None:
        super().__init__(owner, facts, caller, port)
        self._detections = detections
        self._hint = detections.hint(port.port)
        self._line: FirstLine | None = FirstLine()  # None: it is known what this is
        self._spoken: Spoken | None = None
        self.opaque = False  # known to be
        self._permitted = False  # opaque bytes are, so that the app was connected
        self._passing = False
        self._heard = False
        self._held: list[bytes] = []  # of the client
        self._held_size = 0
        self._unread_bytes = 0  # of these, not credited yet
        self._from_app = b""
        self._client_ended = False
        self._drained = False
        self._unavailable: tuple[DenyReason, str] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- policy -------------------------------------------------------------------------------------------------------

    def begin(self, decision: Decision) -> None:
        """``decision``: on opaque bytes from this caller."""
        if not isinstance(decision, Deny):
            self._permit(decision)
            return
        self.owner.accept(self)
        if not self.caller.may_send(self.app_port.port):
            self._wait(STRANGER_SECONDS)

    def judge(self, decision: Decision) -> None:
        """By a new policy; a connection of HTTP has no verdict of its own."""
        if self._spoken is not None:
            return
        if not isinstance(decision, Deny):
            self._permit(decision)
        elif self._permitted:
            self.owner.refuse(self, decision)

    def _permit(self, decision: Decision) -> None:
        self.facts.decision = decision
        if not self._permitted:
            self._permitted = True
            self._cancel()
            self.owner.connect(self)
            if self._held:
                self._hold_on()

    # -- the client speaks --------------------------------------------------------------------------------------------

    def on_data(self, data: bytes | memoryview) -> bool:
        line = self._line
        if self.opaque:
            return super().on_data(data)
        data = bytes(data)
        self._heard = True
        found = line.feed(data) if line is not None else None
        if self._passing:
            self._tell(found)
            return True if self.ended else super().on_data(data)
        # A stream's window bounds what it may send meanwhile; a connection of its own is read on only if that may tell.
        waits_for_app = self._permitted and self.transport is None
        consumed = line is not None and not waits_for_app and isinstance(mesh_end(self.stream), DirectEnd)
        self._held.append(data)
        self._held_size += len(data)
        if not consumed:
            self._unread_bytes += len(data)
        if found is not None:
            self._tell(found)
        elif line is not None:
            self._hold_on()
        return consumed

    def on_end(self) -> None:
        if self.opaque:
            super().on_end()
        elif self._spoken is not None:
            self._client_ended = True
        elif not self._permitted and not self._held:
            if self.stream is not None:
                self.stream.end()
            self.end("closed")  # it came, asked nothing, and left
        else:
            self._become_opaque()  # what never was a request will not become one
            if not self.ended:
                super().on_end()

    def _hold_on(self) -> None:
        too_much = self._held_size > HOLD_LIMIT_BYTES
        if not self._permitted:
            if too_much:
                self._refuse_opaque(f"no beginning of HTTP in {self._held_size} bytes")
        elif too_much or self._hint is Spoken.OPAQUE:
            self._pass()
        else:
            self._wait()

    def _pass(self) -> None:
        if self._unavailable is None:
            self._passing = True
            self._release(super().on_data)

    # -- the app speaks -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.ended or self.opaque:
            return
        if self._spoken is not None:
            self._hand_over(self._spoken)
        elif self._unread_bytes and self.stream is not None and isinstance(mesh_end(self.stream), DirectEnd):
            unread, self._unread_bytes = self._unread_bytes, 0
            self.stream.credit(unread)

    def data_received(self, data: bytes) -> None:
        if self._line is None:
            super().data_received(data)
            return
        self._heard = True
        self._from_app += data
        found = of_server(self._from_app)
        if found is None:
            self._wait()
        else:
            self._tell(found)

    def eof_received(self) -> bool:
        if self._line is not None:
            self._become_opaque()
        return True if self.ended else super().eof_received()

    # -- what it is ---------------------------------------------------------------------------------------------------

    def _tell(self, found: Spoken | None) -> None:
        if found is None:
            return
        if found is Spoken.OPAQUE:
            self._become_opaque()
        elif self._passing:
            late = Deny(DenyReason.PROTOCOL_ERROR)
            self.owner.refuse(self, late, "the first line of a request came in pieces, and some had passed unread")
        else:
            self._become_http(found)

    def _become_opaque(self) -> None:
        decision = self.caller.connection(self.app_port.port)
        if isinstance(decision, Deny):
            self._refuse_opaque("the bytes are no HTTP")
            return
        self._known(Spoken.OPAQUE)
        self.caller.admitted(self.facts, decision)
        self._detections.judged_unread(self.facts, decision, self.caller.shadow_verdict)
        if self._unavailable is not None:
            self.end(*self._unavailable)
            return
        self._release(super().on_data)
        from_app, self._from_app = self._from_app, b""
        if from_app:
            super().data_received(from_app)

    def _become_http(self, spoken: Spoken) -> None:
        self._known(spoken)
        self.facts.decision = None
        being_connected = self._permitted and self.transport is None and self._unavailable is None
        if not being_connected:
            self._hand_over(spoken)

    def _known(self, spoken: Spoken) -> None:
        self._cancel()
        self._line = None
        self._passing = False
        self._spoken = spoken
        self.opaque = spoken is Spoken.OPAQUE
        self.facts.protocol = spoken
        if self._heard:
            self._detections.told(self.app_port.port, self.facts, spoken)

    def _hand_over(self, spoken: Spoken) -> None:
        relay = self.owner.http_relay(self, spoken)
        stream, transport = self.stream, self.transport
        assert stream is not None
        self.ended, self.transport = True, None
        relay.stream, relay.limits, relay.retry_after_seconds = stream, self.limits, self.retry_after_seconds
        if isinstance(stream, Paced):
            stream.relay = relay
        else:
            stream.endpoint = relay  # type: ignore[attr-defined]
        if transport is not None:
            relay.transport = transport
            transport.set_protocol(relay)
        elif self._unavailable is None:
            self.owner.connect(relay)
        self._release(relay.on_data)
        if self._unavailable is not None and not relay.ended:
            relay.unavailable(*self._unavailable)
        if self._from_app and not relay.ended:
            relay.data_received(self._from_app)
        if self._client_ended and not relay.ended:
            relay.on_end()
        if self._drained and not relay.ended:
            relay.drain()

    def _release(self, take: Callable[[bytes], bool]) -> None:
        """Let go on what was held; who takes it and does not consume it owes the credit for it."""
        held, unread = b"".join(self._held), self._unread_bytes
        self._held.clear()
        self._held_size = self._unread_bytes = 0
        if held and take(held) and unread and self.stream is not None:
            self.stream.credit(unread)

    def _refuse_opaque(self, detail: str) -> None:
        decision = self.caller.connection(self.app_port.port)
        if isinstance(decision, Deny):
            self.caller.admitted(self.facts, decision)
            self._detections.judged_unread(self.facts, decision, self.caller.shadow_verdict)
            self.owner.refuse(self, decision, detail)

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float = HOLD_SECONDS) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._waited)

    def _waited(self) -> None:
        self._timer = None
        if self.ended or self._line is None:
            return
        if self._unavailable is not None:
            self.end(*self._unavailable)
        elif not self._permitted:
            self._refuse_opaque("nothing is permitted to the caller here, and no request came that could be told so")
        elif self._from_app:
            self._become_opaque()
        elif self._held:
            self._pass()

    def unavailable(self, reason: DenyReason, detail: str) -> None:
        """The app cannot be had, and nobody would tell the caller: a request that is on its way is answered."""
        self._unavailable = (reason, detail)
        if self.opaque:
            self.end(reason, detail)
        elif self._spoken is not None:
            self._hand_over(self._spoken)
        else:
            self._wait()

    def sweep(self, now: float) -> None:
        super().sweep(now)
        if self._line is not None and not self._permitted and now - self.facts.started > DETECT_SECONDS:
            silent = "no byte" if not self._held else "no whole beginning of HTTP"
            self._refuse_opaque(f"{silent} in {DETECT_SECONDS:.0f} s: no client that may speak nothing but HTTP")

    def drain(self) -> None:
        self._drained = True
        super().drain()

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = CANCEL) -> None:
        self._cancel()
        self._held.clear()
        super().end(reason, detail, abort=abort, code=code)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def declared_or_chosen(port: Port, stream: object) -> PortProtocol:
    """The protocol of the port, or the form of HTTP that a direct caller chose by ALPN."""
    either = port.protocol in (PortProtocol.HTTP, PortProtocol.AUTO)
    if either and isinstance(stream, DirectEnd) and stream.engine is not None:
        alpn = stream.engine.alpn
        if alpn == b"h2":
            return PortProtocol.HTTP2
        if alpn == b"http/1.1":
            return PortProtocol.HTTP
    return port.protocol
