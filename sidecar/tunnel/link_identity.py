"""The identities behind a link, for as long as it lives: what the peer has shown, what we have shown it. Adapter.

A link lives at most until the earlier ``notAfter`` of the two SVIDs that stand behind it, unless re-proved: after each
renewal both ends send a proof over the new leaf (``sidecar.reprove``), and the link's end moves. A forged proof ends it
at once, a withheld one when the old SVID is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import VerificationError, VerifiedPeer
from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError
from sidecar.reprove import check_proof, make_proof
from sidecar.tls import TlsEngine
from sidecar.tunnel.link_context import LinkContext

_LONGEST_TIMER_SECONDS: Final = 3600.0


class IdentifiedLink(Protocol):
    """What the identities may do to their link."""

    closed: bool
    remote_address: str

    def send_proof(self, payload: bytes) -> None:
        """Send a re-proof to a peer that can check it."""

    def wake_at_expiry(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back then, and no longer when an earlier call asked for; not once the link is closed."""

    def give_up(self, code: int, words: str, reason: DenyReason, detail: str) -> None:
        """GOAWAY with ``code`` and ``words``, then the end, for which ``reason`` and ``detail`` are."""

    def defect(self, error: Exception) -> None:
        """A defect of ours: the link ends."""


class LinkIdentity:
    """Of one link: proves our SVID on it, checks what the peer proves, and ends it when either is over."""

    __slots__ = ("_checked", "_context", "_engine", "_link", "_own_svid", "_sent", "_verifier", "peer")

    def __init__(self, link: IdentifiedLink, engine: TlsEngine, context: LinkContext) -> None:
        self.peer: VerifiedPeer | None = None
        """As the handshake showed it, then as it last proved itself; None until then."""
        self._link = link
        self._engine = engine
        self._context = context
        self._own_svid = context.svid
        self._verifier = context.verifier  # what the handshake is judged by
        self._sent = 0
        self._checked = 0

    def established(self) -> None:
        """The handshake is over. RuntimeError: it verified nobody."""
        self.peer = self._engine.peer
        if self.peer is None:  # cannot be: the engine demands a verified peer
            raise RuntimeError("handshake ended without a verified peer")

    @property
    def bundles_changed(self) -> bool:
        """Whether the bundles in force are others than the handshake was judged by."""
        return self._verifier is not self._context.verifier

    @property
    def outdated(self) -> bool:
        """Whether our SVID was renewed, and the peer has not been shown that."""
        return self._own_svid is not self._context.svid

    def arm_expiry(self) -> None:
        """Look again when the first of the two SVIDs is over."""
        if self.peer is None:
            return
        left = min(self.peer.not_after, self._own_svid.not_after) - self._context.clock.now()
        self._link.wake_at_expiry(max(0.0, min(left, _LONGEST_TIMER_SECONDS)), self._expired)

    def _expired(self) -> None:
        if self.peer is None:
            return
        now = self._context.clock.now()
        if now < min(self.peer.not_after, self._own_svid.not_after):
            self.arm_expiry()
            return
        whose = "the peer's" if now >= self.peer.not_after else "our own"
        self._context.count_proof("missing")
        self._context.log.warning(
            "identity expired",
            peer=str(self.peer.spiffe_id),
            detail=f"{whose} SVID is over",
            remote=self._link.remote_address,
        )
        detail = f"{whose} SVID is over and was not proved anew"
        self._link.give_up(h2.NO_ERROR, "identity_expired", DenyReason.IDENTITY_EXPIRED, detail)

    def prove(self) -> None:
        """Show the peer, which can check it, that ``context.svid`` is ours."""
        svid = self._context.svid
        self._sent += 1
        try:
            self._link.send_proof(make_proof(self._engine, svid, self._sent))
        except Exception as error:  # the other links are renewed all the same
            self._link.defect(error)
            return
        self._own_svid = svid
        self.arm_expiry()

    def check(self, payload: bytes) -> bool:
        """Take the peer's proof of a newer SVID; PeerError, and the link is closed, when it proves nothing."""
        link, context = self._link, self._context
        if self.peer is None or link.closed:
            return False
        try:
            peer = check_proof(
                self._engine, context.verifier, payload, self.peer.spiffe_id, self._checked + 1, context.clock.now()
            )
        except VerificationError as error:
            context.count_proof("refused")
            context.log.warning(
                "re-proof refused",
                peer=str(self.peer.spiffe_id),
                reason=str(error.reason),
                detail=error.detail,
                remote=link.remote_address,
            )
            detail = f"re-proof refused: {error.reason}"
            link.give_up(h2.PROTOCOL_ERROR, "re-proof refused", DenyReason.REPROOF_REFUSED, detail)
            raise PeerError(h2.PROTOCOL_ERROR, "re-proof refused") from error  # what came behind it is not looked at
        self._checked += 1
        self.peer = peer
        context.count_proof("accepted")
        self.arm_expiry()
        return True

    def reverify(self) -> None:
        """New bundles: the peer's chain must still lead to one of them."""
        if self.peer is None or self._link.closed:
            return
        context = self._context
        try:
            context.verifier.verify(self.peer.chain_der, context.clock.now())
        except VerificationError as error:
            context.log.warning("peer no longer trusted", peer=str(self.peer.spiffe_id), reason=str(error.reason))
            detail = f"no longer trusted: {error.reason}"
            self._link.give_up(h2.NO_ERROR, "no longer trusted", DenyReason.PEER_REFUSED, detail)
        except Exception as error:  # a peer about whom there is no verdict is not trusted; the others are looked at
            self._link.defect(error)
