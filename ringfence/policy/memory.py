"""What was decided before, by port, method and path, bounded in bytes over all callers of one decision table. Pure."""

from __future__ import annotations

from typing import Any, Final

LIMIT_REMEMBERED_BYTES: Final = 8 << 20
LIMIT_PATH_BYTES: Final = 1024
LIMIT_METHOD_BYTES: Final = 32
_ENTRY_BYTES: Final = 200  # of dict slots and small objects, beside the path itself

# Decisions, and for callers whose rules ask for facts also what is left to be asked of these.
Remembered = dict[int, dict[bytes, dict[bytes, Any]]]


class Memory:
    """The common bound; each caller's view holds a ``Remembered`` of its own and hands it in.

    When the bound is reached, all is forgotten: that costs each path one look-up in the tables, a few microseconds,
    so a sender of endless fresh paths gains nothing, and no list of who came first has to be kept on the hot path.
    """

    __slots__ = ("_held", "_limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int = LIMIT_REMEMBERED_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held: list[Remembered] = []
        self.used_bytes = 0

    def remember(
        self, remembered: Remembered, port: int, method: bytes, path: bytes, answer: object, answer_bytes: int = 0
    ) -> None:
        """Keep ``answer`` in ``remembered``, unless the path or the method is absurdly long; ``answer_bytes``: what the
        answer holds that is no part of the tables."""
        if len(path) > LIMIT_PATH_BYTES or len(method) > LIMIT_METHOD_BYTES:
            return
        size = len(path) + _ENTRY_BYTES + answer_bytes
        if self.used_bytes + size > self._limit_bytes:
            for held in self._held:
                held.clear()
            self._held.clear()
            self.used_bytes = 0
        self.used_bytes += size
        if not remembered:
            self._held.append(remembered)
        remembered.setdefault(port, {}).setdefault(method, {})[path] = answer
