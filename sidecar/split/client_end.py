"""The app's side: its HTTP/2 connection ends here, its requests are read and judged. Sans-IO; see `End`."""

from __future__ import annotations

from typing import Final

from sidecar.http2 import frames as h2
from sidecar.http2.answer import Answer
from sidecar.http2.direction import UNREAD_LIMIT_BYTES
from sidecar.http2.frames import PREFACE
from sidecar.http2.guard import APP_BUDGETS, FloodGuard
from sidecar.http2.heads import Entry, Heads
from sidecar.http2.mediation import OWN_SETTINGS, STREAM_LIMIT
from sidecar.http2.messages import count_request, request_head, request_trailers
from sidecar.http2.reading import LARGEST_ID
from sidecar.http2.reasons import ANSWERED, Broken, BrokenError, Malformed, MalformedError
from sidecar.http2.streams import DRAIN_PING
from sidecar.http2.table import Field
from sidecar.split.call import KEPT_CALL_BYTES, Call, Flow
from sidecar.split.calls import Calls
from sidecar.split.end import End

STREAM_WINDOW_BYTES: Final = h2.DEFAULT_WINDOW_BYTES
"""For each request; so what one keeps while its endpoint is slow, or not there yet, is bounded by this."""
HELD_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Content of all requests that no endpoint has taken yet; above this the connection's window stays shut."""
KEPT_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Content of all requests that is kept to be sent again."""


class ClientEnd(End):
    """See the module's docstring."""

    __slots__ = ("_prefaced", "goaway_last_id", "held_bytes", "kept_bytes", "last_id", "withheld_bytes")

    unread_limit_bytes = 2 * UNREAD_LIMIT_BYTES  # endpoints that fill it are cut off before it is (`Splitter.from_leg`)

    def __init__(self, calls: Calls, heads: Heads) -> None:
        super().__init__(calls, heads, FloodGuard(calls.monotonic, APP_BUDGETS), heads.request_table)
        self.last_id = 0
        """Highest stream id that the client has used."""
        self.goaway_last_id = LARGEST_ID
        """As told to the client last; it may only fall."""
        self.held_bytes = 0
        self.kept_bytes = 0
        self.withheld_bytes = 0
        """Of the connection's window: kept back while too much is held."""
        self._prefaced = False

    @property
    def greeted(self) -> bool:
        """The client has shown that it speaks HTTP/2, and has been sent SETTINGS."""
        return self._prefaced

    def feed(self, data: bytes) -> None:
        if not self._prefaced:
            if self._have:
                data = self.gather(data)
                if not data:
                    return
            if len(data) < len(PREFACE):
                if not PREFACE.startswith(data):
                    raise BrokenError(h2.PROTOCOL_ERROR, Broken.NO_PREFACE, "no HTTP/2 preface")
                self.keep(data, len(PREFACE))
                return
            if not data.startswith(PREFACE):
                raise BrokenError(h2.PROTOCOL_ERROR, Broken.NO_PREFACE, "no HTTP/2 preface")
            self._prefaced = True
            self.greet(OWN_SETTINGS)
            data = data[len(PREFACE) :]
        super().feed(data)

    # --- requests ---

    def whole_block(self, stream_id: int, end: bool, block: bytes) -> None:
        entry = self.known(block)
        if entry is None or entry.after is not None:
            entry = self.read(block)
        calls = self.calls
        if stream_id <= self.last_id:
            self._trailers(stream_id, end, block, entry)
            return
        if not stream_id & 1:
            raise BrokenError(h2.PROTOCOL_ERROR, Broken.STREAM_ID, f"request on stream {stream_id}")
        self.last_id = stream_id
        if calls.turning_away or len(self.streams) >= STREAM_LIMIT:
            self._turn_away(stream_id, end)
            return
        head = entry.request
        if head is None or not head.bare:
            try:
                head = request_head(self.heads, entry, end, connect_offered=False)
            except MalformedError as error:
                self.malformed_request(stream_id, not end, entry.fields, error)
                return
        call = Call(stream_id, head, len(block), window=self.peer_window_bytes, granted=STREAM_WINDOW_BYTES)
        if end:
            call.request_open = False
            call.up.ending = True
        self.streams[stream_id] = call
        inserted = calls.judge.request(call)
        if inserted is None:
            calls.refused(call)
            return
        call.block = call.fields.literal + inserted if inserted else call.fields.literal
        calls.place(call)

    def _trailers(self, stream_id: int, end: bool, block: bytes, entry: Entry) -> None:
        call = self.streams.get(stream_id)
        if call is None:
            self.late_passes(stream_id, end)
            return
        try:
            trailers = request_trailers(self.heads, call, entry, end)
        except MalformedError as error:
            self.fault(call, error)
            return
        call.request_bytes += len(block)
        call.request_open = False
        up = call.up
        if up.stream_id and call.leg is not None:
            call.leg.send_trailers(up, trailers.literal)
            call.leg.settle(call)
        elif not up.done:
            up.wait(b"", end=True)
            up.trailers = trailers.literal
        self.settle(call)

    def _turn_away(self, stream_id: int, end: bool) -> None:
        """Leave a request unprocessed; the client may try it again elsewhere, or later."""
        if self.calls.turning_away:
            if not end:
                self.remember_late(stream_id, passes=False)
            return
        self.reset(stream_id, h2.REFUSED_STREAM, request_open=not end)
        self.calls.spend_reset()

    def take_data(self, call: Call, content: bytes, length: int, end: bool) -> None:
        self.arrived(length)
        call.granted_bytes -= length
        if call.granted_bytes < 0:
            raise BrokenError(h2.FLOW_CONTROL_ERROR, Broken.FLOW_CONTROL, "more than the stream's window")
        size = len(content)
        flaw = count_request(call, size, end)
        if flaw is not None:
            self.consumed(length)
            self.fault(call, MalformedError(flaw, f"DATA of {size} bytes" + " and the end" * end))
            return
        if end:
            call.request_open = False
        if call.kept is not None:
            self._keep(call, content, size)
        up = call.up
        if up.stream_id and call.leg is not None:
            sent = call.leg.send(up, content, end=end)
            if up.done:
                call.leg.settle(call)
        elif up.done:
            sent = size  # the endpoint wants no more of it
        else:
            sent = 0
            up.wait(content, end=end)
        held, self.held_bytes = self.held_bytes, self.held_bytes + size - sent
        if held <= HELD_LIMIT_BYTES < self.held_bytes:
            self._cancel_answered()
        if self.held_bytes > HELD_LIMIT_BYTES:
            self.withheld_bytes += length
        else:
            self.consumed(length)
        if end:
            self.settle(call)
        else:
            self.give_back(call, sent + length - size)

    def _keep(self, call: Call, content: bytes, size: int) -> None:
        if call.kept_bytes + size > KEPT_CALL_BYTES or self.kept_bytes + size > KEPT_LIMIT_BYTES:
            self.forget_kept(call)
        elif size and call.kept is not None:
            call.kept.append(content)
            call.kept_bytes += size
            self.kept_bytes += size

    def forget_kept(self, call: Call) -> None:
        """The request will not be sent again."""
        call.kept = None
        self.kept_bytes -= call.kept_bytes
        call.kept_bytes = 0

    def released(self, call: Call, sent_bytes: int) -> None:
        """``sent_bytes`` of the request that were held are out of our hands."""
        if not sent_bytes:
            return
        self.held_bytes -= sent_bytes
        if self.withheld_bytes and self.held_bytes <= HELD_LIMIT_BYTES:
            withheld, self.withheld_bytes = self.withheld_bytes, 0
            self.consumed(withheld)
        self.give_back(call, sent_bytes)

    def let_go(self, call: Call) -> None:
        """A call is over, and something is held of its request."""
        if not call.up.stream_id:  # it waited, or came back in vain
            self.released(call, self.drop(call.up))
        elif call.leg is not None and self.held_bytes > HELD_LIMIT_BYTES:
            call.leg.cancel(call, h2.CANCEL)

    def _cancel_answered(self) -> None:
        """Too much is held: requests whose answers the client has, but which no endpoint read to the end, go first."""
        for leg in self.calls.living_legs():
            for call in [call for call in leg.streams.values() if call.stream_id not in self.streams]:
                leg.cancel(call, h2.CANCEL)

    def give_back(self, call: Call, length: int) -> None:
        """The client may have ``length`` of the stream's window back."""
        call.owed_bytes += length
        if call.owed_bytes >= STREAM_WINDOW_BYTES // 2 and call.request_open and call.stream_id in self.streams:
            call.granted_bytes += call.owed_bytes
            self.put(h2.window_update(call.stream_id, call.owed_bytes))
            call.owed_bytes = 0

    # --- responses ---

    def flow_to_peer(self, call: Call) -> Flow:
        return call.down

    def opened(self, call: Call, increment: int) -> None:
        if call.up.stream_id and call.response_open and call.leg is not None:
            call.leg.put(h2.window_update(call.up.stream_id, increment))

    def pushed(self, flow: Flow, sent_bytes: int) -> None:
        call = flow.call
        if call.leg is not None:
            call.leg.consumed(sent_bytes)
        if flow.done:
            self.settle(call)

    def settle(self, call: Call) -> None:
        """The call is over for the client if both its messages are."""
        if not call.down.done:
            return
        if call.reset_code is not None:
            self.reset(call.stream_id, call.reset_code, request_open=call.request_open)
            self.calls.finish(call)
        elif not call.request_open:
            self.calls.finish(call)

    def reset(self, stream_id: int, code: int, *, request_open: bool) -> None:
        """End a stream, and drop what the client sends on it until it reads that."""
        self.put(h2.rst_stream(stream_id, code))
        if request_open:
            self.remember_late(stream_id, passes=False)

    def goaway(self, last_id: int, code: int, debug: bytes = b"") -> None:
        self.goaway_last_id = min(self.goaway_last_id, last_id)
        self.put(h2.goaway(self.goaway_last_id, code, debug))

    # --- words for it ---

    def tell(self, call: Call, answer: Answer | None, code: int) -> None:
        """End the client's side: by ``answer`` as far as the response has room for one, else by a reset."""
        answered = answer is not None and call.response_open and (not call.status or call.grpc)
        if answered and answer is not None:
            if call.status:
                self.put_head(call.stream_id, answer.trailers(), end=True)
            else:
                self._answer(call.stream_id, answer, call.down.window, grpc=call.grpc, head=call.method == b"HEAD")
            call.local = answer
            if call.request_open:
                self.reset(call.stream_id, h2.NO_ERROR, request_open=True)
        else:
            self.reset(call.stream_id, code, request_open=call.request_open)

    def _answer(self, stream_id: int, answer: Answer, window: int, *, grpc: bool, head: bool) -> None:
        """A whole response in the place of an endpoint."""
        if grpc:
            self.put_head(stream_id, answer.trailers_only(), end=True)
            return
        size = len(answer.content)
        fits = not (head or self.full or self.waiting)
        fits = fits and 0 < size <= min(window, self.send_window, self.peer_frame_bytes)
        self.put_head(stream_id, answer.head(with_content=fits), end=not fits)
        if fits:
            self.send_window -= size
            self.put(h2.frame(h2.DATA, h2.FLAG_END_STREAM, stream_id, answer.content))

    def malformed_request(self, stream_id: int, open_: bool, fields: list[Field], error: MalformedError) -> None:
        """The client's new request is refused for its form: no call comes of it."""
        answer = self.calls.judge.malformed(error.reason, error.detail)
        if not self.calls.spend_reset():
            return
        if error.reason not in ANSWERED:
            self.reset(stream_id, h2.PROTOCOL_ERROR, request_open=open_)
            return
        grpc = any(name == b"content-type" and value.startswith(b"application/grpc") for name, value in fields)
        head = (b":method", b"HEAD") in fields
        self._answer(stream_id, answer, self.peer_window_bytes, grpc=grpc, head=head)
        if open_:
            self.reset(stream_id, h2.NO_ERROR, request_open=True)

    # --- early ends ---

    def take_reset(self, call: Call, code: int) -> None:
        call.cut = call.response_open
        if call.leg is not None:
            call.leg.cancel(call, code)
        if call.cut and not self.calls.spend_reset():
            return
        self.calls.finish(call)

    def fault(self, call: Call, error: MalformedError) -> None:
        calls = self.calls
        calls.judge.malformed(error.reason, error.detail)
        if not calls.spend_reset():
            return
        code = h2.STREAM_CLOSED if error.reason is Malformed.STREAM_CLOSED else h2.PROTOCOL_ERROR
        calls.end(call, None, client_code=code, leg_code=h2.CANCEL)

    # --- the connection ---

    def check_not_idle(self, stream_id: int) -> None:
        if not stream_id & 1 or stream_id > self.last_id:
            raise BrokenError(h2.PROTOCOL_ERROR, Broken.STREAM_ID, f"frame on idle stream {stream_id}")

    def take_goaway(self, last_id: int, code: int, debug: bytes) -> None:
        """It speaks of pushes, and there are none."""

    def settings_changed(self, values: dict[int, int]) -> None:
        if h2.SETTING_INITIAL_WINDOW_SIZE in values:
            self.calls.tell_window(self.peer_window_bytes)

    def ping_acked(self, opaque: bytes) -> None:
        if opaque == DRAIN_PING:
            self.calls.drain_seen()
