"""One stream of a tunnel: a byte pipe in each direction with its own flow control. Sans-IO.

Sending: ``send`` puts DATA frames into the machine's output while the windows allow it, else it keeps the bytes and
answers False; the caller then stops reading its source until ``on_writable``. So what is kept here is at most one read;
and all streams of a connection together keep no more than ``KEPT_LIMIT_BYTES``: the one that would is reset.
Receiving: the endpoint says of each piece whether it is consumed; credit goes back to the peer only for what is.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.http2.frames import DATA, ENHANCE_YOUR_CALM, FLAG_END_STREAM, NO_ERROR, frame, rst_stream, window_update

if TYPE_CHECKING:
    from sidecar.tunnel.sending import TunnelSender

Headers = list[tuple[bytes, bytes]]

# A stalled receiver holds at most this much of one stream. Readers that have kept up are granted more, as far as a
# connection's ``EXTRA_LIMIT_BYTES`` go, since a sender that meets the end of its window must stop and start its source.
STREAM_WINDOW_BYTES: Final = 256 * 1024
_CREDIT_AT_BYTES: Final = STREAM_WINDOW_BYTES // 2
EXTRA_LIMIT_BYTES: Final = 16 * 1024 * 1024  # by which the windows of a connection's streams may grow, in all
LARGEST_WINDOW_BYTES: Final = 1024 * 1024  # to which the window of a stream with a quick reader grows
_CREDITS_TO_GROW: Final = 4  # in which a reader has shown that it keeps up: more than the app's transport would buffer
READ_BYTES: Final = 256 * 1024  # one read of a source in bulk
LOW_BURST_BYTES: Final = 512 * 1024  # half of a turn's burst
HEADER_BYTES: Final = 9
_SMALL_BYTES: Final = 4096  # what a full connection's source is read for, to be kept; gathered rather than sent apart
# For peers that grant no window: a full read each of a thousand streams.
KEPT_LIMIT_BYTES: Final = 256 * 1024 * 1024


class StreamEndpoint(Protocol):
    """What a stream tells the relay that uses it. None of these may raise."""

    def on_data(self, data: bytes) -> bool:
        """Bytes arrived (never empty). True: consumed; False: the endpoint calls ``Stream.credit`` later.

        To a stream that ``takes_views`` they may be a view, which is not to be kept.
        """

    def on_end(self) -> None:
        """The peer sends no more (half-close)."""

    def on_headers(self, headers: Headers) -> None:
        """The reply to CONNECT, or trailers; END_STREAM follows as ``on_end``."""

    def on_reset(self, code: int) -> None:
        """The stream is gone in both directions: reset by the peer, or its connection ended."""

    def on_writable(self) -> None:
        """All that ``send`` had kept is out; reading the source may go on."""


class _Discard:
    """The endpoint of a stream that nobody reads any more."""

    __slots__ = ()

    def on_data(self, data: bytes) -> bool:
        return True

    def on_end(self) -> None: ...

    def on_headers(self, headers: Headers) -> None: ...

    def on_reset(self, code: int) -> None: ...

    def on_writable(self) -> None: ...


_DISCARD: Final = _Discard()


class Stream:
    """A CONNECT stream. ``endpoint`` must be set before the first byte arrives."""

    __slots__ = (
        "abandoned",
        "credit_at_bytes",
        "credits",
        "data_suffix",
        "endpoint",
        "extra_bytes",
        "held_bytes",
        "kept_bytes",
        "local_ended",
        "machine",
        "pending",
        "recv_window",
        "remote_ended",
        "replied",
        "send_window",
        "stream_id",
        "takes_views",
        "unacked_bytes",
    )

    def __init__(self, machine: TunnelSender, stream_id: int, send_window: int) -> None:
        self.machine = machine
        self.stream_id = stream_id
        self.data_suffix = b"\0\0" + stream_id.to_bytes(4, "big")  # type DATA, no flags, the id
        self.endpoint: StreamEndpoint | None = None
        self.send_window = send_window
        self.recv_window = STREAM_WINDOW_BYTES
        self.unacked_bytes = 0  # consumed, not yet credited to the peer
        self.extra_bytes = 0  # by which the window has grown
        self.credit_at_bytes = _CREDIT_AT_BYTES
        self.credits = 0  # how often credit was given
        self.held_bytes = 0  # received, not yet consumed
        self.kept_bytes = 0  # in ``pending``
        self.pending: deque[bytes] | None = None
        self.local_ended = False
        self.remote_ended = False
        self.abandoned = False
        self.takes_views = False  # set by an endpoint that passes bytes on as they are
        self.replied = False  # server: CONNECT was answered

    @property
    def writable(self) -> bool:
        """Nothing is kept: ``send`` would put bytes out."""
        return self.pending is None

    def send(self, data: bytes) -> bool:
        """Send ``data``; False: no more may be read from the source until ``on_writable``. Ignored once ended."""
        machine = self.machine
        size = len(data)
        if (
            self.pending is not None
            or size > machine.room
            or size > self.send_window
            or size > machine.send_window
            or size > machine.peer_frame_bytes
            or self.local_ended
            or not size
        ):
            return self._send_slowly(data)
        machine.room -= size
        self.send_window -= size
        machine.send_window -= size
        machine.out.append(size.to_bytes(3, "big") + self.data_suffix)
        machine.out.append(data)
        if not machine.scheduled:
            machine.schedule()
        return True

    @property
    def only_stopped(self) -> bool:
        """The source was told to stop, and nothing of it is kept."""
        return self.pending is not None and not self.pending

    def read_into(self) -> memoryview | None:
        """Where the source may be read to for ``send_in_place``, as much as could be sent now; None: not this way.

        At least a little, since a transport that asks will read.
        """
        machine = self.machine
        clear = machine.clear
        if clear is None:
            return None
        size = min(READ_BYTES, self.send_window, machine.send_window) if machine.room > 0 else 0
        return clear[HEADER_BYTES : HEADER_BYTES + max(size, _SMALL_BYTES)]

    def send_in_place(self, size: int) -> bool:
        """As ``send``, for the first ``size`` bytes of what ``read_into`` gave; they are on their way on return.

        Stops the source as soon as no more could be sent, so that nothing it reads must be kept, or the turn's burst is
        over: a source that nothing stopped yet may exceed that by one read.
        """
        machine = self.machine
        clear, seal = machine.clear, machine.seal
        assert clear is not None
        assert seal is not None
        if (
            size < _SMALL_BYTES
            or self.pending is not None
            or machine.room <= 0
            or size > self.send_window
            or size > machine.send_window
            or size > machine.peer_frame_bytes
            or self.local_ended
        ):
            return self.send(bytes(clear[HEADER_BYTES : HEADER_BYTES + size]))
        machine.burst -= size
        self.send_window -= size
        machine.send_window -= size
        clear[:HEADER_BYTES] = size.to_bytes(3, "big") + self.data_suffix
        seal(HEADER_BYTES + size)
        if machine.burst < LOW_BURST_BYTES and not machine.scheduled:
            machine.schedule()  # the next turn has a new burst: a quick source need not be stopped for it
        if (machine.burst > 0 and machine.room > 0 and self.send_window > 0 and machine.send_window > 0) or (
            self.local_ended
        ):
            return True
        self.pending = deque()
        machine.wait_for_turn(self)
        return False

    def _send_slowly(self, data: bytes) -> bool:
        if self.local_ended or not data:
            return True
        machine = self.machine
        if self.pending is None:
            self.pending = deque()
        self.pending.append(data)
        self.kept_bytes += len(data)
        machine.kept_bytes += len(data)
        machine.wait_for_room(self)
        if machine.kept_bytes > KEPT_LIMIT_BYTES:
            endpoint = self.endpoint
            self.reset(ENHANCE_YOUR_CALM)
            if endpoint is not None:
                endpoint.on_reset(ENHANCE_YOUR_CALM)
        return self.pending is None

    def push_pending(self) -> bool:
        """Send one frame of what is kept, as far as the windows allow; False when nothing could be sent."""
        machine = self.machine
        pending = self.pending
        if pending is None:
            return False
        size = min(self.send_window, machine.send_window, machine.room, machine.peer_frame_bytes)
        if size <= 0:
            return False
        if not pending:
            self.pending = None
            return True
        first = pending.popleft()
        if len(first) > size:
            # A memoryview keeps cutting a large piece linear in its size.
            view = memoryview(first)
            pending.appendleft(view[size:])  # type: ignore[arg-type]
            first = view[:size]  # type: ignore[assignment]
        size = len(first)
        machine.room -= size
        self.send_window -= size
        machine.send_window -= size
        self.kept_bytes -= size
        machine.kept_bytes -= size
        machine.out.append(size.to_bytes(3, "big") + self.data_suffix)
        machine.out.append(first)
        if not machine.scheduled:
            machine.schedule()
        if not pending:
            self.pending = None
        elif not pending[0]:  # the mark that ``end`` leaves behind pending bytes
            self.pending = None
            machine.put(frame(DATA, FLAG_END_STREAM, self.stream_id))
            self._ended_locally()
        return True

    def drop_pending(self) -> None:
        """Forget what is kept: it will not be sent."""
        self.machine.kept_bytes -= self.kept_bytes
        self.kept_bytes = 0
        self.pending = None

    def end(self) -> None:
        """Send no more (half-close); what ``send`` kept goes first."""
        if self.local_ended:
            return
        self.local_ended = True
        if self.pending:
            self.pending.append(b"")
            return
        self.pending = None
        self.machine.put(frame(DATA, FLAG_END_STREAM, self.stream_id))
        self._ended_locally()

    def _ended_locally(self) -> None:
        if self.remote_ended:
            self.machine.forget(self)
        elif self.abandoned:
            self.reset(NO_ERROR)

    def close(self) -> None:
        """Send what is kept, then end both directions; the endpoint is told nothing more."""
        self.endpoint = _DISCARD
        self.abandoned = True
        if not self.local_ended:
            self.end()
        elif self.pending is None:
            self.reset(NO_ERROR)

    def reset(self, code: int) -> None:
        """End both directions at once; the endpoint is not told."""
        machine = self.machine
        if machine.forget(self):
            machine.crossing_resets += 1
            machine.put(rst_stream(self.stream_id, code))

    def drop(self, code: int) -> None:
        """As ``reset``, also from within what the machine is just telling: no more of it is told."""
        self.endpoint = _DISCARD
        self.reset(code)

    def credit(self, size: int) -> None:
        """``size`` bytes for which ``on_data`` answered False are consumed now. Nothing to a stream that is gone."""
        if self.stream_id not in self.machine.streams:
            return
        self.held_bytes -= size
        self.machine.held_bytes -= size
        self.consumed(size)
        self.machine.credit_connection()

    def consumed(self, size: int) -> None:
        self.unacked_bytes += size
        if self.unacked_bytes < self.credit_at_bytes or self.remote_ended:
            return
        machine = self.machine
        increment = self.unacked_bytes
        self.unacked_bytes = 0
        self.credits += 1
        if (
            self.credits > _CREDITS_TO_GROW
            and self.extra_bytes < LARGEST_WINDOW_BYTES - STREAM_WINDOW_BYTES
            and not self.held_bytes
            and machine.extra_bytes < EXTRA_LIMIT_BYTES
        ):
            self.extra_bytes += STREAM_WINDOW_BYTES
            machine.extra_bytes += STREAM_WINDOW_BYTES
            increment += STREAM_WINDOW_BYTES
            self.credit_at_bytes = max(_CREDIT_AT_BYTES, (STREAM_WINDOW_BYTES + self.extra_bytes) // 4)
        self.recv_window += increment
        machine.put(window_update(self.stream_id, increment))
