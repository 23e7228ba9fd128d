"""The port through which the splitter asks where a request is to go, and tells how it went. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from sidecar.balance import Member, Outcome


class Chooser(Protocol):
    """Whoever balances one upstream. Plain calls, made in the middle of parsing."""

    def choose(self, now: float, avoid: Collection[Member]) -> Member | None:
        """The endpoint for one request, none of ``avoid``; None if there is no other. ``now``: monotonic seconds."""

    def begun(self, member: Member) -> None:
        """A request was sent there."""

    def ended(self, member: Member, seconds: float, outcome: Outcome) -> None:
        """Once for each `begun`; ``seconds`` until its response began."""

    def unreachable(self, member: Member, seconds: float) -> None:
        """A connection could not be had there; it was tried for ``seconds``."""
