"""What one end of a tunnel connection sends, and the streams that it knows. Sans-IO.

Whatever must be sent gathers in ``out`` until the adapter takes it, once a turn of the event loop, so that the frames
of all streams leave in one TLS write and one system call. ``schedule`` asks the adapter for that turn. ``room`` is what
may still be put out in this turn; the adapter sets it to 0 while the transport is full, and every stream then keeps its
bytes and stops its source. Bulk bytes are not gathered: ``seal`` sends them from where they stand, behind ``out``.

``sidecar.tunnel.machine`` adds what is received. A stream knows this half alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError
from sidecar.tunnel.blocks import TABLE_BYTES, Encoder
from sidecar.tunnel.stream import READ_BYTES, STREAM_WINDOW_BYTES, Headers, Stream

SETTING_RINGFENCE: Final = 0xF1CE
PROOF: Final = 0xF1
FRAME_LIMIT_BYTES: Final = 256 * 1024  # of DATA: it is passed on as it arrives, so nobody holds a whole frame
CONNECTION_WINDOW_BYTES: Final = 16 * 1024 * 1024
HELD_LIMIT_BYTES: Final = 64 * 1024 * 1024
BURST_BYTES: Final = 1024 * 1024  # of bulk bytes in one turn, of all streams: what a small frame waits for at most
ROOM_BYTES: Final = 128 * 1024  # what is copied and encrypted in one go then stays in the cache, and off mmap
HEADER_BLOCK_LIMIT_BYTES: Final = 16 * 1024
STREAM_LIMIT: Final = 4096
LAST_CLIENT_ID: Final = (1 << 31) - 1


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


class TunnelSender:
    """The sending half of a tunnel connection. ``sidecar.tunnel.machine`` makes it whole."""

    __slots__ = (
        "_encoder",
        "_goaway_id",
        "_handler",
        "_initial_send_window",
        "_invited_bytes",
        "_last_peer_id",
        "_next_id",
        "_recv_window",
        "_schedule",
        "_server",
        "_unacked_bytes",
        "_waiting",
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
        self.extra_bytes = 0
        self.crossing_resets = 0  # streams that we have reset, of which the peer may still send a reset of its own
        self.held_bytes = 0
        self.kept_bytes = 0
        self.going_away = False
        self._server = server
        self._handler = handler
        self._schedule = schedule
        self._encoder = Encoder()
        self._initial_send_window = h2.DEFAULT_WINDOW_BYTES
        self._recv_window = CONNECTION_WINDOW_BYTES
        self._unacked_bytes = 0
        self._next_id = 1
        self._last_peer_id = 0
        self._goaway_id = LAST_CLIENT_ID
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
        if self._next_id > LAST_CLIENT_ID:
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
        block = self._encoder.encode_once(headers) if end else self._encoder.encode(headers)
        flags = h2.FLAG_END_HEADERS | (h2.FLAG_END_STREAM if end else 0)
        return h2.frame(h2.HEADERS, flags, stream_id, block)

    def limit_sending(self, values: Mapping[int, int], *, first: bool) -> None:
        """Keep to the peer's settings from now on; PeerError when they cannot be kept to."""
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
