"""For how long nothing has moved on a connection, as seen by whoever looks now and then. Pure."""

from __future__ import annotations


class Idleness:
    """What was seen last."""

    __slots__ = ("_moved_bytes", "_since")

    def __init__(self) -> None:
        self._moved_bytes = -1
        self._since = 0.0

    def seconds(self, moved_bytes: int, now: float, *, busy: bool) -> float:
        """Since bytes moved (``moved_bytes``: so far), or something was under way; 0 at the first look."""
        if busy or moved_bytes != self._moved_bytes:
            self._moved_bytes = moved_bytes
            self._since = now
        return now - self._since
