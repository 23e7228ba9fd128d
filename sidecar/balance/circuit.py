"""How much one service may have open at once from here; what comes beyond it is refused at once. Pure."""

from __future__ import annotations

from ringfence.routing.model import CircuitBreaker


class Circuit:
    """Counts against the limits of a route. Each ``try_`` that answers True is undone once, by the owner of what it
    stands for."""

    __slots__ = ("connections", "limits", "pending", "requests")

    def __init__(self, limits: CircuitBreaker) -> None:
        self.limits = limits
        self.connections = 0
        self.pending = 0
        self.requests = 0

    @property
    def crowded(self) -> bool:
        """More connections are open than the limit lets: one of those that it did not let in is still too many."""
        limit = self.limits.connections
        return limit is not None and self.connections > limit

    def try_connection(self) -> bool:
        """A connection of the app more."""
        limit = self.limits.connections
        if limit is not None and self.connections >= limit:
            return False
        self.connections += 1
        return True

    def try_pending(self) -> bool:
        """One more waits for a mesh connection."""
        limit = self.limits.pending
        if limit is not None and self.pending >= limit:
            return False
        self.pending += 1
        return True

    def try_request(self) -> bool:
        """A request more in flight."""
        limit = self.limits.requests
        if limit is not None and self.requests >= limit:
            return False
        self.requests += 1
        return True
