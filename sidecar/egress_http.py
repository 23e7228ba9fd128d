"""Plain HTTP/1.x from the app to a destination outside the mesh, by the forward proxy. Adapter.

Framed, timed and counted like requests to the mesh, and answered here when the destination cannot be had; nothing of it
is judged but where it leads.
"""

from __future__ import annotations

from ringfence.policy.reasons import DenyReason
from sidecar import refusal
from sidecar.egress_relay import EgressOwner, EgressRelay
from sidecar.http1 import Exchange, Heads, Malformed
from sidecar.http2.frames import NO_ERROR
from sidecar.outbound_ending import EndingHttpRelay
from sidecar.recording import Recorder, new_request_id
from sidecar.refusal import Refusal
from sidecar.relay import RelayFacts


class EgressHttpRelay(EndingHttpRelay, EgressRelay):
    """One connection of the app, and one to the destination; they end together."""

    def __init__(
        self,
        owner: EgressOwner,
        facts: RelayFacts,
        address: str,
        port: int,
        heads: Heads,
        recorder: Recorder,
        own_id: str,
    ) -> None:
        EgressRelay.__init__(self, owner, facts, address, port)
        self.inspect(heads, recorder, own_id)

    # -- bytes --------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.facts.bytes_from_app += len(data)
        inspector = self.inspector
        try:
            out = inspector.from_client(data)
        except Exception as error:
            self._defect(error)
            return
        if out:
            self.to_mesh(out)
        if inspector.attention:
            self._attend()
        if inspector.paused and self.transport is not None and not self.ended:
            self.transport.pause_reading()
        self.dropped(len(data))

    def on_data(self, data: bytes) -> bool:
        inspector = self.inspector
        was_paused = inspector.paused
        try:
            out = inspector.from_server(data)
        except Exception as error:
            self._defect(error)
            return True
        done = self.to_app(out, len(data)) if out else True
        if inspector.attention:
            self._attend()
        if was_paused and not inspector.paused and not self.ended:
            self.resumed()
        return done

    # -- ends ---------------------------------------------------------------------------------------------------------

    @property
    def asks_nothing(self) -> bool:
        return self.inspector.idle

    def on_end(self) -> None:
        out = self.inspector.server_eof()
        if out:
            self.to_app(out, 0)
        if self.inspector.attention:
            self._attend()
        if not self.ended and self._lingering_bytes < 0:
            self.end("closed")

    def on_reset(self, code: int) -> None:
        if self._lingering_bytes >= 0:
            return  # the app has its answer
        if self.inspector.idle:
            self.end("closed")
        else:
            self.end(DenyReason.UPSTREAM_UNREACHABLE, f"connection reset, code {code}")

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = NO_ERROR) -> None:
        """Answers what the app has asked, if nothing of its response has come."""
        inspector = self.inspector
        asked = inspector.outstanding() if not self.ended else ()
        known = refusal.known_reason(reason)
        if asked and known is not None:
            if asked[0].status:
                inspector.fail(b"")
            else:
                self.facts.request_id = self.facts.request_id or new_request_id()
                told = Refusal(reason=known, request_id=self.facts.request_id, origin=self._own_id)
                self._refused_by(told, None, asked[0], detail)
                inspector.fail(refusal.http_response(told))
                answer = inspector.take_client()
                if answer:
                    self.to_app(answer, 0)
            abort = inspector.abort
        super().end(reason, detail, abort=abort, code=code)

    # -- the judge ----------------------------------------------------------------------------------------------------

    def request(self, exchange: Exchange) -> bytes | None:
        exchange.started = self._monotonic()
        return b""

    def response(self, exchange: Exchange, status: int) -> None:
        """Counted when it is done."""

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> bytes:
        self._recorder.violation(self.facts, by="server", reason=reason)
        kind = DenyReason.UPSTREAM_UNREACHABLE if reason is Malformed.NO_RESPONSE else DenyReason.PROTOCOL_ERROR
        return self._answer(kind, exchange, detail=f"{reason}: {detail}", status=502)
