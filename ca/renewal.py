"""The Renewal service: a new SVID for the identity that the caller shows in its TLS handshake. Mutual TLS only.

The handshake proved that the certificate chains to our root and that the caller holds its key. That is not enough: the
handshake may be long past (a connection outlives a certificate), gRPC checks no SPIFFE rules, and the host key that the
SVID descends from may have been revoked since. All of it is checked at each call. Where evidence of a platform began
the line, the platform is asked whether its subject is still there: who took a workload's key does not outlive it. A
platform that cannot say is no reason to let a mesh run out of identities; the SVID shown is still a good one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import aio

from ca.attesting import Attesting, EvidenceSources, SubjectAsked
from ca.authority import Authority
from ca.border import Border, Context
from ca.csr import public_key_of_csr
from ca.desk import IssuingDesk
from ca.errors import AttestorUnavailable, IdentityRefused, RefusalReason, Refused, RequestInvalid
from ca.line import Order
from ca.reply import svid_response
from ca.store.host_keys import Provenance
from ca.store.look_ups import LookUps
from ca.store.record import RenewClaim
from ca.template import check_workload_id, granted_lifetime
from ringfence.spiffe import RESERVED_NAMESPACE, SpiffeId, TrustDomain, VerificationError, check_leaf, serial_hex
from ringfence.wire.gen import issuing_pb2, issuing_pb2_grpc

_CERTIFICATE_PROPERTY: Final = "x509_pem_cert"


def add_renewal(server: aio.Server, authority: Authority, evidence: EvidenceSources | None = None) -> None:
    """Serve Renewal on ``server``, whose port must require client certificates that chain to this authority's root;
    ``evidence``: as for ``add_joining``."""
    servicer = Renewal(authority.desk(), evidence or EvidenceSources())
    issuing_pb2_grpc.add_RenewalServicer_to_server(servicer, server)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls: the workload, and the SVID that it shows."""

    spiffe_id: SpiffeId
    serial: str
    public_key: ec.EllipticCurvePublicKey


class Renewal(issuing_pb2_grpc.RenewalServicer):
    """The servicer; one for each server."""

    def __init__(self, desk: IssuingDesk, evidence: EvidenceSources) -> None:
        self._desk = desk
        self._border = Border(desk)
        self._attesting = Attesting(evidence, trust_domain=desk.trust_domain, limits=desk.limits, clock=desk.clock)

    async def Renew(  # noqa: N802
        self, request: issuing_pb2.RenewRequest, context: Context
    ) -> issuing_pb2.SvidResponse:
        async def work(request_id: str) -> issuing_pb2.SvidResponse:
            shown = (context.auth_context() or {}).get(_CERTIFICATE_PROPERTY, ())
            caller = identify(list(shown), self._desk.trust_domain, self._desk.clock.now())
            try:
                svid = await self._desk.issue(
                    lambda known: self._examine(request, request_id, caller, known), request_id
                )
            except SubjectAsked as question:
                await self._ask(question.provenance, request_id)
                svid = await self._desk.issue(lambda _: self._examine(request, request_id, caller, None), request_id)
            return svid_response(self._desk, svid)

        return await self._border.serve("renew", context, work)

    async def _ask(self, provenance: Provenance, request_id: str) -> None:
        """Refused if the subject is surely gone."""
        try:
            await self._attesting.lives(provenance)
        except AttestorUnavailable as problem:
            self._desk.log.warning("renewal not asked about", reason=str(problem), request_id=request_id)

    def _examine(
        self, request: issuing_pb2.RenewRequest, request_id: str, caller: Caller, look_ups: LookUps | None
    ) -> Order:
        """The order that a renewal makes, in the line's thread. RequestInvalid, StoreUnavailable.

        SubjectAsked where ``look_ups`` says that evidence began the line; without them it was asked already.
        """
        lifetime_seconds = granted_lifetime(request.lifetime_seconds, self._desk.lifetimes)
        public_key = public_key_of_csr(request.csr)
        if public_key == caller.public_key:
            raise RequestInvalid("csr has the key of the current svid (make a new key for every csr)")
        if look_ups is not None and not self._attesting.idle:
            provenance = look_ups.line(caller.serial)
            if provenance is not None:
                raise SubjectAsked(provenance)
        return Order(
            spiffe_id=caller.spiffe_id,
            public_key=public_key,
            claim=RenewClaim(serial=caller.serial),
            lifetime_seconds=lifetime_seconds,
            request_id=request_id,
        )


def identify(shown: list[bytes], trust_domain: TrustDomain, now: float) -> Caller:
    """The caller of ``shown``, the certificates (PEM) of the TLS handshake; Refused unless one valid SVID of ours.

    Of the trust chain nothing is checked here: the TLS server did, against this authority's root alone.
    """
    if len(shown) != 1:
        raise Refused(RefusalReason.NO_CERTIFICATE, f"{len(shown)} certificates")
    try:
        leaf = x509.load_pem_x509_certificate(shown[0])
        spiffe_id = check_leaf(leaf)
        key = leaf.public_key()
        check_workload_id(spiffe_id, trust_domain)
    except VerificationError as problem:
        raise Refused(RefusalReason.CERTIFICATE_INVALID, str(problem)) from problem
    except IdentityRefused as problem:
        raise Refused(_why_no_workload(spiffe_id, trust_domain), str(problem)) from problem
    except ValueError as problem:
        raise Refused(RefusalReason.CERTIFICATE_INVALID, "malformed certificate") from problem
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refused(RefusalReason.CERTIFICATE_INVALID, "not an elliptic curve key")
    if not leaf.not_valid_before_utc.timestamp() <= now < leaf.not_valid_after_utc.timestamp():
        raise Refused(RefusalReason.CERTIFICATE_EXPIRED, f"{spiffe_id} until {leaf.not_valid_after_utc.isoformat()}")
    return Caller(spiffe_id=spiffe_id, serial=serial_hex(leaf), public_key=key)


def _why_no_workload(spiffe_id: SpiffeId, trust_domain: TrustDomain) -> RefusalReason:
    if spiffe_id.trust_domain != trust_domain:
        return RefusalReason.FOREIGN_TRUST_DOMAIN
    if spiffe_id.namespace == RESERVED_NAMESPACE:
        return RefusalReason.RESERVED_IDENTITY
    return RefusalReason.CERTIFICATE_INVALID
