"""Verification of the peer inside the TLS handshake.

OpenSSL calls back for each certificate of the peer's chain, before the handshake is done. Its own verdict is worthless
here, since the context's store is empty on purpose: with any pool of roots, a CA of one trust domain could vouch for
an identity of another. So the callback only collects the certificates by depth, lets OpenSSL go on to the leaf, and
there verifies the collected chain against the bundle of the trust domain that the leaf names. ``peer`` is set in that
one place; the engine requires it after the handshake, so that a handshake in which the callback was never called (no
certificate, a resumption) proves nothing.

The call for the leaf comes when all signatures of the chain were checked: first for the error "not yet valid", which
the contexts provoke (a refusal is then told as bad_certificate), then for success.

OpenSSL keeps only the certificates that it could link from the leaf upwards; others that the peer sent are not seen.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from OpenSSL import SSL, crypto

from ringfence.kit.clock import Clock
from ringfence.spiffe import (
    MAX_CHAIN_CERTIFICATES,
    SpiffeId,
    VerificationError,
    VerifiedPeer,
    VerifyReason,
)

# X509_V_ERR_* that an empty store must cause, and the times, which the verifier judges by our own clock.
_EXPECTED_ERRORS: Final = frozenset({2, 9, 10, 18, 19, 20, 21, 27})
_CHAIN_TOO_LONG: Final = 22
_NOT_YET_VALID: Final = 9


class PeerVerifier(Protocol):
    """Who judges a peer's chain: ``ChainVerifier`` by bundles, or somebody who knows the peer by other means."""

    def verify(
        self, chain_der: Sequence[bytes], now: float, expected: Collection[SpiffeId] | None = None
    ) -> VerifiedPeer:
        """The identity of whoever shows ``chain_der`` (leaf first) at ``now``; raises VerificationError."""


class PeerCheck:
    """The check of one handshake: what was collected, and what came of it."""

    __slots__ = ("_clock", "_collected", "_expected", "_objection", "_verifier", "failure", "peer")

    def __init__(self, verifier: PeerVerifier, expected: frozenset[SpiffeId] | None, clock: Clock) -> None:
        self._verifier = verifier
        self._expected = expected
        self._clock = clock
        self._collected: dict[int, crypto.X509] = {}
        self._objection = 0
        self.peer: VerifiedPeer | None = None
        self.failure: VerificationError | None = None

    def see(self, certificate: crypto.X509, error: int, depth: int, ok: bool) -> bool:
        """One call of OpenSSL's verify callback; False ends the handshake with an alert."""
        if error == _CHAIN_TOO_LONG or depth >= MAX_CHAIN_CERTIFICATES:
            return self._refuse(VerificationError(VerifyReason.TOO_LONG_CHAIN, "peer showed too long a chain"))
        self._collected[depth] = certificate
        if not ok and error not in _EXPECTED_ERRORS:
            self._objection = error
            if self.peer is not None:
                return self._refuse(_objection_of(error, self.peer))
        if depth == 0 and (ok or error == _NOT_YET_VALID) and self.peer is None:
            return self._judge()
        return True  # go on to the leaf, where all is judged

    def _judge(self) -> bool:
        collected = self._collected
        chain = [
            crypto.dump_certificate(crypto.FILETYPE_ASN1, collected[depth])
            for depth in range(len(collected))
            if depth in collected
        ]
        try:
            peer = self._verifier.verify(chain, self._clock.now(), self._expected)
        except VerificationError as error:
            return self._refuse(error)
        if self._objection:
            return self._refuse(_objection_of(self._objection, peer))
        self.peer = peer
        return True

    def _refuse(self, error: VerificationError) -> bool:
        self.peer = None
        # A new one: the traceback of the caught one would tie this check and its certificates into a cycle.
        self.failure = VerificationError(error.reason, error.detail)
        return False


def _objection_of(error: int, peer: VerifiedPeer) -> VerificationError:
    """What only OpenSSL's TLS layer judges: keys and digests too weak, an issuer's extended key usage."""
    detail = f"TLS library objects with X509_V_ERR {error} to the chain of {peer.spiffe_id}"
    return VerificationError(VerifyReason.UNTRUSTED, detail)


def on_certificate(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """The verify callback of every context: finds the check of this connection; without one, refuses."""
    check = connection.get_app_data()
    return isinstance(check, PeerCheck) and check.see(certificate, error, depth, bool(ok))
