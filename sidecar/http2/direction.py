"""One sender's frames on their way to one receiver: cut from the bytes, checked, and passed on as they are.

Owns what the two directions of a connection have in common beside `reading`: the frames that concern the whole
connection, windows, settings, and the step of the two HPACK tables. What header blocks and content mean is
`request_side`'s and `response_side`'s, which also hold the hot loops.

In step. A block may pass unchanged only while the receiver's dynamic table equals the sender's (`table`). It stays
equal as long as the receiver is sent every block that changes the sender's table, just as it came. The first such
block that is kept back, or passed on without a field, ends that for good (`withhold`): the receiver is then told to
empty its table and keep it empty, and gets every later block written anew, without any reference to a table. What an
index means to the receiver can then no longer depend on what it was sent before: it is sent none.

Late frames of a stream that was reset pass towards an end that has reset it itself, as they would without us. Those of
a stream that was ended here are dropped, and their sender is given back its window.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from sidecar.http2 import frames as h2
from sidecar.http2.dispatch import FrameDispatch
from sidecar.http2.exchange import Exchange
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodError, FloodGuard
from sidecar.http2.head import RequestHead, ResponseHead
from sidecar.http2.heads import Entry, Heads
from sidecar.http2.literal import SIZE_UPDATE_ZERO
from sidecar.http2.mediation import Told, mediate, settings_frame
from sidecar.http2.reading import SMALLEST_UPDATE_BYTES, pack_header
from sidecar.http2.reasons import Broken, BrokenError, Malformed, MalformedError
from sidecar.http2.table import Table

if TYPE_CHECKING:
    from sidecar.http2.streams import Streams

UNACKED_SETTINGS_LIMIT: Final = 16
CREDIT_LIMIT: Final = 10_000
CREDIT_FOR_FRAME: Final = 10
"""Frames about windows and dead streams that an end may send for each DATA frame that it got and each stream."""
SMALL_FOR_FRAME: Final = 8
"""Small window updates for each DATA frame that are not counted: grpcio opens windows by 5 bytes, for the head of a
message, and by what it has read of a short one."""
UNREAD_LIMIT_BYTES: Final = 1024 * 1024
"""Frames made here that an end may leave unread; a thousand answers are less than half of it."""
_UNREAD_ASK_BYTES: Final = 32 * 1024
UNREAD_OPAQUE: Final = b"rf-read?"
_UNREAD_PING: Final = h2.ping(UNREAD_OPAQUE)


class Direction(FrameDispatch):
    """See the module's docstring. ``other`` is the opposite direction, whose receiver is this one's sender."""

    __slots__ = (
        "_must_clear",
        "_unread_asked",
        "credit",
        "in_step",
        "other",
        "out",
        "own_room_bytes",
        "receiver_frame_bytes",
        "receiver_window_bytes",
        "shared",
        "small_credit",
        "streams",
        "unacked",
        "unread_bytes",
        "window",
    )

    from_server = False
    own_room_limit_bytes = 0

    other: Direction

    def __init__(self, shared: Streams, heads: Heads, guard: FloodGuard, table: Table) -> None:
        super().__init__(heads, guard, table)
        self.shared = shared
        self.streams = shared.streams
        self.out: list[bytes] = []
        """Whole frames for the receiver."""
        self.in_step = True
        self._must_clear = False
        self.window = h2.DEFAULT_WINDOW_BYTES
        """What the sender may still send on the connection, by all that it was told."""
        self.own_room_bytes = 0
        """Of the receiver's connection window: not told to the sender, kept for content that is made here."""
        self.receiver_frame_bytes = h2.DEFAULT_FRAME_BYTES
        self.receiver_window_bytes = h2.DEFAULT_WINDOW_BYTES
        """Of a new stream."""
        self.unacked: deque[Told] = deque()
        """Settings of the sender that the receiver has not acknowledged."""
        self.credit = CREDIT_LIMIT
        self.small_credit = 0
        self.unread_bytes = 0
        """Made here for the receiver since it last showed that it reads."""
        self._unread_asked = False

    # --- bytes ---

    def put(self, frames: bytes) -> None:
        """Send ``frames``, made on this side, to the receiver.

        Frames that pass are held back by an adapter that reads no more; what is made here is not, so the receiver is
        asked by a ping, from time to time, whether it has read it.
        """
        self.out.append(frames)
        self.shared.attention = True
        self.unread_bytes += len(frames)
        if self.unread_bytes > _UNREAD_ASK_BYTES and not self._unread_asked:
            self._unread_asked = True
            self.out.append(_UNREAD_PING)

    def take(self) -> bytes:
        """All that there is for the receiver."""
        out = self.out
        if not out:
            return b""
        joined = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return joined

    def settle(self, updates: int, passed: int) -> None:
        """Account for a run: frames about windows from the sender, DATA frames to the receiver."""
        if passed:
            credit = self.other.credit + CREDIT_FOR_FRAME * passed
            self.other.credit = credit if credit < CREDIT_LIMIT else CREDIT_LIMIT
            small = self.other.small_credit + SMALL_FOR_FRAME * passed
            self.other.small_credit = small if small < CREDIT_LIMIT else CREDIT_LIMIT
        if updates:
            self.credit -= updates
            if self.credit < 0:
                raise FloodError("window")

    # --- content ---

    def slow_data(self, flags: int, stream_id: int, frame: bytes) -> None:
        length = len(frame) - h2.HEADER_BYTES
        if length > self.window:
            raise BrokenError(h2.FLOW_CONTROL_ERROR, Broken.FLOW_CONTROL, "more than the connection's window")
        self.window -= length
        content = len(h2.unpad(frame[h2.HEADER_BYTES :], flags))
        end = bool(flags & h2.FLAG_END_STREAM)
        if not content and not end:
            self.guard.spend("empty_data")
        exchange = self.streams.get(stream_id)
        if exchange is None:
            if self.late_passes(stream_id, end):
                self.out.append(frame)
            else:
                self._give_back(length)
            return
        flaw = self.count(exchange, content, end)
        if flaw is not None:
            self._give_back(length)
            self.fault(exchange, MalformedError(flaw, f"DATA of {content} bytes" + " and the end" * end))
            return
        self.out.append(frame)
        self.settle(0, 1)
        if end:
            self.ended(exchange)

    def count(self, exchange: Exchange, content_bytes: int, end: bool) -> Malformed | None:
        """Account for a DATA frame on a living stream; what is wrong with it."""
        raise NotImplementedError

    def ended(self, exchange: Exchange) -> None:
        """The sender has ended its message."""
        raise NotImplementedError

    def fault(self, exchange: Exchange, error: MalformedError) -> None:
        """The sender broke the rules of one stream: end it."""
        raise NotImplementedError

    def _give_back(self, length: int) -> None:
        """The receiver never sees ``length`` bytes of DATA, so its window for them is ours to return."""
        if length:
            self.window += length
            self.other.put(h2.window_update(0, length))

    # --- header blocks ---

    def whole_block(self, stream_id: int, end: bool, block: bytes) -> None:
        try:
            replaced = self.take_block(stream_id, end, block)
        except MalformedError as error:
            self.fault(self.streams[stream_id], error)
            return
        if replaced is None:
            self.out.append(h2.header_frames(stream_id, block, end=end, limit_bytes=self.receiver_frame_bytes))
        elif replaced:
            self.out.append(replaced)

    def take_block(self, stream_id: int, end: bool, block: bytes) -> bytes | None:
        """Judge a whole header block: the frames to pass on in its place (b"" for none), or None to pass it as it is.

        Raises `MalformedError` for a flaw of a living stream, which the caller hands to `fault` in its turn; PeerError.
        """
        raise NotImplementedError

    def withhold(self, entry: Entry) -> None:
        """The receiver is not sent ``entry`` as it came: if that changed the sender's table, they are out of step."""
        if entry.after is not None and self.in_step:
            self.in_step = False
            self._must_clear = True

    @property
    def holds(self) -> bool:
        """Requests wait for their verdict."""
        return False

    @property
    def taken_id(self) -> int:
        """The highest stream whose request has a verdict."""
        return self.shared.last_id

    def _part(self) -> None:
        """Be out of step from here on, whatever the next blocks are."""
        if self.in_step:
            self.in_step = False
            self._must_clear = True

    def passed_block(
        self, stream_id: int, end: bool, block: bytes, entry: Entry, head: RequestHead | ResponseHead, inserted: bytes
    ) -> bytes | None:
        """As `take_block` for a block that was judged and goes on, with ``inserted`` behind its fields."""
        if self.in_step and head.kept is None:
            if not inserted:
                return None
        else:
            self.withhold(entry)
            block = self.own_block(head.literal)
        length = len(block) + len(inserted)
        if length > self.receiver_frame_bytes:
            block += inserted
            return h2.header_frames(stream_id, block, end=end, limit_bytes=self.receiver_frame_bytes)
        return pack_header(length << 8 | h2.HEADERS, 5 if end else 4, stream_id) + block + inserted

    def own_block(self, block: bytes) -> bytes:
        """``block``, which refers to no table, as it may be sent to the receiver now."""
        if self.in_step and self.table.limit_bytes > self.ceiling_bytes:
            # The receiver has lowered its limit and waits for the next block to say so, but the sender's has not come.
            self.in_step = False
            self._must_clear = True
        if self._must_clear:
            self._must_clear = False
            return SIZE_UPDATE_ZERO + block
        return block

    # --- streams that are gone ---

    def check_not_idle(self, stream_id: int) -> None:
        if not stream_id & 1 or stream_id > self.shared.last_id:
            raise BrokenError(h2.PROTOCOL_ERROR, Broken.STREAM_ID, f"frame on idle stream {stream_id}")

    def window_update(self, stream_id: int, increment: int, frame: bytes) -> None:
        if 0 < increment < SMALLEST_UPDATE_BYTES:
            if self.small_credit:
                self.small_credit -= 1
            else:
                self.guard.spend("window")
        self.settle(1, 0)
        if not stream_id:
            self._connection_window(increment)
            return
        exchange = self.streams.get(stream_id)
        if exchange is not None:
            if increment:
                self.out.append(frame)
            else:
                self.fault(exchange, MalformedError(Malformed.BAD_WINDOW, "WINDOW_UPDATE of 0"))
            return
        self.check_not_idle(stream_id)
        if increment and self.late.get(stream_id):
            self.out.append(frame)

    def _connection_window(self, increment: int) -> None:
        """The sender takes more DATA of the other direction; some of it may be kept for content made here."""
        other = self.other
        if not increment:
            raise PeerError(h2.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        kept = min(increment, other.own_room_limit_bytes - other.own_room_bytes)
        if kept > 0:
            other.own_room_bytes += kept
            increment -= kept
        other.window += increment
        if other.window > h2.LARGEST_WINDOW_BYTES:
            raise PeerError(h2.FLOW_CONTROL_ERROR, "connection window overflow")
        if increment:
            self.out.append(h2.window_update(0, increment))

    def rst_stream(self, stream_id: int, code: int, frame: bytes) -> None:
        exchange = self.streams.get(stream_id)
        if exchange is not None:
            self.out.append(frame)
            self.reset(exchange, code)
            return
        self.check_not_idle(stream_id)
        self.settle(1, 0)
        if self.late.pop(stream_id, False):
            self.out.append(frame)

    def reset(self, exchange: Exchange, code: int) -> None:
        """The sender has reset a living stream, and the receiver is told."""
        raise NotImplementedError

    # --- settings and pings ---

    def settings(self, payload: bytes) -> None:
        if len(self.unacked) >= UNACKED_SETTINGS_LIMIT:
            raise FloodError("settings")
        connect = bool(self.heads.protocols)
        passed, told = mediate(payload, from_server=self.from_server, first=not self.began, connect=connect)
        self.began = True
        self.unacked.append(told)
        other = self.other
        # The receiver may use what it is allowed as soon as it reads this; what it is denied, until it acknowledges.
        if told.frame_bytes is not None:
            other.frame_limit_bytes = max(other.frame_limit_bytes, told.frame_bytes)
        if told.table_bytes is not None:
            other.ceiling_bytes = max(other.ceiling_bytes, told.table_bytes)
        for key, value in passed:
            if key == h2.SETTING_MAX_FRAME_SIZE:
                other.receiver_frame_bytes = value
            elif key == h2.SETTING_INITIAL_WINDOW_SIZE:
                other.receiver_window_bytes = value
            elif key == h2.SETTING_ENABLE_CONNECT_PROTOCOL:
                self.shared.connect_offered = bool(value)
        self.out.append(settings_frame(passed))
        if self.from_server:
            self.shared.greeted = True

    def settings_acked(self, frame: bytes) -> None:
        unacked = self.other.unacked
        if not unacked:
            raise PeerError(h2.PROTOCOL_ERROR, "acknowledgement of no SETTINGS")
        told = unacked.popleft()
        if told.frame_bytes is not None:
            later = [each.frame_bytes for each in unacked if each.frame_bytes is not None]
            self.frame_limit_bytes = max(told.frame_bytes, *later, h2.DEFAULT_FRAME_BYTES)
        if told.table_bytes is not None:
            self.lower_ceiling(max([told.table_bytes, *(each.table_bytes or 0 for each in unacked)]))
        if not told.ours:
            self.out.append(frame)

    def ping(self, flags: int, frame: bytes) -> None:
        if flags & h2.FLAG_ACK:
            opaque = frame[h2.HEADER_BYTES :]
            other = self.other
            if other._unread_asked and opaque == UNREAD_OPAQUE:
                other._unread_asked = False
                other.unread_bytes = 0
                return
            if self.ping_acked(opaque):
                return
        self.out.append(frame)

    def ping_acked(self, opaque: bytes) -> bool:
        """Whether this acknowledges the ping of a drain."""
        return False
