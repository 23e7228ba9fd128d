"""The tunnel as a machine: many byte streams in one HTTP/2 connection (HBONE). Sans-IO.

Theory of operation. ``receive`` takes decrypted bytes and calls stream endpoints; whatever must be sent gathers in
``out`` until the adapter takes it, once a turn of the event loop, so that the frames of all streams leave in one TLS
write and one system call. ``schedule`` asks the adapter for that turn. ``room`` is what may still be put out in this
turn; the adapter sets it to 0 while the transport is full, and every stream then keeps its bytes and stops its source.

Bulk bytes are not gathered: ``seal`` sends them from where they stand, behind what ``out`` holds. A long DATA frame is
passed on as it arrives, to a stream that ``takes_views`` as a view of the caller's buffer.

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
from typing import Final, Protocol

import hpack

from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodError, FloodGuard
from sidecar.tunnel.blocks import TABLE_BYTES, Decoder, Encoder
from sidecar.tunnel.stream import READ_BYTES, STREAM_WINDOW_BYTES, Headers, Stream

SETTING_RINGFENCE: Final = 0xF1CE
PROOF: Final = 0xF1

FRAME_LIMIT_BYTES: Final = 256 * 1024  # of DATA: it is passed on as it arrives, so nobody holds a whole frame
CONTROL_LIMIT_BYTES: Final = 64 * 1024  # of any other frame
CONNECTION_WINDOW_BYTES: Final = 16 * 1024 * 1024
HELD_LIMIT_BYTES: Final = 64 * 1024 * 1024
BURST_BYTES: Final = 1024 * 1024  # of bulk bytes in one turn, of all streams: what a small frame waits for at most
ROOM_BYTES: Final = 128 * 1024  # what is copied and encrypted in one go then stays in the cache, and off mmap
HEADER_BLOCK_LIMIT_BYTES: Final = 16 * 1024
STREAM_LIMIT: Final = 4096
_CONTINUATION_LIMIT: Final = 8
_LONG_BYTES: Final = 8 * 1024  # a DATA frame of which it pays to pass on a part
_LAST_CLIENT_ID: Final = (1 << 31) - 1

_unpack_header = Struct(">HBBBL").unpack_from


class TunnelHandler(Protocol):
    """Whom the machine tells about the connection as a whole."""

    def on_connect(self, stream: Stream, headers: Headers) -> None:
        """Server: a CONNECT arrived; sets ``stream.endpoint`` or answers and ends the stream."""

    def on_proof(self, payload: bytes) -> None:
        """A re-proof of the peer's identity arrived."""

    def on_goaway(self, code: int) -> None:
        """The peer takes no new streams."""

    def on_settings(self) -> None:
        """The peer's first settings are in force."""

    def on_drained(self) -> None:
        """The last stream of a connection that takes no new ones is gone. Called in the midst of other work."""


class TunnelMachine:
    """One end of a tunnel connection. ``receive`` raises PeerError when the peer breaks the protocol."""

    __slots__ = (
        "_await_preface",
        "_block",
        "_block_parts",
        "_block_stream",
        "_decoder",
        "_encoder",
        "_goaway_id",
        "_guard",
        "_handler",
        "_initial_send_window",
        "_invited_bytes",
        "_last_peer_id",
        "_left_bytes",
        "_left_stream",
        "_next_id",
        "_partial",
        "_recv_window",
        "_schedule",
        "_server",
        "_settings_seen",
        "_unacked_bytes",
        "_waiting",
        "bulky",
        "burst",
        "clear",
        "crossing_resets",
        "extra_bytes",
        "going_away",
        "held_bytes",
        "kept_bytes",
        "out",
        "peer_frame_bytes",
        "peer_is_ringfence",
        "peer_stream_limit",
        "room",
        "scheduled",
        "seal",
        "send_window",
        "streams",
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
        self.out: list[bytes] = []
        self.streams: dict[int, Stream] = {}
        self.room = ROOM_BYTES
        self.send_window = h2.DEFAULT_WINDOW_BYTES
        self.peer_frame_bytes = h2.DEFAULT_FRAME_BYTES
        self.peer_stream_limit = 100  # until the peer's settings arrive; RFC 9113 recommends no less
        self.peer_is_ringfence = False
        self.scheduled = False
        self.seal = seal
        self.clear = clear
        self.burst = BURST_BYTES
        self.bulky = False  # the last bytes held a long DATA frame: a view is the better argument of ``receive``
        self.extra_bytes = 0
        self.crossing_resets = 0  # streams that we have reset, of which the peer may still send a reset of its own
        self.held_bytes = 0
        self.kept_bytes = 0
        self.going_away = False
        self._server = server
        self._handler = handler
        self._schedule = schedule
        self._guard = FloodGuard(monotonic)
        self._encoder = Encoder()
        self._decoder = Decoder(HEADER_BLOCK_LIMIT_BYTES)
        self._initial_send_window = h2.DEFAULT_WINDOW_BYTES
        self._recv_window = CONNECTION_WINDOW_BYTES
        self._unacked_bytes = 0
        self._partial = b""
        self._left_bytes = 0  # still to come of a DATA frame that was passed on in part
        self._left_stream = 0
        self._await_preface = server
        self._settings_seen = False
        self._next_id = 1
        self._last_peer_id = 0
        self._goaway_id = _LAST_CLIENT_ID
        self._block: list[bytes] = []
        self._block_parts = 0
        self._block_stream = 0
        self._waiting: dict[Stream, None] = {}

    # -- sending ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Put out the preface (client), our settings and the connection window."""
        settings = {
            h2.SETTING_HEADER_TABLE_SIZE: TABLE_BYTES,
            h2.SETTING_MAX_CONCURRENT_STREAMS: STREAM_LIMIT,
            h2.SETTING_INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
            h2.SETTING_MAX_FRAME_SIZE: FRAME_LIMIT_BYTES,
            h2.SETTING_MAX_HEADER_LIST_SIZE: HEADER_BLOCK_LIMIT_BYTES,
            h2.SETTING_ENABLE_CONNECT_PROTOCOL if self._server else h2.SETTING_ENABLE_PUSH: 0,
            SETTING_RINGFENCE: 1,
        }
        first = b"" if self._server else h2.PREFACE
        window = h2.window_update(0, CONNECTION_WINDOW_BYTES - h2.DEFAULT_WINDOW_BYTES)
        self.put(first + h2.settings(settings) + window)

    def put(self, data: bytes) -> None:
        self.out.append(data)
        if not self.scheduled:
            self.schedule()

    def schedule(self) -> None:
        self.scheduled = True
        self._schedule()

    def take(self) -> bytes:
        """All that is to be sent now; called by the adapter once a turn."""
        out = self.out
        self.out = []
        self.scheduled = False
        return b"".join(out)

    def take_early(self) -> bytes:
        """What is put out so far, in the midst of a turn: bulk bytes follow it. ``take`` is still to be called."""
        out = self.out
        if len(out) == 1:
            (only,) = out
            out.clear()
            return only
        self.out = []
        return b"".join(out)

    def new_turn(self) -> None:
        """What was put out is on its way, and the transport takes more: to be called once a turn, after ``take``."""
        if self.room != ROOM_BYTES or self._waiting:
            self.set_room(ROOM_BYTES)
        else:
            self.burst = BURST_BYTES

    def set_room(self, room: int) -> None:
        """The transport takes ``room`` more bytes: streams that wait go on, in turn, one frame each."""
        self.room = room
        self.burst = BURST_BYTES
        self._invited_bytes = 0
        if room and self._waiting:
            self.push_waiting()

    def wait_for_room(self, stream: Stream) -> None:
        self._waiting[stream] = None
        self.push_waiting()

    def wait_for_turn(self, stream: Stream) -> None:
        """``stream`` has stopped its source; it is told when it may go on, at the earliest in the next turn."""
        self._waiting[stream] = None
        if not self.scheduled:
            self.schedule()

    def push_waiting(self) -> None:
        """Round robin over the streams that wait: one frame each, until the connection's window or the room is used up.

        A stream whose own window is used up leaves the round until its window grows. So a push costs what it sends,
        however many streams a peer lets starve.

        A stream whose source was only stopped is asked to go on when its turn comes, no more such a turn of the event
        loop than there is room for: what many sources read at once would have to be kept.
        """
        waiting = self._waiting
        while waiting and self.room > 0 and self.send_window > 0:
            stream = next(iter(waiting))
            if stream.only_stopped and stream.send_window > 0:
                if self._invited_bytes >= BURST_BYTES:
                    if not self.scheduled:
                        self.schedule()
                    return
                self._invited_bytes += READ_BYTES
            del waiting[stream]
            if stream.push_pending():
                if stream.pending is not None:
                    waiting[stream] = None
                elif not stream.local_ended and stream.endpoint is not None:
                    stream.endpoint.on_writable()

    def open(self, headers: Headers) -> Stream | None:
        """Client: a new stream with request ``headers``; None when this connection takes no more."""
        if self.going_away or len(self.streams) >= min(self.peer_stream_limit, STREAM_LIMIT):
            return None
        if self._next_id > _LAST_CLIENT_ID:
            self.going_away = True
            return None
        stream = Stream(self, self._next_id, self._initial_send_window)
        self._next_id += 2
        self.streams[stream.stream_id] = stream
        self.put(self._headers_frame(stream.stream_id, headers, end=False))
        return stream

    @property
    def opened(self) -> int:
        """Client: how many streams there have been."""
        return self._next_id >> 1

    def reply(self, stream: Stream, headers: Headers, *, end: bool = False) -> None:
        """Server: the answer to a CONNECT, or trailers when ``end``."""
        if stream.stream_id not in self.streams or stream.local_ended:
            return
        self.put(self._headers_frame(stream.stream_id, headers, end=end))
        stream.replied = True
        if end:
            stream.local_ended = True
            stream.drop_pending()
            if stream.remote_ended:
                self.forget(stream)

    def _headers_frame(self, stream_id: int, headers: Headers, *, end: bool) -> bytes:
        block = self._encoder.encode(headers)
        flags = h2.FLAG_END_HEADERS | (h2.FLAG_END_STREAM if end else 0)
        return h2.frame(h2.HEADERS, flags, stream_id, block)

    def prove(self, payload: bytes) -> None:
        """Send a re-proof; only to a peer that announced it understands one."""
        self.put(h2.frame(PROOF, 0, 0, payload))

    def goaway(self, code: int, detail: str = "") -> None:
        self.going_away = True
        self._goaway_id = min(self._goaway_id, self._last_peer_id)  # never more than an earlier one said
        self.put(h2.goaway(self._goaway_id, code, detail.encode()))

    def forget(self, stream: Stream) -> bool:
        """Drop a stream; False if it was gone already."""
        if self.streams.pop(stream.stream_id, None) is None:
            return False
        stream.local_ended = stream.remote_ended = True
        self.extra_bytes -= stream.extra_bytes
        if stream.pending is not None:
            stream.drop_pending()
            self._waiting.pop(stream, None)
        if stream.held_bytes:
            self.held_bytes -= stream.held_bytes
            stream.held_bytes = 0
            self.credit_connection()
        if self.going_away and not self.streams:
            self._handler.on_drained()
        return True

    def reset_all(self, code: int) -> None:
        """The connection is gone: tell every endpoint."""
        for stream in list(self.streams.values()):
            if self.forget(stream) and stream.endpoint is not None:
                stream.endpoint.on_reset(code)

    def credit_connection(self) -> None:
        if self._unacked_bytes >= CONNECTION_WINDOW_BYTES // 2 and self.held_bytes < HELD_LIMIT_BYTES:
            self.put(h2.window_update(0, self._unacked_bytes))
            self._recv_window += self._unacked_bytes
            self._unacked_bytes = 0

    # -- receiving ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview) -> None:
        """Bytes from the peer, any amount; of a view nothing is kept."""
        self.bulky = False
        if self._left_bytes:
            data = self._go_on(data)
        if self._partial:
            data = self._partial + data
            self._partial = b""
        size = len(data)
        pos = 0
        if self._await_preface:
            if size < len(h2.PREFACE):
                if not h2.PREFACE.startswith(data):
                    raise PeerError(h2.PROTOCOL_ERROR, "no HTTP/2 preface")
                self._partial = bytes(data)
                return
            if data[: len(h2.PREFACE)] != h2.PREFACE:
                raise PeerError(h2.PROTOCOL_ERROR, "no HTTP/2 preface")
            self._await_preface = False
            pos = len(h2.PREFACE)
        streams = self.streams
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
            self._control(kind, flags, stream_id & _LAST_CLIENT_ID, bytes(payload))
        if pos < size:
            self._partial = bytes(data[pos:])
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
        self.peer_frame_bytes = min(values.get(h2.SETTING_MAX_FRAME_SIZE, self.peer_frame_bytes), FRAME_LIMIT_BYTES)
        limit = values.get(h2.SETTING_MAX_CONCURRENT_STREAMS, STREAM_LIMIT if first else self.peer_stream_limit)
        self.peer_stream_limit = limit
        if h2.SETTING_HEADER_TABLE_SIZE in values:
            self._encoder.limit_table(values[h2.SETTING_HEADER_TABLE_SIZE])
        window = values.get(h2.SETTING_INITIAL_WINDOW_SIZE, self._initial_send_window)
        if window != self._initial_send_window:
            for stream in self.streams.values():
                stream.send_window += window - self._initial_send_window
                if stream.send_window > h2.LARGEST_WINDOW_BYTES:
                    raise PeerError(h2.FLOW_CONTROL_ERROR, "stream window overflow")
                if stream.pending is not None:
                    self._waiting[stream] = None
            self._initial_send_window = window
        if SETTING_RINGFENCE in values:
            self.peer_is_ringfence = True
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
        last = int.from_bytes(payload[:4], "big") & _LAST_CLIENT_ID
        self.going_away = True
        if not self._server:
            for stream in [s for s in self.streams.values() if s.stream_id > last]:
                if self.forget(stream) and stream.endpoint is not None:
                    stream.endpoint.on_reset(h2.REFUSED_STREAM)
        self._handler.on_goaway(int.from_bytes(payload[4:8], "big"))
