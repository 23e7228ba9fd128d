"""Every frame that no hot loop takes: to whom it goes, and whether its form is that of its kind (RFC 9113 section 6).

Common to all readers of HTTP/2 between two ends. Owns what is wrong with a frame by itself, and the budgets of frames
that mean nothing here; what a frame means for streams, windows and settings is each reader's own.
"""

from __future__ import annotations

from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError
from sidecar.http2.reading import LARGEST_ID, FrameReader


class FrameDispatch(FrameReader):
    """See the module's docstring. Handlers get the whole frame, header included."""

    __slots__ = ()

    def slow(self, kind: int, flags: int, stream_id: int, frame: bytes) -> None:
        """One frame, with its header. Raises PeerError."""
        stream_id &= LARGEST_ID
        if self._block is not None:
            self.take_continuation(kind, flags, stream_id, frame)
        elif not self.began and kind != h2.SETTINGS:
            raise PeerError(h2.PROTOCOL_ERROR, "first frame is not SETTINGS")
        elif kind == h2.DATA:
            self.slow_data(flags, stream_id, frame)
        elif kind == h2.HEADERS:
            self.take_headers(flags, stream_id, frame)
        elif kind == h2.WINDOW_UPDATE:
            if len(frame) != h2.HEADER_BYTES + 4:
                raise PeerError(h2.FRAME_SIZE_ERROR, "WINDOW_UPDATE")
            self.window_update(stream_id, int.from_bytes(frame[9:], "big") & h2.LARGEST_WINDOW_BYTES, frame)
        elif kind == h2.RST_STREAM:
            if len(frame) != h2.HEADER_BYTES + 4:
                raise PeerError(h2.FRAME_SIZE_ERROR, "RST_STREAM")
            self.rst_stream(stream_id, int.from_bytes(frame[9:], "big"), frame)
        elif kind == h2.SETTINGS:
            self._settings(flags, stream_id, frame)
        elif kind == h2.PING:
            if stream_id or len(frame) != h2.HEADER_BYTES + 8:
                raise PeerError(h2.PROTOCOL_ERROR if stream_id else h2.FRAME_SIZE_ERROR, "PING")
            self.guard.spend("ping")
            self.ping(flags, frame)
        elif kind == h2.GOAWAY:
            if stream_id or len(frame) < h2.HEADER_BYTES + 8:
                raise PeerError(h2.FRAME_SIZE_ERROR if not stream_id else h2.PROTOCOL_ERROR, "GOAWAY")
            self.guard.spend("goaway")
            last_id = int.from_bytes(frame[9:13], "big") & LARGEST_ID
            self.take_goaway(last_id, int.from_bytes(frame[13:17], "big"), frame[17:])
        elif kind == h2.PRIORITY:
            if not stream_id or len(frame) != h2.HEADER_BYTES + 5:
                raise PeerError(h2.FRAME_SIZE_ERROR if stream_id else h2.PROTOCOL_ERROR, "PRIORITY")
            self.guard.spend("priority")
        elif kind in (h2.PUSH_PROMISE, h2.CONTINUATION):
            raise PeerError(h2.PROTOCOL_ERROR, f"frame of kind {kind} out of place")
        else:
            self.guard.spend("unknown")

    def _settings(self, flags: int, stream_id: int, frame: bytes) -> None:
        if stream_id:
            raise PeerError(h2.PROTOCOL_ERROR, "SETTINGS on a stream")
        if not flags & h2.FLAG_ACK:
            self.guard.spend("settings")
            self.settings(frame[h2.HEADER_BYTES :])
            return
        if len(frame) > h2.HEADER_BYTES:
            raise PeerError(h2.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
        self.settings_acked(frame)

    # --- what the readers do with them ---

    def slow_data(self, flags: int, stream_id: int, frame: bytes) -> None:
        """DATA that the hot loop did not take."""
        raise NotImplementedError

    def window_update(self, stream_id: int, increment: int, frame: bytes) -> None:
        """``increment`` may still be 0; ``stream_id`` 0: the connection's window."""
        raise NotImplementedError

    def rst_stream(self, stream_id: int, code: int, frame: bytes) -> None:
        raise NotImplementedError

    def settings(self, payload: bytes) -> None:
        """SETTINGS that are no acknowledgement; not parsed yet."""
        raise NotImplementedError

    def settings_acked(self, frame: bytes) -> None:
        raise NotImplementedError

    def ping(self, flags: int, frame: bytes) -> None:
        raise NotImplementedError

    def take_goaway(self, last_id: int, code: int, debug: bytes) -> None:
        raise NotImplementedError
