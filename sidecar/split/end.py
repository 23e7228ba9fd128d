"""One HTTP/2 connection that ends here, as each end of it does: frames, settings, pings, windows. Sans-IO.

`ClientEnd` and `Leg` are its two kinds. Windows: of a stream's content they are end to end (what the receiver opens is
told to the sender; a message waits for nobody but its own receiver), of a connection they are local.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from sidecar.http2 import frames as h2
from sidecar.http2.direction import CREDIT_LIMIT, UNREAD_LIMIT_BYTES
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodError, FloodGuard
from sidecar.http2.heads import Heads
from sidecar.http2.reading import LARGEST_ID, SMALLEST_UPDATE_BYTES, unpack_header
from sidecar.http2.reasons import Broken, BrokenError, Malformed, MalformedError
from sidecar.http2.table import DEFAULT_TABLE_BYTES, Table
from sidecar.split.call import Call, Flow
from sidecar.split.sender import Sender

if TYPE_CHECKING:
    from sidecar.split.calls import Calls

WINDOW_BYTES: Final = 1024 * 1024
"""Of each connection, for what its peer sends; so what is held of one that fills it is bounded by this."""
_CREDIT_AT_BYTES: Final = WINDOW_BYTES // 2
_OPEN_BYTES: Final = 4096
"""A window of this size needs no small update, and may have any number."""


class End(Sender):
    """See the module's docstring."""

    __slots__ = ("closed", "owed_bytes", "peer_window_bytes", "settings_unacked", "streams", "window")

    unread_limit_bytes: ClassVar = UNREAD_LIMIT_BYTES

    def __init__(self, calls: Calls, heads: Heads, guard: FloodGuard, table: Table) -> None:
        super().__init__(calls, heads, guard, table)
        self.streams: dict[int, Call] = {}
        self.closed = False
        """No more is read of this connection, or written to it behind what is in ``out``."""
        self.window = h2.DEFAULT_WINDOW_BYTES
        """What the peer may still send on the connection."""
        self.owed_bytes = 0
        """What it sent and was not given back."""
        self.peer_window_bytes = h2.DEFAULT_WINDOW_BYTES
        """Of a new stream."""
        self.settings_unacked = 0

    def greet(self, values: dict[int, int]) -> None:
        """The first SETTINGS, and a connection window that is worth having."""
        self.settings_unacked += 1
        self.window = WINDOW_BYTES
        self.put(h2.settings(values) + h2.window_update(0, WINDOW_BYTES - h2.DEFAULT_WINDOW_BYTES))

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
            length_and_kind, flags, stream_id = unpack_header(data, pos)
            length = length_and_kind >> 8
            if length > limit:
                raise PeerError(h2.FRAME_SIZE_ERROR, f"frame of {length} bytes, {limit} allowed")
            end = pos + 9 + length
            if end > size:
                need = 9 + length
                break
            kind = length_and_kind & 0xFF
            call = streams.get(stream_id) if self._block is None else None
            if kind == 0 and call is not None and flags <= 1 and length:
                self.take_data(call, data[pos + 9 : end], length, flags == 1)
            elif kind == 1 and (flags == 5 or flags == 4) and self._block is None and self.began:
                self.whole_block(stream_id & LARGEST_ID, flags == 5, data[pos + 9 : end])
            else:
                self.slow(kind, flags, stream_id, data[pos:end])
            pos = end
            if self.closed:
                return
        if self.unread_bytes > self.unread_limit_bytes:
            raise FloodError("unread")
        self.credit = min(self.credit, CREDIT_LIMIT)
        if pos < size:
            self.keep(data[pos:], need)

    # --- what the two kinds of ends do with it ---

    def take_data(self, call: Call, content: bytes, length: int, end: bool) -> None:
        """Content of a living stream; ``length`` of the windows, padding included, are taken."""
        raise NotImplementedError

    def take_reset(self, call: Call, code: int) -> None:
        """The peer has reset a living stream."""
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

    def slow_data(self, flags: int, stream_id: int, frame: bytes) -> None:
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

    def window_update(self, stream_id: int, increment: int, frame: bytes) -> None:
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

    def rst_stream(self, stream_id: int, code: int, frame: bytes) -> None:
        call = self.streams.get(stream_id)
        if call is not None:
            self.take_reset(call, code)
            return
        self.check_not_idle(stream_id)
        self.spend_credit()
        self.late.pop(stream_id, None)

    # --- settings and pings ---

    def settings_acked(self, frame: bytes) -> None:
        if not self.settings_unacked:
            raise PeerError(h2.PROTOCOL_ERROR, "acknowledgement of no SETTINGS")
        self.settings_unacked -= 1

    def settings(self, payload: bytes) -> None:
        values = h2.parse_settings(payload)
        self.began = True
        if values.get(h2.SETTING_HEADER_TABLE_SIZE, DEFAULT_TABLE_BYTES) < DEFAULT_TABLE_BYTES:
            self.must_clear = True  # nothing was ever put into it, but the receiver must be told that it is smaller
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

    def ping(self, flags: int, frame: bytes) -> None:
        opaque = frame[h2.HEADER_BYTES :]
        if flags & h2.FLAG_ACK:
            self.ping_acked(opaque)
        else:
            self.put(h2.ping(opaque, ack=True))
