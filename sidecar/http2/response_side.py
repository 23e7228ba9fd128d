"""From the server to the client: responses are framed by their requests and passed on. The hot loop is
`ResponseDirection.feed`."""

from __future__ import annotations

from typing import Final

from sidecar.http2 import frames as h2
from sidecar.http2.direction import Direction
from sidecar.http2.exchange import Exchange
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodGuard
from sidecar.http2.head import UNANNOUNCED_LEFT
from sidecar.http2.heads import Heads
from sidecar.http2.messages import count_response, response_head, response_trailers
from sidecar.http2.reading import is_plain_update, unpack_header
from sidecar.http2.reasons import Broken, BrokenError, Malformed, MalformedError
from sidecar.http2.streams import Streams

OWN_ROOM_BYTES: Final = 4096
"""Of the client's connection window, for the content of answers made on this side."""

_PROVOKED: Final = frozenset({h2.PROTOCOL_ERROR, h2.FLOW_CONTROL_ERROR, h2.STREAM_CLOSED, h2.FRAME_SIZE_ERROR})


class ResponseDirection(Direction):
    """See `Direction`; the sender is the server."""

    __slots__ = ("_judge_response",)

    from_server = True
    own_room_limit_bytes = OWN_ROOM_BYTES

    def __init__(self, shared: Streams, heads: Heads, guard: FloodGuard) -> None:
        super().__init__(shared, heads, guard, heads.response_table)
        self._judge_response = shared.judge.response

    # --- bytes ---

    def feed(self, data: bytes) -> bytes:
        """Take server bytes; returns what the client is to be sent. Raises PeerError, with ``out`` left to be taken."""
        if self._have:
            data = self.gather(data)
            if not data:
                return self.take()
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
                exchange = streams.get(stream_id) if calm else None
                if exchange is not None:
                    if kind == 0:
                        if exchange.status and flags <= 1 and exchange.response_open and (length or flags):
                            left = exchange.response_left - length
                            window = self.window - length
                            if window >= 0 <= left and not (flags and 0 < left < UNANNOUNCED_LEFT):
                                self.window = window
                                exchange.response_left = left
                                exchange.response_bytes += length
                                pos = end
                                passed += 1
                                if flags:
                                    exchange.response_open = False
                                    if not exchange.request_open:
                                        shared.finish(exchange)
                                        if shared.close_after:
                                            break
                                continue
                    elif kind == 1:
                        if flags == 4 and not exchange.status and self.in_step:
                            entry = self.known(data[pos + 9 : end])
                            head = entry.plain_response if entry is not None else None
                            if head is not None and exchange.response_open and exchange.method != b"HEAD":
                                exchange.status = status = head.status
                                exchange.response_left = head.length
                                exchange.grpc_status = head.grpc_status
                                exchange.response_bytes += length
                                self._judge_response(exchange, status)
                                pos = end
                                continue
                        if flags == 5 or flags == 4:
                            replaced: bytes | None = b""
                            try:
                                replaced = self.take_block(stream_id, flags == 5, data[pos + 9 : end])
                            except MalformedError as error:
                                if pos > start:
                                    out.append(data[start:pos])
                                start = pos = end
                                self.fault(exchange, error)
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
                    elif kind == 8 and length == 4 and is_plain_update(data[pos + 9 : end]):
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

    # --- header blocks ---

    def take_block(self, stream_id: int, end: bool, block: bytes) -> bytes | None:
        entry = self.read(block)
        exchange = self.streams.get(stream_id)
        if exchange is None:
            if self.late_passes(stream_id, end) and self.in_step:
                return None
            self.withhold(entry)
            return b""
        if not exchange.response_open:
            raise BrokenError(h2.STREAM_CLOSED, Broken.STREAM_CLOSED, "HEADERS after the end of the response")
        try:
            if exchange.status:
                head = response_trailers(self.heads, exchange, entry, end)
            else:
                head = response_head(self.heads, exchange, entry, end)
                if head.status >= 200:
                    self._judge_response(exchange, head.status)
        except MalformedError:
            self.withhold(entry)
            raise
        exchange.response_bytes += len(block)
        passed = self.passed_block(stream_id, end, block, entry, head, b"")
        if end:
            self.ended(exchange)
        return passed

    # --- content and ends ---

    def count(self, exchange: Exchange, content_bytes: int, end: bool) -> Malformed | None:
        return count_response(exchange, content_bytes, end)

    def ended(self, exchange: Exchange) -> None:
        exchange.response_open = False
        if not exchange.request_open:
            self.shared.finish(exchange)

    def fault(self, exchange: Exchange, error: MalformedError) -> None:
        self.shared.server_fault(exchange, error)

    def reset(self, exchange: Exchange, code: int) -> None:
        shared = self.shared
        if exchange.request_open:
            self.other.remember_late(exchange.stream_id, passes=True)
        exchange.cut = exchange.response_open
        if code in _PROVOKED and not shared.spend_reset():
            return  # the server found fault with what the client sent, once too often (CVE-2025-8671)
        shared.finish(exchange)

    # --- the connection ---

    def take_goaway(self, last_id: int, code: int, debug: bytes) -> None:
        """Requests above ``last_id`` were not processed, and the client may send them elsewhere."""
        shared = self.shared
        shared.goaway_client(last_id, code, debug)
        for exchange in [each for each in self.streams.values() if each.stream_id > last_id]:
            exchange.cut = True
            if exchange.request_open:
                self.other.remember_late(exchange.stream_id, passes=True)
            shared.finish(exchange)
