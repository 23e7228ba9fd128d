"""One HTTP/2 connection that ends here, as each end of it does: settings, pings, windows, output. Sans-IO.

`ClientEnd` and `Leg` are its two kinds. Windows: of a stream's content they are end to end (what the receiver opens is
told to the sender; a message waits for nobody but its own receiver), of a connection they are local.

Output. Frames gather in ``out`` until the adapter takes them. While the adapter says that the connection is ``full``,
content waits in its `Flow`; frames about the connection and header blocks still go out, and are counted: an end that
has masses of them made and reads none is cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.http2 import frames as h2
from sidecar.http2.direction import CREDIT_FOR_FRAME, CREDIT_LIMIT, UNREAD_LIMIT_BYTES
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodError, FloodGuard
from sidecar.http2.heads import Heads
from sidecar.http2.literal import SIZE_UPDATE_ZERO
from sidecar.http2.reading import LARGEST_ID, SMALLEST_UPDATE_BYTES, FrameReader, pack_header, unpack_header
from sidecar.http2.reasons import Broken, BrokenError, Malformed, MalformedError
from sidecar.http2.table import DEFAULT_TABLE_BYTES, Table
from sidecar.split.call import Call, Flow

if TYPE_CHECKING:
    from sidecar.split.calls import Calls

WINDOW_BYTES: Final = 1024 * 1024
"""Of each connection, for what its peer sends; so what is held of one that fills it is bounded by this."""
_CREDIT_AT_BYTES: Final = WINDOW_BYTES // 2
_OPEN_BYTES: Final = 4096
"""A window of this size needs no small update, and may have any number."""


class End(FrameReader):
    """See the module's docstring."""

    __slots__ = (
        "_must_clear",
        "calls",
        "closed",
        "credit",
        "full",
        "out",
        "owed_bytes",
        "peer_frame_bytes",
        "peer_window_bytes",
        "send_window",
        "settings_unacked",
        "streams",
        "touched",
        "unread_bytes",
        "waiting",
        "window",
    )

    def __init__(self, calls: Calls, heads: Heads, guard: FloodGuard, table: Table) -> None:
        super().__init__(heads, guard, table)
        self.calls = calls
        self.streams: dict[int, Call] = {}
        self.out: list[bytes] = []
        self.touched = False
        """There is output since the adapter looked last."""
        self.closed = False
        """No more is read of this connection, or written to it behind what is in ``out``."""
        self.full = False
        self.unread_bytes = 0
        self.credit = CREDIT_LIMIT
        self.window = h2.DEFAULT_WINDOW_BYTES
        """What the peer may still send on the connection."""
        self.owed_bytes = 0
        """What it sent and was not given back."""
        self.send_window = h2.DEFAULT_WINDOW_BYTES
        self.peer_window_bytes = h2.DEFAULT_WINDOW_BYTES
        """Of a new stream."""
        self.peer_frame_bytes = h2.DEFAULT_FRAME_BYTES
        self.settings_unacked = 0
        self.waiting: dict[Flow, None] = {}
        """Those that only the connection's window, or its being full, keeps from sending; each in its turn."""
        self._must_clear = False

    # --- output ---

    def put(self, frames: bytes) -> None:
        self.out.append(frames)
        if not self.touched:
            self.calls.touch(self)
        if self.full:
            self.unread_bytes += len(frames)

    def take(self) -> bytes:
        """All that there is for the peer."""
        self.touched = False
        out = self.out
        if not out:
            return b""
        joined = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return joined

    def greet(self, values: dict[int, int]) -> None:
        """The first SETTINGS, and a connection window that is worth having."""
        self.settings_unacked += 1
        self.window = WINDOW_BYTES
        self.put(h2.settings(values) + h2.window_update(0, WINDOW_BYTES - h2.DEFAULT_WINDOW_BYTES))

    def put_head(self, stream_id: int, block: bytes, *, end: bool) -> None:
        """A header block of literals."""
        if self._must_clear:
            self._must_clear = False
            block = SIZE_UPDATE_ZERO + block
        length = len(block)
        if length > self.peer_frame_bytes:
            self.put(h2.header_frames(stream_id, block, end=end, limit_bytes=self.peer_frame_bytes))
        else:
            self.put(pack_header(length >> 8, length & 0xFF, h2.HEADERS, 5 if end else 4, stream_id) + block)

    def send(self, flow: Flow, content: bytes, *, end: bool) -> int:
        """Send ``content`` now or as soon as the windows let it; the bytes that are out."""
        size = len(content)
        if (
            flow.pending is None
            and size <= flow.window
            and size <= self.send_window
            and size <= self.peer_frame_bytes
            and not self.full
        ):
            flow.window -= size
            self.send_window -= size
            self.out += (pack_header(size >> 8, size & 0xFF, 0, 1 if end else 0, flow.stream_id), content)
            if not self.touched:
                self.calls.touch(self)
            self.credit += CREDIT_FOR_FRAME
            if end:
                flow.done = True
            return size
        flow.wait(content, end=end)
        return self.push(flow)

    def send_trailers(self, flow: Flow, block: bytes) -> None:
        """End the message with trailers, behind its content."""
        flow.ending = True
        flow.trailers = block
        if flow.pending is None:
            self.put_head(flow.stream_id, block, end=True)
            flow.done = True

    def push(self, flow: Flow, frames: int = 1 << 30) -> int:
        """Send at most ``frames`` frames of what is pending; the bytes that are out now and were not before."""
        pending = flow.pending
        if pending is None:
            return 0
        sent = 0
        while pending and frames:
            frames -= 1
            size = min(flow.window, self.send_window, self.peer_frame_bytes)
            if size <= 0 or self.full:
                break
            first = pending.popleft()
            if len(first) > size:
                # A memoryview keeps cutting a large piece linear in its size.
                view = memoryview(first)
                pending.appendleft(view[size:])  # type: ignore[arg-type]
                first = view[:size]  # type: ignore[assignment]
            size = len(first)
            flow.window -= size
            self.send_window -= size
            self.credit += CREDIT_FOR_FRAME
            sent += size
            last = flow.ending and not pending and flow.trailers is None
            if last:
                flow.done = True
            self.put(pack_header(size >> 8, size & 0xFF, 0, 1 if last else 0, flow.stream_id))
            self.out.append(first)
        if pending:
            if flow.window > 0:
                self.waiting[flow] = None
            else:
                self.waiting.pop(flow, None)
        else:
            flow.pending = None
            self.waiting.pop(flow, None)
            if flow.trailers is not None:
                self.put_head(flow.stream_id, flow.trailers, end=True)
                flow.done = True
            elif flow.ending and not flow.done:
                self.put(h2.frame(h2.DATA, h2.FLAG_END_STREAM, flow.stream_id))
                flow.done = True
        again = min(sent, flow.again_bytes)
        flow.again_bytes -= again
        return sent - again

    def push_waiting(self) -> None:
        """The connection's window has opened, or it is not full any more: each that waits has its turn."""
        while self.waiting and self.send_window > 0 and not self.full:
            for flow in list(self.waiting):
                if self.send_window <= 0:
                    break
                del self.waiting[flow]  # and to the end of the line, if more is left
                self.pushed(flow, self.push(flow, 1))

    def pushed(self, flow: Flow, sent_bytes: int) -> None:
        """``sent_bytes`` of what was pending are out: their sender may have credit, and the call may be over."""
        raise NotImplementedError

    def drop(self, flow: Flow) -> int:
        """Send no more of a message; the bytes that were pending."""
        flow.done = True
        self.waiting.pop(flow, None)
        pending, flow.pending = flow.pending, None
        return sum(map(len, pending)) - flow.again_bytes if pending else 0

    # --- input ---

    def feed(self, data: bytes) -> None:
        """Take bytes of the peer. Raises PeerError."""
        if self._have:
            data = self.gather(data)
            if not data:
                return
        pos, size = 0, len(data)
        need = h2.HEADER_BYTES
        limit = self.frame_limit_bytes
        streams = self.streams
        while size - pos >= 9:
            high, low, kind, flags, stream_id = unpack_header(data, pos)
            length = high << 8 | low
            if length > limit:
                raise PeerError(h2.FRAME_SIZE_ERROR, f"frame of {length} bytes, {limit} allowed")
            end = pos + 9 + length
            if end > size:
                need = 9 + length
                break
            call = streams.get(stream_id) if self._block is None else None
            if kind == 0 and call is not None and flags <= 1 and length:
                self.take_data(call, data[pos + 9 : end], length, flags == 1)
            elif kind == 1 and (flags == 5 or flags == 4) and self._block is None and self.began:
                self.whole_block(stream_id & LARGEST_ID, flags == 5, data[pos + 9 : end])
            else:
                self._slow(kind, flags, stream_id & LARGEST_ID, data[pos:end])
            pos = end
            if self.closed:
                return
        if self.unread_bytes > UNREAD_LIMIT_BYTES:
            raise FloodError("unread")
        self.credit = min(self.credit, CREDIT_LIMIT)
        if pos < size:
            self.keep(data[pos:], need)

    def _slow(self, kind: int, flags: int, stream_id: int, frame: bytes) -> None:
        """Every frame that is not content or a whole header block; with its header."""
        if self._block is not None:
            self.take_continuation(kind, flags, stream_id, frame)
        elif not self.began and kind != h2.SETTINGS:
            raise PeerError(h2.PROTOCOL_ERROR, "first frame is not SETTINGS")
        elif kind == h2.DATA:
            self._data(flags, stream_id, frame)
        elif kind == h2.HEADERS:
            self.take_headers(flags, stream_id, frame)
        elif kind == h2.WINDOW_UPDATE:
            self._window_update(stream_id, frame)
        elif kind == h2.RST_STREAM:
            self._rst_stream(stream_id, frame)
        elif kind == h2.SETTINGS:
            self._settings(flags, stream_id, frame[h2.HEADER_BYTES :])
        elif kind == h2.PING:
            self._ping(flags, stream_id, frame[h2.HEADER_BYTES :])
        elif kind == h2.GOAWAY:
            if stream_id or len(frame) < h2.HEADER_BYTES + 8:
                raise PeerError(h2.FRAME_SIZE_ERROR if not stream_id else h2.PROTOCOL_ERROR, "GOAWAY")
            self.guard.spend("goaway")
            self.take_goaway(int.from_bytes(frame[9:13], "big") & LARGEST_ID)
        elif kind == h2.PRIORITY:
            if not stream_id or len(frame) != h2.HEADER_BYTES + 5:
                raise PeerError(h2.FRAME_SIZE_ERROR if stream_id else h2.PROTOCOL_ERROR, "PRIORITY")
            self.guard.spend("priority")
        elif kind in (h2.PUSH_PROMISE, h2.CONTINUATION):
            raise PeerError(h2.PROTOCOL_ERROR, f"frame of kind {kind} out of place")
        else:
            self.guard.spend("unknown")

    # --- what the two kinds of ends do with it ---

    def take_data(self, call: Call, content: bytes, length: int, end: bool) -> None:
        """Content of a living stream; ``length`` of the windows, padding included, are taken."""
        raise NotImplementedError

    def take_reset(self, call: Call, code: int) -> None:
        """The peer has reset a living stream."""
        raise NotImplementedError

    def take_goaway(self, last_id: int) -> None:
        raise NotImplementedError

    def fault(self, call: Call, error: MalformedError) -> None:
        """The peer broke the rules of one stream: end it."""
        raise NotImplementedError

    def opened(self, call: Call, increment: int) -> None:
        """The peer has opened the window of a living stream: so may the other end's, and what is pending goes out."""
        raise NotImplementedError

    def flow_to_peer(self, call: Call) -> Flow:
        """The message that the peer is sent on the stream of ``call``."""
        raise NotImplementedError

    def settings_changed(self, values: dict[int, int]) -> None:
        """Settings of the peer, already in force here."""

    def ping_acked(self, opaque: bytes) -> None:
        """Nobody asked: let it pass."""

    # --- content and windows ---

    def _data(self, flags: int, stream_id: int, frame: bytes) -> None:
        """DATA with padding, without content, or of a stream that is gone."""
        length = len(frame) - h2.HEADER_BYTES
        content = h2.unpad(frame[h2.HEADER_BYTES :], flags)
        end = bool(flags & h2.FLAG_END_STREAM)
        if not content and not end:
            self.guard.spend("empty_data")
        call = self.streams.get(stream_id)
        if call is not None:
            self.take_data(call, content, length, end)
            return
        self.late_passes(stream_id, end)
        self.arrived(length)
        self.consumed(length)

    def arrived(self, length: int) -> None:
        """The peer has used ``length`` of the connection's window."""
        self.window -= length
        if self.window < 0:
            raise BrokenError(h2.FLOW_CONTROL_ERROR, Broken.FLOW_CONTROL, "more than the connection's window")

    def consumed(self, length: int) -> None:
        """The peer may have ``length`` of the connection's window back."""
        self.owed_bytes += length
        if self.owed_bytes >= _CREDIT_AT_BYTES and not self.closed:
            self.window += self.owed_bytes
            self.put(h2.window_update(0, self.owed_bytes))
            self.owed_bytes = 0

    def _window_update(self, stream_id: int, frame: bytes) -> None:
        if len(frame) != h2.HEADER_BYTES + 4:
            raise PeerError(h2.FRAME_SIZE_ERROR, "WINDOW_UPDATE")
        increment = int.from_bytes(frame[9:], "big") & h2.LARGEST_WINDOW_BYTES
        self.spend_credit()
        if not stream_id:
            if not increment:
                raise PeerError(h2.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self._check_dribble(self.send_window, increment)
            self.send_window += increment
            if self.send_window > h2.LARGEST_WINDOW_BYTES:
                raise PeerError(h2.FLOW_CONTROL_ERROR, "connection window overflow")
            self.push_waiting()
            return
        call = self.streams.get(stream_id)
        if call is None:
            self.check_not_idle(stream_id)
        elif not increment:
            self.fault(call, MalformedError(Malformed.BAD_WINDOW, "WINDOW_UPDATE of 0"))
        else:
            flow = self.flow_to_peer(call)
            self._check_dribble(flow.window, increment)
            flow.window += increment
            if flow.window > h2.LARGEST_WINDOW_BYTES:
                self.fault(call, MalformedError(Malformed.BAD_WINDOW, "stream window overflow"))
                return
            self.opened(call, increment)
            if flow.pending is not None:
                self.pushed(flow, self.push(flow))

    def _check_dribble(self, window_bytes: int, increment: int) -> None:
        """Count a window that is opened a little at a time. One that is open anyway is no harm: grpcio adds 5 bytes,
        for the head of a message, and what it has read of a short one."""
        if increment < SMALLEST_UPDATE_BYTES and window_bytes < _OPEN_BYTES:
            self.guard.spend("window")

    def spend_credit(self) -> None:
        """One frame about windows or dead streams."""
        self.credit -= 1
        if self.credit < 0:
            raise FloodError("window")

    def _rst_stream(self, stream_id: int, frame: bytes) -> None:
        if len(frame) != h2.HEADER_BYTES + 4:
            raise PeerError(h2.FRAME_SIZE_ERROR, "RST_STREAM")
        call = self.streams.get(stream_id)
        if call is not None:
            self.take_reset(call, int.from_bytes(frame[9:], "big"))
            return
        self.check_not_idle(stream_id)
        self.spend_credit()
        self.late.pop(stream_id, None)

    # --- settings and pings ---

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise PeerError(h2.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & h2.FLAG_ACK:
            if payload:
                raise PeerError(h2.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            if not self.settings_unacked:
                raise PeerError(h2.PROTOCOL_ERROR, "acknowledgement of no SETTINGS")
            self.settings_unacked -= 1
            return
        self.guard.spend("settings")
        values = h2.parse_settings(payload)
        self.began = True
        if values.get(h2.SETTING_HEADER_TABLE_SIZE, DEFAULT_TABLE_BYTES) < DEFAULT_TABLE_BYTES:
            self._must_clear = True  # nothing was ever put into it, but the receiver must be told that it is smaller
        self.peer_frame_bytes = values.get(h2.SETTING_MAX_FRAME_SIZE, self.peer_frame_bytes)
        window = values.get(h2.SETTING_INITIAL_WINDOW_SIZE, self.peer_window_bytes)
        opened, self.peer_window_bytes = window - self.peer_window_bytes, window
        self.put(h2.SETTINGS_ACK)
        if opened:
            for call in list(self.streams.values()):
                flow = self.flow_to_peer(call)
                flow.window += opened
                if flow.window > h2.LARGEST_WINDOW_BYTES:
                    raise PeerError(h2.FLOW_CONTROL_ERROR, "stream window overflow")
                if flow.pending is not None:
                    self.pushed(flow, self.push(flow))
        self.settings_changed(values)

    def _ping(self, flags: int, stream_id: int, opaque: bytes) -> None:
        if stream_id or len(opaque) != 8:
            raise PeerError(h2.PROTOCOL_ERROR if stream_id else h2.FRAME_SIZE_ERROR, "PING")
        self.guard.spend("ping")
        if flags & h2.FLAG_ACK:
            self.ping_acked(opaque)
        else:
            self.put(h2.ping(opaque, ack=True))
