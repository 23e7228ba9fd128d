"""Verification of a peer's chain against the bundle of its own trust domain, and no other.

Order: read the leaf, apply the leaf rules, take the trust domain of its one SPIFFE ID, build a path to that domain's
roots at the given time, and only then ask whether this identity is among the expected. OpenSSL builds the path, since
it enforces URI name constraints (pyca/cryptography refuses them); a store of its own for each call keeps the bundles
of different trust domains apart and the given time out of every other call.

What stands above the leaf is nearly always what stood above the one before. Once OpenSSL has built a path, the issuers
that it went over are remembered; a further leaf with the very same bytes above it is then verified against its issuer
alone (signature, times, name constraints). That can only confirm: whatever it does not, goes the whole way again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from OpenSSL import crypto

from ringfence.spiffe.bundle import BundleError, TrustBundle, fingerprint
from ringfence.spiffe.errors import VerificationError, VerifyReason
from ringfence.spiffe.ids import SpiffeId, TrustDomain
from ringfence.spiffe.leaf import UNREADABLE, check_leaf, read_certificate, serial_hex

MAX_CHAIN_CERTIFICATES: Final = 5  # leaf, at most three intermediates, root: depth 4
_KNOWN_ISSUERS_LIMIT: Final = 64

# X509_V_ERR_* of OpenSSL's x509_vfy.h; pyOpenSSL hands out the bare numbers.
_REASON_BY_ERROR: Final = {
    9: VerifyReason.NOT_YET_VALID,
    10: VerifyReason.EXPIRED,
    22: VerifyReason.TOO_LONG_CHAIN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPeer:
    """A peer whose identity was proved. ``not_after`` is the earliest end in its verified chain, in Unix seconds.

    ``chain_der`` is what it showed, leaf first, to be verified again when a bundle changes.
    """

    spiffe_id: SpiffeId
    not_after: float
    serial: str
    leaf_sha256: str
    leaf_der: bytes = field(repr=False)
    chain_der: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Vouched:
    """Issuers that a verified path went over, and all of what it said that a later leaf below them needs.

    ``issuer`` signed the leaf. ``begin`` and ``end`` span the times at which all that stands above it is valid, in Unix
    seconds; ``not_after`` is the earliest end of all but the leaf.
    """

    issuer: crypto.X509
    begin: float
    end: float
    not_after: float


class ChainVerifier:
    """Verifies chains against the bundles it was made with; make a new one when a bundle changes."""

    __slots__ = ("_anchors", "_issuers", "_roots", "_vouched")

    def __init__(self, bundles: Iterable[TrustBundle]) -> None:
        """Raises BundleError when two bundles claim one trust domain, as which of them holds would be a guess."""
        self._anchors: dict[TrustDomain, tuple[crypto.X509, ...]] = {}
        self._roots: set[bytes] = set()
        self._issuers: dict[bytes, float] = {}
        self._vouched: dict[tuple[TrustDomain, tuple[bytes, ...]], _Vouched] = {}
        for bundle in bundles:
            if bundle.trust_domain in self._anchors:
                raise BundleError(f"two bundles for trust domain {bundle.trust_domain} (send one with all its roots)")
            try:
                anchors = tuple(crypto.load_certificate(crypto.FILETYPE_ASN1, root) for root in bundle.roots)
            except crypto.Error as error:
                raise BundleError(f"a root of trust domain {bundle.trust_domain} is no certificate") from error
            self._anchors[bundle.trust_domain] = anchors
            self._roots.update(bundle.roots)

    def verify(
        self, chain_der: Sequence[bytes], now: float, expected: Collection[SpiffeId] | None = None
    ) -> VerifiedPeer:
        """Prove the identity of whoever showed ``chain_der`` (leaf first) at ``now``, in Unix seconds.

        ``expected``: the only identities wanted; None takes any that is trusted, an empty collection takes none.
        Raises VerificationError. That the peer holds the leaf's key is for the caller's handshake to prove.
        """
        if not chain_der:
            raise VerificationError(VerifyReason.NO_CERTIFICATE, "peer showed no certificate")
        if len(chain_der) > MAX_CHAIN_CERTIFICATES:
            detail = f"peer showed {len(chain_der)} certificates, more than {MAX_CHAIN_CERTIFICATES}"
            raise VerificationError(VerifyReason.TOO_LONG_CHAIN, detail)
        leaf = read_certificate(chain_der[0])
        spiffe_id = check_leaf(leaf)
        anchors = self._anchors.get(spiffe_id.trust_domain)
        if anchors is None:
            detail = f"no bundle for trust domain {spiffe_id.trust_domain} of {spiffe_id}"
            raise VerificationError(VerifyReason.UNKNOWN_TRUST_DOMAIN, detail)
        if chain_der[0] in self._roots:
            # Whoever is an anchor needs no path to one; a leaf that was published as one by mistake must not pass so.
            raise VerificationError(VerifyReason.UNTRUSTED, f"{spiffe_id} shows an anchor of a bundle as its own leaf")
        above = (spiffe_id.trust_domain, tuple(chain_der[1:]))
        vouched = self._vouched.get(above)
        if vouched is not None and _stands_below(vouched, chain_der[0], now):
            issuers_end = vouched.not_after
        else:
            path = _path_to(anchors, chain_der, now, spiffe_id)
            issuers_end = min((_end(path[-1].to_cryptography()), *map(self._issuer_end, path[1:-1])))
            self._remember(above, path, issuers_end)
        not_after = min(_check_leaf_times(leaf, now), issuers_end)
        if expected is not None and spiffe_id not in expected:
            wanted = ", ".join(sorted(map(str, expected))[:4]) or "nobody"
            raise VerificationError(VerifyReason.UNEXPECTED_PEER, f"peer is {spiffe_id}, wanted {wanted}")
        return VerifiedPeer(
            spiffe_id=spiffe_id,
            not_after=not_after,
            serial=serial_hex(leaf),
            leaf_sha256=fingerprint(chain_der[0]),
            leaf_der=chain_der[0],
            chain_der=tuple(chain_der),
        )

    def _remember(
        self, above: tuple[TrustDomain, tuple[bytes, ...]], path: list[crypto.X509], not_after: float
    ) -> None:
        """Vouch for what stands above the leaf of a verified ``path``, if its issuer alone can decide on a next one.

        Only what a path to an anchor vouched for gets here, so a stranger cannot fill the table.
        """
        _, shown = above
        if len(self._vouched) >= _KNOWN_ISSUERS_LIMIT or above in self._vouched or len(path) < 3:
            return
        if crypto.dump_certificate(crypto.FILETYPE_ASN1, path[1]) != shown[0]:
            return
        higher = [certificate.to_cryptography() for certificate in path[2:]]
        if any(_constrains_names(certificate) for certificate in higher):
            return  # each of them has a say on every leaf
        self._vouched[above] = _Vouched(
            issuer=path[1],
            begin=max(certificate.not_valid_before_utc.timestamp() for certificate in higher),
            end=min(map(_end, higher)),
            not_after=not_after,
        )

    def _issuer_end(self, issuer: crypto.X509) -> float:
        """``not_after`` of an intermediate of a verified path, in Unix seconds.

        X509-SVID section 4 asks more of a signing certificate than OpenSSL does: CA=true and keyCertSign both said.
        Remembered, as a mesh has few issuers; only what a path to an anchor vouched for gets here. An anchor itself
        is trusted as the bundle has it.
        """
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, issuer)
        known = self._issuers.get(der)
        if known is not None:
            return known
        certificate = read_certificate(der)
        try:
            is_signer = _may_sign(certificate.extensions)
        except UNREADABLE as error:
            raise VerificationError(VerifyReason.MALFORMED, f"issuer cannot be read: {error}") from error
        if not is_signer:
            raise VerificationError(VerifyReason.UNTRUSTED, "an issuer of the chain does not say CA and keyCertSign")
        end = _end(certificate)
        if len(self._issuers) < _KNOWN_ISSUERS_LIMIT:
            self._issuers[der] = end
        return end


def _path_to(
    anchors: tuple[crypto.X509, ...], chain_der: Sequence[bytes], now: float, spiffe_id: SpiffeId
) -> list[crypto.X509]:
    """The verified path, leaf first and anchor last; raises VerificationError."""
    try:
        leaf, *others = (crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in chain_der)
    except (crypto.Error, ValueError) as error:
        raise VerificationError(VerifyReason.MALFORMED, "chain holds something that is no certificate") from error
    try:
        path = crypto.X509StoreContext(_store(anchors, now), leaf, others).get_verified_chain()
    except crypto.X509StoreContextError as error:
        code, depth, message = error.errors
        reason = _REASON_BY_ERROR.get(code, VerifyReason.UNTRUSTED)
        raise VerificationError(reason, f"{message}, at depth {depth} of the chain of {spiffe_id}") from error
    if len(path) > MAX_CHAIN_CERTIFICATES:
        detail = f"path of {spiffe_id} has {len(path)} certificates, more than {MAX_CHAIN_CERTIFICATES}"
        raise VerificationError(VerifyReason.TOO_LONG_CHAIN, detail)
    return path


def _store(anchors: Iterable[crypto.X509], now: float) -> crypto.X509Store:
    store = crypto.X509Store()
    # Every certificate of a bundle is an anchor by itself, whether it signed itself or not.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(datetime.fromtimestamp(now, UTC))
    for anchor in anchors:
        store.add_cert(anchor)
    return store


def _stands_below(vouched: _Vouched, leaf_der: bytes, now: float) -> bool:
    """Whether OpenSSL verifies the leaf by its issuer, and all that stands above that is valid; False settles nothing.

    The issuer's own times and name constraints are OpenSSL's to check, as it is part of the path.
    """
    if not vouched.begin <= now < vouched.end:
        return False
    try:
        leaf = crypto.load_certificate(crypto.FILETYPE_ASN1, leaf_der)
        crypto.X509StoreContext(_store((vouched.issuer,), now), leaf).verify_certificate()
    except (crypto.Error, crypto.X509StoreContextError, ValueError):
        return False
    return True


def _check_leaf_times(leaf: x509.Certificate, now: float) -> float:
    """The leaf's end; OpenSSL compares whole seconds, this takes the fraction into account."""
    begin, end = leaf.not_valid_before_utc.timestamp(), _end(leaf)
    if now < begin:
        raise VerificationError(VerifyReason.NOT_YET_VALID, f"leaf is valid in {begin - now:.3f} seconds")
    if now > end:
        raise VerificationError(VerifyReason.EXPIRED, f"leaf ended {now - end:.3f} seconds ago")
    return end


def _end(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _constrains_names(certificate: x509.Certificate) -> bool:
    """Whether it may have a say on the names of a leaf; what cannot be read may."""
    try:
        certificate.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return False
    except UNREADABLE:
        return True
    return True


def _may_sign(extensions: x509.Extensions) -> bool:
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign
