"""Budgets for frames that cost the receiver more than the sender: resets, pings, settings, empty frames.

Each kind has a bucket that refills with time. An honest peer never empties one; a peer that does is told
ENHANCE_YOUR_CALM and cut off (rapid reset CVE-2023-44487, the floods of CVE-2019-9511 … 9518).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sidecar.http2.frames import ENHANCE_YOUR_CALM, PeerError

# kind -> (frames a second, burst)
TUNNEL_BUDGETS: Final[Mapping[str, tuple[float, float]]] = {
    # Resets and refused streams are generous, since each aborted or forbidden app connection is one; the others an
    # honest peer sends a handful of times in the life of a connection.
    "reset": (1_000.0, 4_000.0),
    "refused": (1_000.0, 4_000.0),
    "ping": (10.0, 50.0),
    "settings": (2.0, 20.0),
    "goaway": (2.0, 20.0),
    "empty_data": (50.0, 200.0),
    "priority": (10.0, 100.0),
    "unknown": (50.0, 200.0),
    "proof": (2.0, 20.0),
}
APP_BUDGETS: Final[Mapping[str, tuple[float, float]]] = {
    # One app connection. A reset is counted when it ends a stream early, and when the peer provoked it. Pings are
    # generous, since gRPC stacks measure the bandwidth by one a round trip.
    "reset": (500.0, 2_000.0),
    "ping": (500.0, 2_000.0),
    "settings": (2.0, 20.0),
    "empty_data": (50.0, 200.0),
    "priority": (50.0, 500.0),
    "unknown": (50.0, 200.0),
    "window": (500.0, 2_000.0),
    "goaway": (2.0, 20.0),
}


class FloodError(PeerError):
    """The budget for frames of ``kind`` is used up, or another limit that only a flood meets."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(ENHANCE_YOUR_CALM, detail or f"too many frames of kind {kind}")
        self.kind = kind


class FloodGuard:
    """Token buckets by kind; ``monotonic`` is read only for frames of these kinds, never for ordinary data."""

    __slots__ = ("_buckets", "_budgets", "_monotonic")

    def __init__(
        self, monotonic: Callable[[], float], budgets: Mapping[str, tuple[float, float]] = TUNNEL_BUDGETS
    ) -> None:
        self._monotonic = monotonic
        self._budgets = budgets
        self._buckets: dict[str, tuple[float, float]] = {}

    def spend(self, kind: str) -> None:
        """Take one frame of ``kind`` from its budget; FloodError when it is empty."""
        rate, burst = self._budgets[kind]
        now = self._monotonic()
        left, since = self._buckets.get(kind, (burst, now))
        left = min(burst, left + (now - since) * rate)
        if left < 1.0:
            raise FloodError(kind)
        self._buckets[kind] = (left - 1.0, now)
