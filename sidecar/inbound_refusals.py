"""How the inbound side says no: to whom it is told, in which words, logged and counted. Adapter.

A CONNECT is answered, and the reason goes with it; a stream that was let in learns it by trailers, if its other end is
a sidecar of ours; a caller without a tunnel is answered in HTTP by its relay, or sees its connection end.
"""

from __future__ import annotations

from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from sidecar import refusal
from sidecar.direct import DirectEnd
from sidecar.http2.frames import CONNECT_ERROR, NO_ERROR
from sidecar.inbound_detection import AnyInbound, InboundDetection
from sidecar.inbound_http import InboundHttpRelay
from sidecar.inbound_http2 import InboundHttp2Relay
from sidecar.limits.paced import mesh_end
from sidecar.recording import Recorder, new_request_id
from sidecar.refusal import Refusal
from sidecar.relay import ByteStream, RelayFacts
from sidecar.tunnel.stream import Stream


class InboundRefusals:
    """Of one sidecar."""

    def __init__(self, recorder: Recorder, own_id: str) -> None:
        self._recorder = recorder
        self._own_id = own_id

    def refuse(
        self, stream: Stream | DirectEnd, facts: RelayFacts, decision: Deny, retry_after_seconds: int = 0
    ) -> None:
        """Answer a CONNECT that policy forbids, and end its stream; a direct caller sees a close."""
        self._recorder.connection_judged(facts, decision)
        self.deny(facts, decision, None)
        if isinstance(stream, Stream):
            self._answer(stream, decision.reason, facts.request_id, retry_after_seconds)
        else:
            stream.close()

    def unavailable(self, relay: AnyInbound, reason: DenyReason, detail: str) -> None:
        """Answer a CONNECT whose app cannot be had; a direct caller is answered in HTTP, or sees a reset."""
        if relay.ended:
            return
        relay.facts.request_id = new_request_id()
        relay.facts.origin = self._own_id
        if relay.transport is not None:  # it was there for a moment, and CONNECT has its answer
            relay.end(reason, detail, abort=True, code=CONNECT_ERROR)
        elif isinstance(stream := mesh_end(relay.stream), Stream) and not stream.replied:
            self._answer(stream, reason, relay.facts.request_id)
        elif isinstance(relay, InboundHttpRelay | InboundHttp2Relay | InboundDetection):
            relay.unavailable(reason, detail)
            return
        relay.end(reason, detail)

    def deny(self, facts: RelayFacts, decision: Deny, stream: ByteStream | None, detail: str = "") -> None:
        """Log and count a denial; on a living stream tell the caller's sidecar by trailers."""
        facts.decision = decision
        facts.request_id = facts.request_id or new_request_id()
        facts.origin = self._own_id
        self._recorder.connection_denied(facts, decision, detail=detail)
        if isinstance(stream, Stream) and stream.machine.peer_is_ringfence:
            told = Refusal(reason=decision.reason, request_id=facts.request_id, origin=facts.origin)
            stream.machine.reply(stream, [(refusal.HEADER, told.header_value())], end=True)

    def _answer(self, stream: Stream, reason: DenyReason, request_id: str, retry_after_seconds: int = 0) -> None:
        told = Refusal(reason=reason, request_id=request_id, origin=self._own_id)
        status = str(refusal.status_of(reason)).encode()
        headers = [(b":status", status), (refusal.HEADER, told.header_value())]
        if retry_after_seconds:
            headers.append((refusal.RETRY_AFTER, b"%d" % retry_after_seconds))
        stream.machine.reply(stream, headers, end=True)
        stream.reset(NO_ERROR)
