"""One sender's bytes as frames and header blocks: what every reader of HTTP/2 between two ends has in common.

Owns the bytes of a frame that is not complete, a header block that is not complete, the sender's dynamic table, and the
memory of streams that are gone. The loop over whole frames is each reader's own, for it is the hot path.

Late frames. A stream that was reset lives on in frames that are still under way (RFC 9113 section 5.1): they are told
from frames on a stream whose sender had ended it, which break the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodGuard
from sidecar.http2.heads import Entry, Heads
from sidecar.http2.reasons import Broken, BrokenError
from sidecar.http2.table import DEFAULT_TABLE_BYTES, Table

BLOCK_LIMIT_BYTES: Final = 64 * 1024
CONTINUATIONS_LIMIT: Final = 16
LATE_LIMIT: Final = 1024
LARGEST_ID: Final = (1 << 31) - 1
SMALLEST_UPDATE_BYTES: Final = 64
"""A smaller window update is counted: nobody honest opens a window byte by byte."""
_SMALL_UPDATE: Final = (SMALLEST_UPDATE_BYTES - 1).to_bytes(4, "big")
_RESERVED_BIT: Final = b"\x80"

unpack_header = Struct(">LBL").unpack_from
"""A frame's header: its length with its kind in the lowest byte, its flags, its stream id with the reserved bit."""
pack_header = Struct(">LBL").pack


class OpenBlock:
    """A header block whose last frame has not come."""

    __slots__ = ("end", "parts", "size_bytes", "stream_id")

    def __init__(self, stream_id: int, end: bool, part: bytes) -> None:
        self.stream_id = stream_id
        self.end = end
        self.parts = [part]
        self.size_bytes = len(part)


class FrameReader:
    """See the module's docstring."""

    __slots__ = (
        "_block",
        "_have",
        "_need",
        "_parts",
        "began",
        "ceiling_bytes",
        "forgotten",
        "frame_limit_bytes",
        "guard",
        "heads",
        "known",
        "late",
        "table",
    )

    def __init__(self, heads: Heads, guard: FloodGuard, table: Table) -> None:
        self.heads = heads
        self.guard = guard
        self.began = False
        """The sender's first SETTINGS has come."""
        self.table = table
        """The sender's dynamic table, as its encoder has it."""
        self.known: Callable[[bytes], Entry | None] = table.known.get
        self.ceiling_bytes = DEFAULT_TABLE_BYTES
        self.frame_limit_bytes = h2.DEFAULT_FRAME_BYTES
        self.late: dict[int, bool] = {}
        """Streams that are gone but for the sender's last frames; whether these pass."""
        self.forgotten = 0
        self._block: OpenBlock | None = None
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0

    # --- bytes ---

    @property
    def in_block(self) -> bool:
        """A header block, or a frame, has begun and is not complete."""
        return self._block is not None or bool(self._parts)

    def drop_input(self) -> None:
        self._parts.clear()
        self._have = self._need = 0
        self._block = None

    def gather(self, data: bytes) -> bytes:
        """Put ``data`` behind what was kept; b"" while a frame is incomplete."""
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._need:
            return b""
        joined = b"".join(self._parts)
        self._parts.clear()
        self._have = 0
        return joined

    def keep(self, rest: bytes, need: int) -> None:
        """Keep the beginning of a frame until ``need`` bytes of it have come."""
        if rest:
            self._parts.append(rest)
        self._have = len(rest)
        self._need = need

    # --- header blocks ---

    def take_headers(self, flags: int, stream_id: int, frame: bytes) -> None:
        """A HEADERS frame, with its header."""
        fragment = h2.unpad(frame[h2.HEADER_BYTES :], flags, priority=True)
        end = bool(flags & h2.FLAG_END_STREAM)
        if flags & h2.FLAG_END_HEADERS:
            self.whole_block(stream_id, end, fragment)
        else:
            self._block = OpenBlock(stream_id, end, fragment)

    def take_continuation(self, kind: int, flags: int, stream_id: int, frame: bytes) -> None:
        """The frame behind a header block that is not complete, with its header."""
        block = self._block
        if block is None or kind != h2.CONTINUATION or stream_id != block.stream_id:
            raise PeerError(h2.PROTOCOL_ERROR, "header block interrupted")
        fragment = frame[h2.HEADER_BYTES :]
        block.parts.append(fragment)
        block.size_bytes += len(fragment)
        if len(block.parts) > CONTINUATIONS_LIMIT:
            detail = f"header block in more than {CONTINUATIONS_LIMIT} frames"
            raise BrokenError(h2.ENHANCE_YOUR_CALM, Broken.CONTINUATION_FLOOD, detail)
        if block.size_bytes > BLOCK_LIMIT_BYTES:
            detail = f"header block above {BLOCK_LIMIT_BYTES} bytes"
            raise BrokenError(h2.ENHANCE_YOUR_CALM, Broken.HEADER_BOMB, detail)
        if flags & h2.FLAG_END_HEADERS:
            self._block = None
            self.whole_block(block.stream_id, block.end, b"".join(block.parts))

    def whole_block(self, stream_id: int, end: bool, block: bytes) -> None:
        """A header block is complete."""
        raise NotImplementedError

    def read(self, block: bytes) -> Entry:
        """Read ``block`` and go on to the table after it."""
        entry = self.known(block)
        if entry is None:
            entry = self.heads.read(block, self.table, self.ceiling_bytes)
        after = entry.after
        if after is not None:
            self.table = after
            self.known = after.known.get
        elif self.known is _nothing_known:
            self.known = self.table.known.get
        return entry

    def lower_ceiling(self, ceiling_bytes: int) -> None:
        """The sender has acknowledged that its table has at most ``ceiling_bytes``."""
        self.ceiling_bytes = ceiling_bytes
        if self.table.limit_bytes > ceiling_bytes:
            self.known = _nothing_known  # the next block must be read: it has to lower the limit

    # --- streams that are gone ---

    def remember_late(self, stream_id: int, *, passes: bool) -> None:
        """The stream is gone, but the sender may not know it yet."""
        if len(self.late) >= LATE_LIMIT:
            oldest = next(iter(self.late))
            del self.late[oldest]
            self.forgotten = max(self.forgotten, oldest)
        self.late[stream_id] = passes

    def check_not_idle(self, stream_id: int) -> None:
        """PeerError for a stream that nobody has opened."""
        raise NotImplementedError

    def late_passes(self, stream_id: int, end: bool) -> bool:
        """Whether DATA or HEADERS on a stream that is gone pass; PeerError if the sender must know that it is gone."""
        self.check_not_idle(stream_id)
        passes = self.late.get(stream_id)
        if passes is None:
            if stream_id > self.forgotten:
                raise BrokenError(h2.STREAM_CLOSED, Broken.STREAM_CLOSED, f"frame on closed stream {stream_id}")
            return False
        if end:
            del self.late[stream_id]
        return passes


def is_plain_update(payload: bytes) -> bool:
    """Whether ``payload`` of a WINDOW_UPDATE opens the window, by enough, and has no reserved bit set."""
    return _SMALL_UPDATE < payload < _RESERVED_BIT


def _nothing_known(_: bytes) -> Entry | None:
    return None
