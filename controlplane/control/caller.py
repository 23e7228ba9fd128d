"""Who is on the other end of a gRPC call over mutual TLS.

gRPC's own handshake proves a chain to the root and checks no SPIFFE rule; it may also resume a session long after the
certificate in it has expired. So each call is judged again here, by the verifier that sidecars use among themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ringfence.kit.clock import Clock
from ringfence.spiffe import ChainVerifier, TrustBundle, TrustDomain, VerificationError, VerifiedPeer, VerifyReason

_LEAF: str = "x509_pem_cert"
_CHAIN: str = "x509_pem_cert_chain"


class CallerCheck:
    """Proves callers by the mesh's own bundle; who is of another trust domain is refused, whatever else it proves."""

    def __init__(self, bundle: TrustBundle, clock: Clock) -> None:
        self._trust_domain: TrustDomain = bundle.trust_domain
        self._verifier = ChainVerifier([bundle])
        self._clock = clock

    def verify(self, auth_context: Mapping[str, Iterable[bytes]]) -> VerifiedPeer:
        """The caller of a call with this ``ServicerContext.auth_context()``. Raises VerificationError."""
        leaf = b"".join(auth_context.get(_LEAF, ()))
        if not leaf:
            raise VerificationError(VerifyReason.NO_CERTIFICATE, "the caller showed no certificate")
        # The second property holds what the caller sent besides its leaf, and on a resumed session perhaps nothing.
        chain = [_der(leaf)[0]]
        for pem in auth_context.get(_CHAIN, ()):
            chain.extend(der for der in _der(pem) if der not in chain)
        peer = self._verifier.verify(chain, self._clock.now())
        if peer.spiffe_id.trust_domain != self._trust_domain:
            detail = f"{peer.spiffe_id} is not of trust domain {self._trust_domain}"
            raise VerificationError(VerifyReason.UNKNOWN_TRUST_DOMAIN, detail)
        return peer


def _der(pem: bytes) -> list[bytes]:
    try:
        return [certificate.public_bytes(Encoding.DER) for certificate in x509.load_pem_x509_certificates(pem)]
    except (ValueError, x509.InvalidVersion) as error:  # what a caller sends beside its leaf, it may choose
        raise VerificationError(VerifyReason.MALFORMED, f"certificate cannot be read: {error}") from error
