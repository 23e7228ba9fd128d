"""One endpoint's side: an HTTP/2 connection that begins here, on which the requests for that endpoint go. Sans-IO; see
`End`.

It takes requests from the endpoint's first SETTINGS on (so a request that found no endpoint was never sent) until one
side goes away; requests that it has go on then.
"""

from __future__ import annotations

from typing import Final

from ringfence.routing.model import RetryOn
from sidecar.balance import Member, Outcome
from sidecar.http2 import frames as h2
from sidecar.http2.frames import PREFACE
from sidecar.http2.guard import APP_BUDGETS, FloodGuard
from sidecar.http2.head import UNANNOUNCED
from sidecar.http2.heads import LIST_LIMIT_BYTES, Heads
from sidecar.http2.mediation import STREAM_LIMIT
from sidecar.http2.messages import count_response, response_head, response_trailers
from sidecar.http2.reading import LARGEST_ID
from sidecar.http2.reasons import Broken, BrokenError, MalformedError
from sidecar.split.call import Call, Flow
from sidecar.split.calls import Calls
from sidecar.split.end import End
from sidecar.split.judge import Unprocessed

_PROVOKED: Final = frozenset({h2.PROTOCOL_ERROR, h2.FLOW_CONTROL_ERROR, h2.STREAM_CLOSED, h2.FRAME_SIZE_ERROR})


class Leg(End):
    """See the module's docstring. The adapter may keep its own side in ``carrier``."""

    __slots__ = (
        "_next_id",
        "_stream_limit",
        "began_at",
        "carrier",
        "late_to_open",
        "leaving",
        "member",
        "peer",
        "ready",
        "told_window_bytes",
    )

    def __init__(self, calls: Calls, heads: Heads, member: Member, window_bytes: int) -> None:
        super().__init__(calls, heads, FloodGuard(calls.monotonic, APP_BUDGETS), heads.response_table)
        self.member = member
        self.peer = str(member.endpoint.spiffe_id)
        self.began_at = calls.monotonic()
        self.carrier: object = None
        self.ready = False
        """The endpoint's first SETTINGS have come."""
        self.late_to_open = False
        """It has had its time to get ready: nobody waits for it alone any more."""
        self.leaving = False
        """It takes no new requests."""
        self.told_window_bytes = window_bytes
        """The initial window of a stream that the endpoint knows: the client's."""
        self._next_id = 1
        self._stream_limit = STREAM_LIMIT
        self.out.append(PREFACE)
        self.greet(
            {
                h2.SETTING_ENABLE_PUSH: 0,
                h2.SETTING_INITIAL_WINDOW_SIZE: window_bytes,
                h2.SETTING_MAX_HEADER_LIST_SIZE: LIST_LIMIT_BYTES,
            }
        )

    @property
    def takes(self) -> bool:
        """Whether a request may begin on it now."""
        return (
            self.ready
            and not self.leaving
            and not self.closed
            and not self.full
            and len(self.streams) < self._stream_limit
            and self._next_id <= LARGEST_ID
        )

    # --- requests ---

    def begin(self, call: Call) -> None:
        """Send a request that has waited until now."""
        stream_id = self._next_id
        self._next_id = stream_id + 2
        self.streams[stream_id] = call
        call.leg = self
        up = call.up
        up.stream_id = stream_id
        up.window = self.peer_window_bytes
        if up.ending and not up.pending and up.trailers is None:
            up.pending = None
            up.done = True
            self.put_head(stream_id, call.block, end=True)
        else:
            self.put_head(stream_id, call.block, end=False)
        opened = call.down.window - self.told_window_bytes
        if opened > 0:
            self.put(h2.window_update(stream_id, opened))
        if up.pending is not None:
            self.pushed(up, self.push(up))

    def flow_to_peer(self, call: Call) -> Flow:
        return call.up

    def opened(self, call: Call, increment: int) -> None:
        """The client's window is its own matter: what is held here of the request goes out."""

    def pushed(self, flow: Flow, sent_bytes: int) -> None:
        self.calls.client.released(flow.call, sent_bytes)
        if flow.done:
            self.settle(flow.call)

    def settle(self, call: Call) -> None:
        """The call is over for the endpoint if both its messages are."""
        if call.up.done and not call.response_open and call.up.stream_id:
            self.release(call, answered(call))

    def release(self, call: Call, outcome: Outcome) -> None:
        """The stream is gone."""
        up = call.up
        del self.streams[up.stream_id]
        up.stream_id = 0
        calls = self.calls
        seconds = call.head_seconds if call.status else calls.monotonic() - call.begun
        calls.chooser.ended(self.member, seconds, outcome)
        if self.leaving:
            if not self.streams:
                calls.close_leg(self)
        elif calls.waiting:
            calls.freed(self)

    def cancel(self, call: Call, code: int) -> None:
        """End the stream, if there is one, before its time."""
        up = call.up
        if up.stream_id:
            self.put(h2.rst_stream(up.stream_id, code))
            self.calls.client.released(call, self.drop(up))
            if call.response_open:
                self.remember_late(up.stream_id, passes=False)
            self.release(call, Outcome.UNKNOWN)

    # --- responses ---

    def whole_block(self, stream_id: int, end: bool, block: bytes) -> None:
        entry = self.known(block)
        if entry is None or entry.after is not None:
            entry = self.read(block)
        call = self.streams.get(stream_id)
        if call is None:
            self.late_passes(stream_id, end)
            return
        if not call.response_open:
            raise BrokenError(h2.STREAM_CLOSED, Broken.STREAM_CLOSED, "HEADERS after the end of the response")
        client = self.calls.client
        try:
            if call.status:
                head = response_trailers(self.heads, call, entry, end)
                client.send_trailers(call.down, head.literal)
            else:
                head = response_head(self.heads, call, entry, end)
                if head.status >= 500 and call.kept is not None and self._repeated(call, end):
                    return
                client.forget_kept(call)
                if head.status >= 200:
                    call.head_seconds = self.calls.monotonic() - call.begun
                    self.calls.judge.response(call, head.status)
                client.put_head(call.stream_id, head.literal, end=end)
                call.down.done = end
        except MalformedError as error:
            self.fault(call, error)
            return
        call.response_bytes += len(block)
        if end:
            self._ended(call)

    def _repeated(self, call: Call, end: bool) -> bool:
        """Whether a request that was answered by 5xx has gone to another endpoint: then nobody hears of the answer."""
        status, left, told = call.status, call.response_left, call.refusal
        after = [RetryOn.SERVER_ERROR]
        if status in (502, 503, 504):
            after.insert(0, RetryOn.GATEWAY_ERROR)
        if told is not None:
            after.insert(0, RetryOn.RESET_BEFORE_RESPONSE)  # by the sidecar there, for an app that broke off
        grpc_status, stream_id = call.grpc_status, call.up.stream_id
        call.status, call.response_left, call.refusal, call.grpc_status = 0, UNANNOUNCED, None, None
        outcome = Outcome.FAILED if told is not None else Outcome.ERROR
        code = None if end and call.up.done else h2.CANCEL
        if self.calls.repeat(call, after, outcome, code):
            if end:
                self.late.pop(stream_id, None)  # nothing more comes of it
            return True
        call.status, call.response_left, call.refusal, call.grpc_status = status, left, told, grpc_status
        return False

    def take_data(self, call: Call, content: bytes, length: int, end: bool) -> None:
        self.arrived(length)
        size = len(content)
        flaw = count_response(call, size, end)
        if flaw is not None:
            self.consumed(length)
            self.fault(call, MalformedError(flaw, f"DATA of {size} bytes" + " and the end" * end))
            return
        sent = self.calls.client.send(call.down, content, end=end) + length - size
        if sent:
            self.consumed(sent)
        if end:
            self._ended(call)
        elif length > size:
            self.put(h2.window_update(call.up.stream_id, length - size))

    def _ended(self, call: Call) -> None:
        call.response_open = False
        self.settle(call)
        self.calls.client.settle(call)

    # --- early ends ---

    def take_reset(self, call: Call, code: int) -> None:
        calls = self.calls
        client = calls.client
        if code == h2.REFUSED_STREAM and call.response_open and not call.status:
            calls.unprocessed(call, Unprocessed.REFUSED_STREAM)
            return
        if calls.repeat(call, (RetryOn.RESET_BEFORE_RESPONSE,), Outcome.FAILED):
            if code in _PROVOKED:
                calls.spend_reset()
            return
        client.released(call, self.drop(call.up))
        if not call.response_open:
            self.release(call, answered(call))
            if call.stream_id in client.streams:
                call.reset_code = code
                client.settle(call)
            return
        self.release(call, Outcome.FAILED)
        call.cut = True
        self.consumed(client.drop(call.down))
        client.reset(call.stream_id, code, request_open=call.request_open)
        if code in _PROVOKED and not calls.spend_reset():
            return  # the endpoint found fault with what the client sent, once too often (CVE-2025-8671)
        calls.finish(call)

    def fault(self, call: Call, error: MalformedError) -> None:
        calls = self.calls
        if call.stream_id not in calls.client.streams:  # it has its response; only the endpoint still reads of it
            self.cancel(call, h2.PROTOCOL_ERROR)
            return
        answer = calls.judge.bad_response(call, error.reason, error.detail)
        calls.end(call, answer, client_code=h2.INTERNAL_ERROR, leg_code=h2.PROTOCOL_ERROR)

    # --- the connection ---

    def check_not_idle(self, stream_id: int) -> None:
        if not stream_id & 1 or stream_id >= self._next_id:
            raise BrokenError(h2.PROTOCOL_ERROR, Broken.STREAM_ID, f"frame on idle stream {stream_id}")

    def take_goaway(self, last_id: int, code: int, debug: bytes) -> None:
        """Requests above ``last_id`` were not processed, and are sent elsewhere."""
        calls = self.calls
        calls.leave(self)
        for call in [call for call in self.streams.values() if call.up.stream_id > last_id and call.response_open]:
            calls.unprocessed(call, Unprocessed.GOAWAY)

    def settings_changed(self, values: dict[int, int]) -> None:
        limit = values.get(h2.SETTING_MAX_CONCURRENT_STREAMS)
        if limit is not None:
            self._stream_limit = min(limit, STREAM_LIMIT)
        if values.get(h2.SETTING_ENABLE_PUSH):
            raise BrokenError(h2.PROTOCOL_ERROR, Broken.PROTOCOL, "a server that enables push")
        if not self.ready:
            self.ready = True
            self.calls.leg_ready(self)
        elif self.calls.waiting:
            self.calls.freed(self)

    def tell_window(self, window_bytes: int) -> None:
        """The client has another initial window for its streams."""
        self.told_window_bytes = window_bytes
        self.settings_unacked += 1
        self.put(h2.settings({h2.SETTING_INITIAL_WINDOW_SIZE: window_bytes}))


def answered(call: Call) -> Outcome:
    """What a whole response says of its endpoint."""
    return call.outcome or (Outcome.ERROR if call.status >= 500 else Outcome.ANSWERED)
