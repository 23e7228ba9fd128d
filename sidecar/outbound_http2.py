"""HTTP/2 from the app to the mesh: framed, timed, counted; answered here when the mesh cannot deliver. Adapter."""

from __future__ import annotations

from ringfence.policy.reasons import DenyReason
from sidecar.balance import Member
from sidecar.http2 import Heads, Inspector
from sidecar.http2.frames import NO_ERROR
from sidecar.http2_relay import answer_of
from sidecar.openers import Openers
from sidecar.outbound_judge import OutboundHttp2Judge
from sidecar.outbound_relay import OutboundRelay
from sidecar.recording import Recorder, new_request_id
from sidecar.refusal import Refusal
from sidecar.relay import RelayFacts, RelayOwner
from sidecar.target import Target


class OutboundHttp2Relay(OutboundHttp2Judge, OutboundRelay):
    """Requests from the app to the mesh; the stream is opened with the client's first bytes."""

    alpn = b"h2"
    inspector: Inspector

    def __init__(
        self,
        owner: RelayOwner,
        facts: RelayFacts,
        openers: Openers,
        target: Target,
        member: Member,
        heads: Heads,
        recorder: Recorder,
        own_id: str,
    ) -> None:
        OutboundRelay.__init__(self, owner, facts, openers, target, member)
        self._asked = False
        self.inspect(heads, recorder, own_id)
        self.limit(target)

    def open_on_connect(self) -> bool:
        return False

    def endpoints_changed(self) -> None:
        """It leads to one endpoint: if there are others now, or none, the client's next connection goes by them."""
        if self._target.balancer.single is None:
            self.drain()

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
            stream = self.stream
            if stream is None:
                self.to_mesh(out)
                self._ask()
            elif self._resend is not None:
                self.to_mesh(out)
            elif not stream.send(out) and self.transport is not None:
                self.transport.pause_reading()
        if inspector.attention:
            self._attend()

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            if self.shut_out:
                self.refused(DenyReason.CIRCUIT_OPEN, "as many connections are open as the route permits")
                return
            self.open_stream()
            if self.stream is not None:
                self.stream_opened()
                self.on_writable()

    def on_data(self, data: bytes) -> bool:
        inspector = self.inspector
        try:
            out = inspector.from_server(data)
        except Exception as error:
            self._defect(error)
            return True
        done = True
        if out:
            done = self.to_app(out, len(data))
        if inspector.attention:
            self._attend()
        return done

    def _attend(self) -> None:
        inspector = self.inspector
        answer = inspector.take_client()
        if answer:
            self.to_app(answer, 0)
        forward = inspector.take_server()
        if forward and self.stream is not None:
            self.to_mesh(forward)
        elif forward and self._asked:
            self._unsent.append(forward)  # as the end of a request that waits for the stream
        if inspector.close_after and not self.ended:
            self.end("closed")

    # -- ends ---------------------------------------------------------------------------------------------------------

    def app_end(self) -> None:
        out = self.inspector.client_eof()
        if out and self.stream is not None:
            self.stream.send(out)
        self._attend()
        if self.ended:
            return
        if self.stream is None and not self._asked:
            self.end("closed")
        else:
            super().app_end()

    def on_end(self) -> None:
        out = self.inspector.server_eof()
        if out:
            self.to_app(out, 0)
        self._attend()
        if not self.ended:
            super().on_end()

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = NO_ERROR) -> None:
        self._limits.stop()
        super().end(reason, detail, abort=abort, code=code)

    def refused(self, reason: str, detail: str) -> None:
        """Answer all that the app has asked; what the mesh did to this connection is the answer's reason."""
        if self.ended:
            return
        inspector = self.inspector
        if inspector.outstanding():
            told = Refusal(
                reason=reason,
                request_id=self.facts.request_id or new_request_id(),
                origin=self.facts.origin or self._own_id,
                retry_after_seconds=self.retry_after_seconds,
            )
            self._refused_by(told, None, None, detail)
            inspector.fail(answer_of(told))
            answer = inspector.take_client()
            if answer:
                self.to_app(answer, 0)
        self.end(reason, detail)

    def on_reset(self, code: int) -> None:
        if self.taken_back(code):
            return
        link = self._link
        if link is not None and link.closed and link.end_reason is not None:
            self.refused(link.end_reason, link.end_detail)
        elif self.inspector.idle:
            super().on_reset(code)
        else:
            self.refused(DenyReason.UPSTREAM_UNREACHABLE, f"stream reset, code {code}")

    @property
    def busy(self) -> bool:
        return not self.inspector.idle
