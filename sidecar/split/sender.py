"""What one HTTP/2 connection that ends here sends: frames as they are made, content as the windows let it. Sans-IO.

Frames gather in ``out`` until the adapter takes them. While the adapter says that the connection is ``full``, content
waits in its `Flow`; frames about the connection and header blocks still go out, and are counted: an end that has masses
of them made and reads none is cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.http2 import frames as h2
from sidecar.http2.direction import CREDIT_FOR_FRAME, CREDIT_LIMIT
from sidecar.http2.dispatch import FrameDispatch
from sidecar.http2.guard import FloodGuard
from sidecar.http2.heads import Heads
from sidecar.http2.literal import SIZE_UPDATE_ZERO
from sidecar.http2.reading import pack_header
from sidecar.http2.table import Table
from sidecar.split.call import Flow

if TYPE_CHECKING:
    from sidecar.split.calls import Calls


class Sender(FrameDispatch):
    """The sending half of an `End`, on top of its reading of frames."""

    __slots__ = (
        "calls",
        "credit",
        "full",
        "must_clear",
        "out",
        "peer_frame_bytes",
        "send_window",
        "touched",
        "unread_bytes",
        "waiting",
    )

    def __init__(self, calls: Calls, heads: Heads, guard: FloodGuard, table: Table) -> None:
        super().__init__(heads, guard, table)
        self.calls = calls
        self.out: list[bytes] = []
        self.touched = False
        """There is output since the adapter looked last."""
        self.full = False
        self.unread_bytes = 0
        self.credit = CREDIT_LIMIT
        """Frames about windows and dead streams that the peer may still send: more for each DATA frame that it gets."""
        self.send_window = h2.DEFAULT_WINDOW_BYTES
        self.peer_frame_bytes = h2.DEFAULT_FRAME_BYTES
        self.must_clear = False
        """The next header block is to say that the peer's table stays empty."""
        self.waiting: dict[Flow, None] = {}
        """Those that only the connection's window, or its being full, keeps from sending; each in its turn."""

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

    def put_head(self, stream_id: int, block: bytes, *, end: bool) -> None:
        """A header block of literals."""
        if self.must_clear:
            self.must_clear = False
            block = SIZE_UPDATE_ZERO + block
        length = len(block)
        if length > self.peer_frame_bytes or self.full:
            self.put(h2.header_frames(stream_id, block, end=end, limit_bytes=self.peer_frame_bytes))
        else:
            if not self.touched:
                self.calls.touch(self)
            self.out += (pack_header(length << 8 | h2.HEADERS, 5 if end else 4, stream_id), block)

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
            self.out += (pack_header(size << 8, 1 if end else 0, flow.stream_id), content)
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
            self.put(pack_header(size << 8, 1 if last else 0, flow.stream_id))
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
