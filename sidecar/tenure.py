"""How long a direct connection may live: until the first of the two SVIDs that were shown on it ends. Adapter.

Without a tunnel neither end can prove a newer SVID on a connection that lives (``sidecar.reprove``), so HTTP is drained
a little before the end, that no request of a client that renews is cut off, and what is opaque is cut off at it. First
a client that is busy is asked to leave with its next response, then one that is idle is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import VerificationError, VerifiedPeer, X509Svid
from sidecar.tunnel.link_context import LinkContext

LONGEST_TIMER_SECONDS: Final = 3600.0
GRACE_SECONDS: Final = 30.0  # in which HTTP ends between requests before an SVID is over,
GRACE_SHARE: Final = 0.1  # but no larger share than this of what was left of it


class Tenure:
    """The life of one direct connection; ``over`` when it has ended by itself."""

    __slots__ = ("_asked", "_context", "_cut", "_drain", "_grace_seconds", "_peer", "_timer", "_until")

    def __init__(
        self,
        context: LinkContext,
        peer: VerifiedPeer,
        own: X509Svid,
        *,
        drain: Callable[[bool], None],
        cut: Callable[[DenyReason, str], None],
        early: int = 1,
    ) -> None:
        """``own``: the SVID shown here; ``drain`` (True: also an idle one) and ``cut`` end the connection, in time or
        at once. ``early``: begin so many times as early, as the end does that loses nothing by leaving."""
        self._context = context
        self._peer = peer
        self._drain = drain
        self._cut = cut
        self._asked = False
        self._until = min(peer.not_after, own.not_after)
        left = self._until - context.clock.now()
        self._grace_seconds = early * min(GRACE_SECONDS, max(0.0, left) * GRACE_SHARE)
        self._timer: asyncio.TimerHandle | None = None
        self._arm(left - self._grace_seconds)

    def over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def reverify(self) -> bool:
        """Whether the peer's chain leads to one of the bundles as they are now; the connection is cut if not."""
        try:
            self._context.verifier.verify(self._peer.chain_der, self._context.clock.now())
        except VerificationError as error:
            peer, reason = str(self._peer.spiffe_id), str(error.reason)
            self._context.log.warning("peer no longer trusted", peer=peer, reason=reason)
            self.over()
            self._cut(DenyReason.PEER_REFUSED, f"no longer trusted: {reason}")
            return False
        return True

    def _arm(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, min(seconds, LONGEST_TIMER_SECONDS)), self._look)

    def _look(self) -> None:
        left = self._until - self._context.clock.now()
        if left <= 0:
            whose = "the peer's" if self._until == self._peer.not_after else "our own"
            self._timer = None
            self._cut(DenyReason.IDENTITY_EXPIRED, f"{whose} SVID is over")
            return
        if left > self._grace_seconds:
            self._arm(left - self._grace_seconds)
            return
        if not self._asked:
            self._asked = True
            self._arm(left / 2)
            self._drain(False)
        else:
            self._arm(left)
            self._drain(True)
