"""The tunnel as a machine: many byte streams in one HTTP/2 connection (HBONE). Sans-IO.

Theory of operation. ``receive`` takes decrypted bytes and calls stream endpoints, in the order of the bytes; what must
be sent gathers in the other half, ``sidecar.tunnel.sending``. A long DATA frame is passed on as it arrives, to a stream
that ``takes_views`` as a view of the caller's buffer.

Only CONNECT streams exist here (RFC 9113 section 8.5). Two private extensions, seen only between two Ringfence
sidecars: setting 0xF1CE announces them, frame 0xF1 carries a re-proof, and a refusal may follow a stream's data as
trailers. RFC 9113 section 5.5 lets any other peer ignore the setting and the frame.

The connection's receive window is credited on arrival, not on consumption, so that one stalled stream never starves
another; memory is bounded by the stream windows and, in all, by ``HELD_LIMIT_BYTES`` received and ``KEPT_LIMIT_BYTES``
to be sent. No frame of a peer makes this end go through all streams, unless a budget bounds how many such it may send.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

import hpack

from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodError, FloodGuard
from sidecar.tunnel.blocks import Decoder
from sidecar.tunnel.sending import (
    CONNECTION_WINDOW_BYTES,
    FRAME_LIMIT_BYTES,
    HEADER_BLOCK_LIMIT_BYTES,
    LAST_CLIENT_ID,
    PROOF,
    STREAM_LIMIT,
    TunnelHandler,
    TunnelSender,
)
from sidecar.tunnel.stream import Headers, Stream

CONTROL_LIMIT_BYTES: Final = 64 * 1024  # of any other frame
_CONTINUATION_LIMIT: Final = 8
_LONG_BYTES: Final = 8 * 1024  # a DATA frame of which it pays to pass on a part

_unpack_header = Struct(">HBBBL").unpack_from


class TunnelMachine(TunnelSender):
    """One end of a tunnel connection. ``receive`` raises PeerError when the peer breaks the protocol."""

    __slots__ = (
        "_await_preface",
        "_block",
        "_block_parts",
        "_block_stream",
        "_decoder",
        "_guard",
        "_left_bytes",
        "_left_stream",
        "_partial",
        "_partial_needs",
        "_settings_seen",
        "bulky",
    )

    def __init__(
        self,
        *,
        server: bool,
        handler: TunnelHandler,
        schedule: Callable[[], None],
        monotonic: Callable[[], float],
        seal: Callable[[int], None] | None = None,
        clear: memoryview | None = None,
    ) -> None:
        """``seal`` sends what ``take_early`` gives and then so many bytes of ``clear``, where bulk bytes come to stand
        behind room for a frame's header. Without them, bulk is sent as other bytes are."""
        super().__init__(server=server, handler=handler, schedule=schedule, seal=seal, clear=clear)
        self.bulky = False  # the last bytes held a long DATA frame: a view is the better argument of ``receive``
        self._guard = FloodGuard(monotonic)
        self._decoder = Decoder(HEADER_BLOCK_LIMIT_BYTES)
        self._partial = bytearray()  # the beginning of a frame
        self._partial_needs = 0  # bytes of it that are worth a look
        self._left_bytes = 0  # still to come of a DATA frame that was passed on in part
        self._left_stream = 0
        self._await_preface = server
        self._settings_seen = False
        self._block: list[bytes] = []
        self._block_parts = 0
        self._block_stream = 0

    # -- receiving ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview) -> None:
        """Bytes from the peer, any amount; of a view nothing is kept."""
        self.bulky = False
        if self._left_bytes:
            data = self._go_on(data)
        if self._partial:
            self._partial += data
            if len(self._partial) < self._partial_needs:
                return  # joined once, however small the pieces of a long frame are
            data = bytes(self._partial)
            self._partial = bytearray()
        size = len(data)
        pos = 0
        if self._await_preface:
            if size < len(h2.PREFACE):
                if not h2.PREFACE.startswith(data):
                    raise PeerError(h2.PROTOCOL_ERROR, "no HTTP/2 preface")
                self._partial = bytearray(data)
                self._partial_needs = 0
                return
            if data[: len(h2.PREFACE)] != h2.PREFACE:
                raise PeerError(h2.PROTOCOL_ERROR, "no HTTP/2 preface")
            self._await_preface = False
            pos = len(h2.PREFACE)
        streams = self.streams
        end = 0
        while size - pos >= 9:
            high, low, kind, flags, stream_id = _unpack_header(data, pos)
            length = high << 8 | low
            if length > FRAME_LIMIT_BYTES or (kind and length > CONTROL_LIMIT_BYTES):
                raise PeerError(h2.FRAME_SIZE_ERROR, f"frame of {length} bytes")
            end = pos + 9 + length
            if kind == 0 and flags == 0 and length:
                stream = streams.get(stream_id)
                if stream is not None and not stream.remote_ended and not self._block:
                    if end > size and length < _LONG_BYTES:
                        break
                    window = stream.recv_window - length
                    if window < 0 or length > self._recv_window:
                        raise PeerError(h2.FLOW_CONTROL_ERROR, "more than the window")
                    stream.recv_window = window
                    self._recv_window -= length
                    self._unacked_bytes += length
                    payload = data[pos + 9 : end]
                    if end > size:
                        self._left_bytes = end - size
                        self._left_stream = stream_id
                        length -= self._left_bytes
                        end = size
                    if not stream.takes_views:
                        if type(payload) is memoryview:
                            payload = bytes(payload)
                    elif length >= _LONG_BYTES:
                        self.bulky = True
                    pos = end
                    if length:
                        self._deliver(stream, payload, length)
                    continue
            if end > size:
                break
            payload = data[pos + 9 : end]
            pos = end
            self._control(kind, flags, stream_id & LAST_CLIENT_ID, bytes(payload))
        if pos < size:
            self._partial = bytearray(data[pos:])
            self._partial_needs = end - pos  # of a frame whose header is not here yet it is 0 or less
        if self._unacked_bytes >= CONNECTION_WINDOW_BYTES // 2:
            self.credit_connection()

    def _deliver(self, stream: Stream, payload: bytes | memoryview, length: int) -> None:
        if stream.endpoint.on_data(payload):  # type: ignore[union-attr,arg-type]
            stream.unacked_bytes += length
            if stream.unacked_bytes >= stream.credit_at_bytes:
                stream.consumed(0)
        elif stream.stream_id in self.streams:
            stream.held_bytes += length
            self.held_bytes += length

    def _go_on(self, data: bytes | memoryview) -> bytes | memoryview:
        """The next part of a frame that was passed on in part; gives what follows it."""
        length = min(self._left_bytes, len(data))
        self._left_bytes -= length
        stream = self.streams.get(self._left_stream)
        if stream is not None and length and not stream.remote_ended:  # else: ended in the midst of the frame
            self.bulky = stream.takes_views
            part = data[:length]
            self._deliver(stream, part if stream.takes_views else bytes(part), length)
        return data[length:]

    def _control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Every frame but plain DATA on a living stream."""
        if self._block and (kind != h2.CONTINUATION or stream_id != self._block_stream):
            raise PeerError(h2.PROTOCOL_ERROR, "header block interrupted")
        if not self._settings_seen and kind != h2.SETTINGS:
            raise PeerError(h2.PROTOCOL_ERROR, "first frame is not SETTINGS")
        if kind == h2.DATA:
            self._data(flags, stream_id, payload)
        elif kind == h2.HEADERS:
            self._headers(flags, stream_id, h2.unpad(payload, flags, priority=True))
        elif kind == h2.CONTINUATION:
            if not self._block:
                raise PeerError(h2.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
            self._block_part(flags, payload)
        elif kind == h2.WINDOW_UPDATE:
            self._window_update(stream_id, payload)
        elif kind == h2.RST_STREAM:
            self._rst_stream(stream_id, payload)
        elif kind == h2.SETTINGS:
            self._settings(flags, stream_id, payload)
        elif kind == h2.PING:
            self._ping(flags, stream_id, payload)
        elif kind == h2.GOAWAY:
            self._goaway(stream_id, payload)
        elif kind == PROOF:
            if stream_id or not self.peer_is_ringfence:
                raise PeerError(h2.PROTOCOL_ERROR, "re-proof out of place")
            self._guard.spend("proof")
            self._handler.on_proof(payload)
        elif kind == h2.PUSH_PROMISE:
            raise PeerError(h2.PROTOCOL_ERROR, "PUSH_PROMISE")
        else:
            self._guard.spend("priority" if kind == h2.PRIORITY else "unknown")

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id or self._is_idle(stream_id):
            raise PeerError(h2.PROTOCOL_ERROR, f"DATA on idle stream {stream_id}")
        length = len(payload)
        if length > self._recv_window:
            raise PeerError(h2.FLOW_CONTROL_ERROR, "more than the connection's window")
        self._recv_window -= length
        self._unacked_bytes += length
        content = h2.unpad(payload, flags)
        end = bool(flags & h2.FLAG_END_STREAM)
        if not content and not end:
            self._guard.spend("empty_data")
        stream = self.streams.get(stream_id)
        if stream is None or stream.remote_ended:
            if stream is not None:
                self._reset_stream(stream, h2.STREAM_CLOSED)
            return  # a stream that we ended: what was already on its way is dropped
        if length > stream.recv_window:
            raise PeerError(h2.FLOW_CONTROL_ERROR, "more than the stream's window")
        stream.recv_window -= length
        stream.unacked_bytes += length - len(content)
        endpoint = stream.endpoint
        if endpoint is None:
            raise PeerError(h2.PROTOCOL_ERROR, "DATA on a stream without a reader")
        if content:
            if endpoint.on_data(content):
                stream.consumed(len(content))
            elif stream_id in self.streams:
                stream.held_bytes += len(content)
                self.held_bytes += len(content)
        if end:
            self._remote_end(stream)

    def _remote_end(self, stream: Stream) -> None:
        if stream.remote_ended:
            return
        stream.remote_ended = True
        if stream.local_ended and stream.pending is None:
            self.forget(stream)
        if stream.endpoint is not None:
            stream.endpoint.on_end()

    def _reset_stream(self, stream: Stream, code: int) -> None:
        stream.reset(code)
        if stream.endpoint is not None:
            stream.endpoint.on_reset(code)

    def _is_idle(self, stream_id: int) -> bool:
        if stream_id % 2 == 0:
            return True
        return stream_id > self._last_peer_id if self._server else stream_id >= self._next_id

    def _headers(self, flags: int, stream_id: int, fragment: bytes) -> None:
        if stream_id % 2 == 0 or (not self._server and self._is_idle(stream_id)):
            raise PeerError(h2.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        self._block_stream = stream_id
        self._block_parts = flags & h2.FLAG_END_STREAM  # kept with the block: END_STREAM comes on HEADERS only
        self._block = []
        self._block_part(flags, fragment)

    def _block_part(self, flags: int, fragment: bytes) -> None:
        block = self._block
        block.append(fragment)
        if sum(map(len, block)) > HEADER_BLOCK_LIMIT_BYTES:
            raise FloodError("header_block", f"header block above {HEADER_BLOCK_LIMIT_BYTES} bytes")
        if len(block) > _CONTINUATION_LIMIT:
            raise FloodError("continuation", f"header block in more than {_CONTINUATION_LIMIT} frames")
        if not flags & h2.FLAG_END_HEADERS:
            return
        self._block = []
        try:
            headers = self._decoder.decode(b"".join(block))
        except hpack.HPACKError as error:
            raise PeerError(h2.COMPRESSION_ERROR, type(error).__name__) from error
        self._header_list(self._block_stream, headers, end=bool(self._block_parts))

    def _header_list(self, stream_id: int, headers: Headers, *, end: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            if stream.remote_ended:
                self._reset_stream(stream, h2.STREAM_CLOSED)
                return
            if self._server and not end:  # what follows the request's head is trailers, and they end it
                self._reset_stream(stream, h2.PROTOCOL_ERROR)
                return
            if stream.endpoint is not None:
                stream.endpoint.on_headers(headers)
            if end:
                self._remote_end(stream)
            return
        if not self._is_idle(stream_id):
            return  # a stream that we ended
        self._last_peer_id = stream_id
        if self.going_away:
            return  # above the last id of our GOAWAY: the client may try it elsewhere
        stream = Stream(self, stream_id, self._initial_send_window)
        self.streams[stream_id] = stream
        if len(self.streams) > STREAM_LIMIT:
            self._guard.spend("reset")
            stream.reset(h2.REFUSED_STREAM)
            return
        self._handler.on_connect(stream, headers)
        if stream_id not in self.streams:
            self._guard.spend("refused")
        elif end:
            self._remote_end(stream)

    def _window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise PeerError(h2.FRAME_SIZE_ERROR, "WINDOW_UPDATE")
        increment = int.from_bytes(payload, "big") & h2.LARGEST_WINDOW_BYTES
        if not increment:
            raise PeerError(h2.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        if stream_id == 0:
            self.send_window += increment
            if self.send_window > h2.LARGEST_WINDOW_BYTES:
                raise PeerError(h2.FLOW_CONTROL_ERROR, "connection window overflow")
        else:
            stream = self.streams.get(stream_id)
            if stream is None:
                if self._is_idle(stream_id):
                    raise PeerError(h2.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
                return
            stream.send_window += increment
            if stream.send_window > h2.LARGEST_WINDOW_BYTES:
                self._reset_stream(stream, h2.FLOW_CONTROL_ERROR)
            elif stream.pending is not None:
                self._waiting[stream] = None
        if self._waiting:
            self.push_waiting()

    def _rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise PeerError(h2.FRAME_SIZE_ERROR, "RST_STREAM")
        if not stream_id or self._is_idle(stream_id):
            raise PeerError(h2.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        stream = self.streams.get(stream_id)
        if stream is None and self.crossing_resets:
            # We ended it, and the peer did, too, before it read so: as many as a change of policy ends at once.
            self.crossing_resets -= 1
            return
        if stream is None or (self._server and not stream.local_ended):
            # Rapid reset makes a server begin what nobody wants to see finished. A reset of what the server has
            # finished, or of a stream that a client opened itself, comes once a stream and ends an ordinary one: app
            # connections that live for a request end so by the thousand a second.
            self._guard.spend("reset")
        if stream is not None and self.forget(stream) and stream.endpoint is not None:
            stream.endpoint.on_reset(int.from_bytes(payload, "big"))

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise PeerError(h2.PROTOCOL_ERROR, "SETTINGS on a stream")
        self._guard.spend("settings")
        if flags & h2.FLAG_ACK:
            if payload:
                raise PeerError(h2.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            return
        values = h2.parse_settings(payload)
        first = not self._settings_seen
        self._settings_seen = True
        self.limit_sending(values, first=first)
        self.put(h2.SETTINGS_ACK)
        if first:
            self._handler.on_settings()
        if self._waiting:
            self.push_waiting()

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) != 8:
            raise PeerError(h2.FRAME_SIZE_ERROR if len(payload) != 8 else h2.PROTOCOL_ERROR, "PING")
        if not flags & h2.FLAG_ACK:
            self._guard.spend("ping")
            self.put(h2.ping(payload, ack=True))

    def _goaway(self, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) < 8:
            raise PeerError(h2.PROTOCOL_ERROR, "GOAWAY")
        self._guard.spend("goaway")
        last = int.from_bytes(payload[:4], "big") & LAST_CLIENT_ID
        self.going_away = True
        if not self._server:
            for stream in [s for s in self.streams.values() if s.stream_id > last]:
                if self.forget(stream) and stream.endpoint is not None:
                    stream.endpoint.on_reset(h2.REFUSED_STREAM)
        self._handler.on_goaway(int.from_bytes(payload[4:8], "big"))
