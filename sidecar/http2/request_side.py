"""From the client to the server: requests are read, judged and passed on. The hot loop is `RequestDirection.feed`."""

from __future__ import annotations

from sidecar.http2 import frames as h2
from sidecar.http2.direction import Direction
from sidecar.http2.exchange import Exchange
from sidecar.http2.frames import PREFACE, PeerError
from sidecar.http2.guard import FloodError, FloodGuard
from sidecar.http2.head import UNANNOUNCED_LEFT
from sidecar.http2.heads import Entry, Heads
from sidecar.http2.held import HELD_LIMIT_BYTES, Held, HeldBlock, HeldFrame
from sidecar.http2.mediation import STREAM_LIMIT
from sidecar.http2.messages import count_request, request_head, request_trailers
from sidecar.http2.reading import LARGEST_ID, is_plain_update, unpack_header
from sidecar.http2.reasons import Broken, BrokenError, Malformed, MalformedError
from sidecar.http2.streams import DRAIN_PING, Streams

_OF_STREAMS = frozenset({h2.DATA, h2.RST_STREAM, h2.WINDOW_UPDATE})


class RequestDirection(Direction):
    """See `Direction`; the sender is the client."""

    __slots__ = ("_held", "_judge_request", "_prefaced")

    def __init__(self, shared: Streams, heads: Heads, guard: FloodGuard) -> None:
        super().__init__(shared, heads, guard, heads.request_table)
        self._judge_request = shared.judge.request
        self._prefaced = False
        self._held = Held()

    # --- bytes ---

    def feed(self, data: bytes) -> bytes:
        """Take client bytes; returns what the server is to be sent. Raises PeerError, with ``out`` left to be taken."""
        if self._have:
            data = self.gather(data)
            if not data:
                return self.take()
        if not self._prefaced:
            data = self._preface(data)
        out = self.out
        streams = self.streams
        shared = self.shared
        pos = start = updates = passed = 0
        size = len(data)
        need = h2.HEADER_BYTES
        calm = self.began and self._block is None
        limit = self.frame_limit_bytes
        try:
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
                if calm:
                    if kind == 0:
                        exchange = streams.get(stream_id)
                        if exchange is not None and flags <= 1 and exchange.request_open and (length or flags):
                            left = exchange.request_left - length
                            window = self.window - length
                            if window >= 0 <= left and not (flags and 0 < left < UNANNOUNCED_LEFT):
                                self.window = window
                                exchange.request_left = left
                                exchange.request_bytes += length
                                pos = end
                                passed += 1
                                if flags:
                                    self.ended(exchange)
                                    if shared.close_after:
                                        break
                                continue
                    elif kind == 1:
                        if (flags == 5 or flags == 4) and shared.last_id < stream_id <= LARGEST_ID:
                            replaced = self.take_block(stream_id, flags == 5, data[pos + 9 : end])
                            if replaced is not None:
                                if pos > start:
                                    out.append(data[start:pos])
                                if replaced:
                                    out.append(replaced)
                                start = end
                            pos = end
                            if shared.close_after:
                                break
                            continue
                    elif kind == 8 and length == 4 and stream_id in streams and is_plain_update(data[pos + 9 : end]):
                        pos = end
                        updates += 1
                        continue
                if pos > start:
                    out.append(data[start:pos])
                start = end
                self.slow(kind, flags, stream_id, data[pos:end])
                pos = end
                if shared.close_after:
                    break
                calm = self._block is None
                limit = self.frame_limit_bytes
            if updates or passed:
                self.settle(updates, passed)
        except PeerError:
            if pos > start:
                out.append(data[start:pos])
            raise
        if pos < size and not shared.close_after:
            self.keep(data[pos:], need)
        if pos > start:
            if not out:
                return data if pos - start == size else data[start:pos]
            out.append(data[start:pos])
        return self.take()

    def _preface(self, data: bytes) -> bytes:
        """Pass the preface on; returns what follows it."""
        if not data.startswith(PREFACE):
            if not PREFACE.startswith(data):
                raise BrokenError(h2.PROTOCOL_ERROR, Broken.NO_PREFACE, "no HTTP/2 preface")
            self.keep(data, len(PREFACE))
            return b""
        self._prefaced = True
        self.out.append(PREFACE)
        return data[len(PREFACE) :]

    # --- header blocks ---

    def take_block(self, stream_id: int, end: bool, block: bytes) -> bytes | None:
        entry = self.known(block)
        if entry is None or entry.after is not None:
            entry = self.read(block)
        shared = self.shared
        if stream_id <= shared.last_id:
            return self._trailers(stream_id, end, block, entry)
        if not stream_id & 1:
            raise BrokenError(h2.PROTOCOL_ERROR, Broken.STREAM_ID, f"request on stream {stream_id}")
        shared.last_id = stream_id
        if self._held:
            self._hold(HeldBlock(stream_id, end, block, entry, True))
            return b""
        return self._open(stream_id, end, block, entry)

    def _open(self, stream_id: int, end: bool, block: bytes, entry: Entry) -> bytes | None:
        """As `take_block` for a block that was read and opens a stream."""
        shared = self.shared
        # What was held when the client was told that no more is taken had been taken (`goaway_last_id`).
        away = shared.turning_away and stream_id > shared.goaway_last_id
        if away or len(self.streams) >= STREAM_LIMIT:
            self.withhold(entry)
            self._turn_away(stream_id, end, ignored=away)
            return b""
        head = entry.request
        if head is None or not head.bare:
            try:
                head = request_head(self.heads, entry, end, connect_offered=shared.connect_offered)
            except MalformedError as error:
                self.withhold(entry)
                shared.malformed_request(stream_id, not end, entry.fields, error)
                return b""
        exchange = Exchange(stream_id, head, len(block))
        if end:
            exchange.request_open = False
        self.streams[stream_id] = exchange
        inserted = self._judge_request(exchange)
        if inserted is None and shared.waits:
            shared.waits = False
            del self.streams[stream_id]
            self._part()
            self._hold(HeldBlock(stream_id, end, block, entry, True))
            return b""
        if inserted is None:
            self.withhold(entry)
            shared.refused(exchange)
            return b""
        if not inserted and self.in_step and exchange.fields.kept is None:
            return None
        return self.passed_block(stream_id, end, block, entry, exchange.fields, inserted)

    def _trailers(self, stream_id: int, end: bool, block: bytes, entry: Entry) -> bytes | None:
        if self._held and stream_id >= self._held.from_id:
            self._hold(HeldBlock(stream_id, end, block, entry, False))
            return b""
        exchange = self.streams.get(stream_id)
        if exchange is None:
            if self.late_passes(stream_id, end) and self.in_step:
                return None
            self.withhold(entry)
            return b""
        try:
            trailers = request_trailers(self.heads, exchange, entry, end)
        except MalformedError:
            self.withhold(entry)
            raise
        exchange.request_bytes += len(block)
        self.ended(exchange)
        return self.passed_block(stream_id, end, block, entry, trailers, b"")

    def _turn_away(self, stream_id: int, end: bool, *, ignored: bool) -> None:
        """Leave a request unprocessed; the client may try it again elsewhere, or later."""
        shared = self.shared
        if ignored:
            if not end:
                self.remember_late(stream_id, passes=False)
            return
        shared.reset_client(stream_id, h2.REFUSED_STREAM, request_open=not end)
        shared.spend_reset()

    # --- requests without a verdict ---

    @property
    def holds(self) -> bool:
        return bool(self._held)

    @property
    def taken_id(self) -> int:
        return max(0, self._held.from_id - 2) if self._held else self.shared.last_id

    @property
    def held_bytes(self) -> int:
        """Of what waits."""
        return self._held.size_bytes

    def drop_input(self) -> None:
        super().drop_input()
        self._held.take()

    def slow(self, kind: int, flags: int, stream_id: int, frame: bytes) -> None:
        if self._held and kind in _OF_STREAMS and self._block is None:
            stream_id &= LARGEST_ID
            if self._held.from_id <= stream_id <= self.shared.last_id:
                self._hold(HeldFrame(stream_id, kind, flags, frame))
                return
        super().slow(kind, flags, stream_id, frame)

    def _hold(self, item: HeldBlock | HeldFrame) -> None:
        if not self._held.add(item):
            raise FloodError("held", f"more than {HELD_LIMIT_BYTES} bytes while a request waits for its verdict")

    def go_on(self) -> None:
        """Take what was held as if it came now, until a request has to wait again. Raises PeerError."""
        for item in self._held.take():
            if self.shared.close_after:
                return
            if self._held and item.stream_id >= self._held.from_id:
                self._hold(item)
            elif isinstance(item, HeldFrame):
                self.slow(item.kind, item.flags, item.stream_id, item.frame)
            else:
                self._take_held(item)

    def _take_held(self, item: HeldBlock) -> None:
        take = self._open if item.opens else self._trailers
        try:
            passed = take(item.stream_id, item.end, item.block, item.entry)
        except MalformedError as error:
            self.fault(self.streams[item.stream_id], error)
            return
        if passed is None:
            raise AssertionError("a block that was held cannot pass as it came")
        if passed:
            self.out.append(passed)

    # --- content and ends ---

    def count(self, exchange: Exchange, content_bytes: int, end: bool) -> Malformed | None:
        return count_request(exchange, content_bytes, end)

    def ended(self, exchange: Exchange) -> None:
        exchange.request_open = False
        if not exchange.response_open:
            self.shared.finish(exchange)

    def fault(self, exchange: Exchange, error: MalformedError) -> None:
        self.shared.client_fault(exchange, error)

    def reset(self, exchange: Exchange, code: int) -> None:
        shared = self.shared
        if exchange.response_open:
            exchange.cut = True
            self.other.remember_late(exchange.stream_id, passes=True)
            if not shared.spend_reset():
                return
        shared.finish(exchange)

    # --- the connection ---

    def take_goaway(self, last_id: int, code: int, debug: bytes) -> None:
        """It speaks of pushes, and there are none."""
        self.out.append(h2.goaway(0, code, debug))

    def ping_acked(self, opaque: bytes) -> bool:
        shared = self.shared
        if not shared.draining or opaque != DRAIN_PING:
            return False
        if not shared.turning_away:
            shared.turning_away = True
            shared.goaway_client(shared.last_id, h2.NO_ERROR)
            if not self.streams and not self._held:
                shared.shut()
        return True
