"""The first stage of issuing: from who may have what, to the exact certificate to be signed. Pure.

Everything in a leaf is decided here and by the authority alone; of what the caller sent only the public key comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from ca.errors import IdentityRefused, IssuerExpired, LifetimeRefused
from ca.settings import LifetimeRules
from ringfence.spiffe import RESERVED_NAMESPACE, SpiffeId, TrustDomain

SERIAL_BYTES: Final = 16
# An identity's path becomes column values, log fields and metric labels; the standard's 2048 bytes are for others' IDs.
_ID_LIMIT_BYTES: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerSpan:
    """The validity of the issuing certificate, Unix seconds: no leaf reaches beyond it on either side."""

    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafTemplate:
    """A leaf, complete but for the issuer's signature; times in whole Unix seconds."""

    spiffe_id: SpiffeId
    public_key: ec.EllipticCurvePublicKey
    serial: int
    not_before: int
    not_after: int
    dns_names: tuple[str, ...] = ()

    @property
    def serial_hex(self) -> str:
        return f"{self.serial:x}"


def check_workload_id(spiffe_id: SpiffeId, trust_domain: TrustDomain) -> None:
    """IdentityRefused unless ``spiffe_id`` is ``/ns/…/sa/…`` of this trust domain, outside the reserved namespace."""
    if spiffe_id.trust_domain != trust_domain:
        raise IdentityRefused(
            f"{spiffe_id} is not of trust domain {trust_domain}, the only one this authority issues for"
        )
    if spiffe_id.namespace is None:
        raise IdentityRefused(f"{spiffe_id} is not of the form spiffe://{trust_domain}/ns/NAMESPACE/sa/SERVICE-ACCOUNT")
    if spiffe_id.namespace == RESERVED_NAMESPACE:
        raise IdentityRefused(f"{spiffe_id} lies in namespace {RESERVED_NAMESPACE}, which is the control plane's alone")
    if len(str(spiffe_id)) > _ID_LIMIT_BYTES:
        raise IdentityRefused(f"SPIFFE ID of {len(str(spiffe_id))} bytes is longer than {_ID_LIMIT_BYTES}")


def granted_lifetime(asked_seconds: int, rules: LifetimeRules) -> int:
    """Seconds to grant: 0 asks for the default, more than the ceiling gets the ceiling, less than the floor nothing.

    Longer than asked is never given: the caller had its reason. LifetimeRefused below the floor.
    """
    if asked_seconds == 0:
        return rules.default_seconds
    if asked_seconds < rules.floor_seconds:
        raise LifetimeRefused(
            f"lifetime of {asked_seconds} s is below this authority's floor (ask for at least {rules.floor_seconds} s)"
        )
    return min(asked_seconds, rules.ceiling_seconds)


def new_serial(random_bytes: Callable[[int], bytes]) -> int:
    """A serial number of 126 random bits; always 16 bytes long and positive (RFC 5280, section 4.1.2.2)."""
    return int.from_bytes(random_bytes(SERIAL_BYTES), "big") >> 2 | 1 << 126


def prepare_template(
    spiffe_id: SpiffeId,
    public_key: ec.EllipticCurvePublicKey,
    *,
    lifetime_seconds: int,
    backdate_seconds: int,
    now: float,
    issuer: IssuerSpan,
    serial: int,
    dns_names: tuple[str, ...] = (),
) -> LeafTemplate:
    """The leaf to sign: from ``backdate_seconds`` ago until the lifetime or the issuer ends, whichever is first.

    IssuerExpired when the issuer does not live a second longer.
    """
    second = int(now)
    if not issuer.not_before <= second < issuer.not_after - 1:
        raise IssuerExpired(
            f"issuing certificate is valid from {issuer.not_before} to {issuer.not_after} (Unix seconds), "
            f"and it is {second} (check the clock, or renew the issuing certificate)"
        )
    return LeafTemplate(
        spiffe_id=spiffe_id,
        public_key=public_key,
        serial=serial,
        not_before=max(second - backdate_seconds, issuer.not_before),
        not_after=min(second + lifetime_seconds, issuer.not_after),
        dns_names=dns_names,
    )
