"""The client's end of a gRPC connection as a machine: HTTP/2 with at most one call at a time. Sans-IO.

Theory of operation. ``receive`` takes decrypted bytes and changes the state of the call; whatever must be sent gathers
until ``take``. Nothing is called back: whoever waits looks at the stream after each ``receive``. ``set_room`` stops and
starts the sending of messages while the transport is full; frames that answer the peer's go on, and are few, since the
peer has a budget for what makes them (``FloodGuard``).

The layer is our own and not hyper-h2 because hyper-h2 takes no frame after a GOAWAY, and a control plane that stops in
peace says GOAWAY first and then finishes what it has in hand: an answer lost there is a join token lost. hyper-h2 is
the oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

import hpack

from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodGuard
from sidecar.rpc.status import Fields, Status, StatusCode, unavailable
from sidecar.rpc.stream import WINDOW_BYTES, RpcStream

FRAME_LIMIT_BYTES: Final = h2.DEFAULT_FRAME_BYTES
HEADER_LIST_LIMIT_BYTES: Final = 16 * 1024
_CONTINUATION_LIMIT: Final = 8
_TABLE_BYTES: Final = 4096
_LAST_STREAM_ID: Final = (1 << 31) - 1
_TIMEOUT_LIMIT_MILLISECONDS: Final = 99_999_999  # eight digits, as the protocol has it

_unpack_header = Struct(">HBBBL").unpack_from


class RpcMachine:
    """One connection. ``receive`` raises PeerError when the other side breaks HTTP/2."""

    def __init__(self, *, authority: str, monotonic: Callable[[], float], scheme: str = "https") -> None:
        self.stream: RpcStream | None = None
        """The call that is open."""
        self.goaway: str | None = None
        """The other side takes no new calls: why."""
        self._authority = authority.encode("ascii")
        self._scheme = scheme.encode("ascii")
        self._guard = FloodGuard(monotonic)
        self._out: list[bytes] = []
        self._partial = b""
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder(max_header_list_size=HEADER_LIST_LIMIT_BYTES)
        self._decoder.max_allowed_table_size = _TABLE_BYTES
        self._has_room = True
        self._send_window = h2.DEFAULT_WINDOW_BYTES
        self._initial_send_window = h2.DEFAULT_WINDOW_BYTES
        self._peer_frame_bytes = h2.DEFAULT_FRAME_BYTES
        self._peer_stream_limit = 1
        self._uncredited_bytes = 0
        self._settings_seen = False
        self._next_id = 1
        self._block: list[bytes] = []
        self._block_stream_id = 0
        self._block_ends_stream = False

    # -- sending ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Put out the preface, our settings and the connection's window."""
        settings = {
            h2.SETTING_HEADER_TABLE_SIZE: _TABLE_BYTES,
            h2.SETTING_ENABLE_PUSH: 0,
            h2.SETTING_INITIAL_WINDOW_SIZE: WINDOW_BYTES,
            h2.SETTING_MAX_FRAME_SIZE: FRAME_LIMIT_BYTES,
            h2.SETTING_MAX_HEADER_LIST_SIZE: HEADER_LIST_LIMIT_BYTES,
        }
        self._put(h2.PREFACE + h2.settings(settings) + h2.window_update(0, WINDOW_BYTES - h2.DEFAULT_WINDOW_BYTES))

    def open(self, path: str, *, timeout_seconds: float | None, limit_bytes: int) -> RpcStream:
        """Begin a call of the method at ``path``; ``limit_bytes``: of one message of the answer.

        Raises RpcError UNAVAILABLE when the other side takes no more calls on this connection.
        """
        if self.stream is not None:
            raise RuntimeError("one call at a time")
        if self.goaway is not None:
            raise unavailable(self.goaway)
        if self._peer_stream_limit < 1 or self._next_id > _LAST_STREAM_ID:
            raise unavailable("the connection takes no more calls")
        fields = [
            (b":method", b"POST"),
            (b":scheme", self._scheme),
            (b":path", path.encode("ascii")),
            (b":authority", self._authority),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"grpc-accept-encoding", b"identity"),
            (b"user-agent", b"ringfence"),
        ]
        if timeout_seconds is not None:
            milliseconds = min(max(1, int(timeout_seconds * 1000)), _TIMEOUT_LIMIT_MILLISECONDS)
            fields.insert(4, (b"grpc-timeout", b"%dm" % milliseconds))
        stream_id = self._next_id
        self._next_id += 2
        self._put(h2.frame(h2.HEADERS, h2.FLAG_END_HEADERS, stream_id, self._encoder.encode(fields)))
        self.stream = RpcStream(
            stream_id,
            send_window=self._initial_send_window,
            limit_bytes=limit_bytes,
            put=self._put,
            ended=self._forget,
        )
        return self.stream

    def send(self, stream: RpcStream, data: bytes, *, end: bool = False) -> None:
        """Send ``data`` on a call, and with ``end`` no more after it; what the windows hold back is in ``pending``."""
        stream.pending += data
        stream.pending_end |= end
        self._push()

    def set_room(self, has_room: bool) -> None:
        """Whether the transport takes more messages."""
        self._has_room = has_room
        self._push()

    def ping(self) -> None:
        """Ask whether the other side is there; any byte is an answer."""
        self._put(h2.ping(b"ringfenc"))

    def say_goodbye(self, code: int = h2.NO_ERROR, detail: str = "") -> None:
        self._put(h2.goaway(0, code, detail.encode()))

    def take(self) -> bytes:
        """All that is to be sent now."""
        out, self._out = self._out, []
        return b"".join(out)

    def lose(self, status: Status) -> None:
        """The connection is gone, and with it the call."""
        if self.stream is not None:
            self.stream.end(status)

    def _put(self, data: bytes) -> None:
        self._out.append(data)

    def _push(self) -> None:
        if self.stream is not None and self._has_room:
            self._send_window -= self.stream.push(self._send_window, self._peer_frame_bytes)

    def _forget(self) -> None:
        self.stream = None

    # -- receiving ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes from the other side, any amount."""
        data = self._partial + data
        size, position = len(data), 0
        while size - position >= h2.HEADER_BYTES:
            high, low, kind, flags, stream_id = _unpack_header(data, position)
            length = high << 8 | low
            if length > FRAME_LIMIT_BYTES:
                raise PeerError(h2.FRAME_SIZE_ERROR, f"frame of {length} bytes")
            end = position + h2.HEADER_BYTES + length
            if end > size:
                break
            self._frame(kind, flags, stream_id & _LAST_STREAM_ID, data[position + h2.HEADER_BYTES : end])
            position = end
        self._partial = data[position:]

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block_stream_id and (kind != h2.CONTINUATION or stream_id != self._block_stream_id):
            raise PeerError(h2.PROTOCOL_ERROR, "header block interrupted")
        if not self._settings_seen and (kind != h2.SETTINGS or flags & h2.FLAG_ACK):
            raise PeerError(h2.PROTOCOL_ERROR, "first frame is not SETTINGS")
        match kind:
            case h2.DATA:
                self._data(flags, stream_id, payload)
            case h2.HEADERS:
                self._known(stream_id, "HEADERS")
                self._block_stream_id = stream_id
                self._block_ends_stream = bool(flags & h2.FLAG_END_STREAM)
                self._block_part(flags, h2.unpad(payload, flags, priority=True))
            case h2.CONTINUATION:
                if not self._block_stream_id:
                    raise PeerError(h2.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
                self._block_part(flags, payload)
            case h2.RST_STREAM:
                self._rst_stream(stream_id, payload)
            case h2.SETTINGS:
                self._settings(flags, stream_id, payload)
            case h2.PING:
                self._ping(flags, stream_id, payload)
            case h2.GOAWAY:
                self._goaway(stream_id, payload)
            case h2.WINDOW_UPDATE:
                self._window_update(stream_id, payload)
            case h2.PUSH_PROMISE:
                raise PeerError(h2.PROTOCOL_ERROR, "PUSH_PROMISE")
            case _:
                self._guard.spend("priority" if kind == h2.PRIORITY else "unknown")

    def _known(self, stream_id: int, what: str) -> None:
        """Only streams that we opened exist."""
        if stream_id % 2 == 0 or stream_id >= self._next_id:
            raise PeerError(h2.PROTOCOL_ERROR, f"{what} on stream {stream_id}")

    def _of(self, stream_id: int) -> RpcStream | None:
        """The open call if ``stream_id`` is its; None for one that is over, whose late frames mean nothing."""
        stream = self.stream
        return stream if stream is not None and stream.stream_id == stream_id else None

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._known(stream_id, "DATA")
        length = len(payload)
        self._uncredited_bytes += length
        if self._uncredited_bytes >= WINDOW_BYTES // 2:
            # On arrival, so this window is never used up; what is kept is bounded by the stream's own.
            self._put(h2.window_update(0, self._uncredited_bytes))
            self._uncredited_bytes = 0
        content = h2.unpad(payload, flags)
        end = bool(flags & h2.FLAG_END_STREAM)
        if not content and not end:
            self._guard.spend("empty_data")
        stream = self._of(stream_id)
        if stream is None:
            return
        if length > stream.recv_window:
            raise PeerError(h2.FLOW_CONTROL_ERROR, "more than the stream's window")
        stream.on_data(content, length, end=end)

    def _block_part(self, flags: int, fragment: bytes) -> None:
        block = self._block
        block.append(fragment)
        if len(block) > _CONTINUATION_LIMIT or sum(map(len, block)) > HEADER_LIST_LIMIT_BYTES:
            raise PeerError(h2.ENHANCE_YOUR_CALM, "header block too large")
        if not flags & h2.FLAG_END_HEADERS:
            return
        stream_id, self._block_stream_id, self._block = self._block_stream_id, 0, []
        try:
            fields: Fields = [(name, value) for name, value in self._decoder.decode(b"".join(block), raw=True)]
        except hpack.HPACKError as error:
            raise PeerError(h2.COMPRESSION_ERROR, type(error).__name__) from error
        self._guard.spend("unknown")  # a call has a head and trailers; only interim answers may be more
        stream = self._of(stream_id)
        if stream is not None:
            _check(fields)
            stream.on_fields(fields, end=self._block_ends_stream)

    def _rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise PeerError(h2.FRAME_SIZE_ERROR, "RST_STREAM")
        self._known(stream_id, "RST_STREAM")
        self._guard.spend("reset")
        stream = self._of(stream_id)
        if stream is not None:
            stream.on_reset(int.from_bytes(payload, "big"))

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise PeerError(h2.PROTOCOL_ERROR, "SETTINGS on a stream")
        self._guard.spend("settings")
        if flags & h2.FLAG_ACK:
            if payload:
                raise PeerError(h2.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            return
        self._settings_seen = True
        values = h2.parse_settings(payload)
        self._peer_frame_bytes = min(
            values.get(h2.SETTING_MAX_FRAME_SIZE, self._peer_frame_bytes), h2.DEFAULT_FRAME_BYTES
        )
        self._peer_stream_limit = values.get(h2.SETTING_MAX_CONCURRENT_STREAMS, self._peer_stream_limit)
        if h2.SETTING_HEADER_TABLE_SIZE in values:
            self._encoder.header_table_size = min(values[h2.SETTING_HEADER_TABLE_SIZE], _TABLE_BYTES)
        window = values.get(h2.SETTING_INITIAL_WINDOW_SIZE, self._initial_send_window)
        if self.stream is not None:
            self._widen(self.stream, window - self._initial_send_window)
        self._initial_send_window = window
        self._put(h2.SETTINGS_ACK)
        self._push()

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) != 8:
            raise PeerError(h2.PROTOCOL_ERROR if stream_id else h2.FRAME_SIZE_ERROR, "PING")
        self._guard.spend("ping")
        if not flags & h2.FLAG_ACK:
            self._put(h2.ping(payload, ack=True))

    def _goaway(self, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) < 8:
            raise PeerError(h2.PROTOCOL_ERROR, "GOAWAY")
        code = int.from_bytes(payload[4:8], "big")
        words = payload[8 : 8 + 100].decode("utf-8", "replace")
        reason = "" if code == h2.NO_ERROR else f": {h2.ERROR_NAMES.get(code, hex(code))}"
        self.goaway = f"the other side takes no more calls{reason}" + (f" ({words})" if reason and words else "")
        # A call that was accepted goes on; one that was not may be tried elsewhere.
        if self.stream is not None and self.stream.stream_id > int.from_bytes(payload[:4], "big") & _LAST_STREAM_ID:
            self.stream.end(Status(code=StatusCode.UNAVAILABLE, details=self.goaway))

    def _window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise PeerError(h2.FRAME_SIZE_ERROR, "WINDOW_UPDATE")
        increment = int.from_bytes(payload, "big") & h2.LARGEST_WINDOW_BYTES
        if not increment:
            raise PeerError(h2.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        if stream_id == 0:
            self._send_window += increment
            if self._send_window > h2.LARGEST_WINDOW_BYTES:
                raise PeerError(h2.FLOW_CONTROL_ERROR, "connection window overflow")
        else:
            self._known(stream_id, "WINDOW_UPDATE")
            stream = self._of(stream_id)
            if stream is not None:
                self._widen(stream, increment)
        self._push()

    def _widen(self, stream: RpcStream, increment: int) -> None:
        stream.send_window += increment
        if stream.send_window > h2.LARGEST_WINDOW_BYTES:
            raise PeerError(h2.FLOW_CONTROL_ERROR, "stream window overflow")


def _check(fields: Fields) -> None:
    """RFC 9113 section 8.2 and 8.3: names in lower case, pseudo-header fields first, and each once."""
    seen: set[bytes] = set()
    regular = False
    for name, _ in fields:
        if not name or name != name.lower():
            raise PeerError(h2.PROTOCOL_ERROR, f"field name {name[:40]!r}")
        if name.startswith(b":"):
            if name != b":status" or regular or name in seen:
                raise PeerError(h2.PROTOCOL_ERROR, f"pseudo-header field {name[:40]!r} out of place")
            seen.add(name)
        else:
            regular = True
