"""The Joining service: a first SVID for a join token or a platform's evidence, and later ones for an enrolled host key.
Server TLS only.

Whoever calls is a stranger until proved otherwise. What can be checked without the database is checked first, and a
look-up comes before any signing; but only the conditional spending in ``ca.store.record`` decides. What a platform has
to say is asked before the line, which waits for nobody: a petition that needs it says so and is placed once more.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from grpc import aio

from ca.attesting import Attesting, EvidenceSources, Proven, SubjectAsked, shorter
from ca.authority import Authority
from ca.border import Border, Context
from ca.csr import public_key_of_csr
from ca.desk import IssuingDesk
from ca.errors import RefusalReason, Refused, RequestInvalid
from ca.host_proof import HostKey, attest_message, enrol_message, prove_message
from ca.line import Order, Petition
from ca.reply import svid_response
from ca.store.host_keys import Provenance
from ca.store.look_ups import LookUps
from ca.store.record import AttestClaim, EvidenceClaim, HostKeyRow, TokenClaim
from ca.store.tokens import is_token, token_sha256
from ca.template import granted_lifetime
from ringfence.spiffe import SpiffeId
from ringfence.wire.gen import issuing_pb2, issuing_pb2_grpc

_KEY_ID: Final = re.compile(r"[0-9a-f]{64}")


def add_joining(server: aio.Server, authority: Authority, evidence: EvidenceSources | None = None) -> None:
    """Serve Joining on ``server``, whose port must use TLS and ask for no client certificate; ``evidence``: of which
    platforms it is taken (none)."""
    servicer = Joining(authority.desk(), evidence or EvidenceSources())
    issuing_pb2_grpc.add_JoiningServicer_to_server(servicer, server)


class Joining(issuing_pb2_grpc.JoiningServicer):
    """The servicer; one for each server."""

    def __init__(self, desk: IssuingDesk, evidence: EvidenceSources) -> None:
        self._desk = desk
        self._border = Border(desk)
        self._attesting = Attesting(evidence, trust_domain=desk.trust_domain, limits=desk.limits, clock=desk.clock)

    async def Join(  # noqa: N802
        self, request: issuing_pb2.JoinRequest, context: Context
    ) -> issuing_pb2.SvidResponse:
        async def work(request_id: str) -> issuing_pb2.SvidResponse:
            if not is_token(request.token):
                raise Refused(RefusalReason.TOKEN_UNKNOWN, "not the shape of a token")
            svid = await self._desk.issue(
                lambda look_ups: self._examine_join(request, request_id, look_ups), request_id
            )
            return svid_response(self._desk, svid)

        return await self._border.serve("join", context, work)

    async def Challenge(  # noqa: N802
        self, request: issuing_pb2.ChallengeRequest, context: Context
    ) -> issuing_pb2.ChallengeResponse:
        # Whether such a key is enrolled is not said here: Attest finds out, and tells only its log.
        async def work(_request_id: str) -> issuing_pb2.ChallengeResponse:
            desk, key_id = self._desk, _key_id(request.host_key_id)
            return issuing_pb2.ChallengeResponse(nonce=desk.nonces.mint(key_id, desk.clock.now(), desk.random_bytes))

        return await self._border.serve("challenge", context, work)

    async def Attest(  # noqa: N802
        self, request: issuing_pb2.AttestRequest, context: Context
    ) -> issuing_pb2.SvidResponse:
        async def work(request_id: str) -> issuing_pb2.SvidResponse:
            def petition(vouched: Provenance | None) -> Petition:
                return lambda look_ups: self._examine_attest(request, request_id, look_ups, vouched)

            try:
                svid = await self._desk.issue(petition(None), request_id)
            except SubjectAsked as question:
                await self._attesting.lives(question.provenance)
                svid = await self._desk.issue(petition(question.provenance), request_id)
            return svid_response(self._desk, svid)

        return await self._border.serve("attest", context, work)

    async def Prove(  # noqa: N802
        self, request: issuing_pb2.ProveRequest, context: Context
    ) -> issuing_pb2.SvidResponse:
        async def work(request_id: str) -> issuing_pb2.SvidResponse:
            # A platform is not asked for what would be refused anyway.
            self._attesting.check(request.kind, request.evidence)
            keys = await asyncio.to_thread(_keys_of, request)
            proven = await self._attesting.prove(request.kind, request.evidence)
            svid = await self._desk.issue(lambda _: self._examine_prove(request, request_id, proven, keys), request_id)
            return svid_response(self._desk, svid)

        return await self._border.serve("prove", context, work)

    def _examine_join(self, request: issuing_pb2.JoinRequest, request_id: str, look_ups: LookUps) -> Order:
        """The order that a join request makes, in the line's thread. RequestInvalid, Refused, StoreUnavailable."""
        lifetime_seconds = granted_lifetime(request.lifetime_seconds, self._desk.lifetimes)
        public_key = public_key_of_csr(request.csr)
        host_key = self._host_key(request, public_key)
        token_hash = token_sha256(request.token)
        found = look_ups.token(token_hash, host_key.key_id if host_key else None)
        if isinstance(found, RefusalReason):
            raise Refused(found)
        enrol = HostKeyRow(key_id=host_key.key_id, spki=host_key.spki) if host_key else None
        return Order(
            spiffe_id=SpiffeId.parse(found),
            public_key=public_key,
            claim=TokenClaim(token_sha256=token_hash, host_key=enrol),
            lifetime_seconds=lifetime_seconds,
            request_id=request_id,
        )

    def _host_key(self, request: issuing_pb2.JoinRequest, svid_key: ec.EllipticCurvePublicKey) -> HostKey | None:
        """The host key to enrol, its possession proved; None if the request brings none."""
        if not request.host_public_key:
            if request.host_key_proof:
                raise RequestInvalid("host key proof without a host key")
            return None
        return _possessed(request, svid_key, enrol_message(request.token, request.csr))

    def _examine_prove(
        self,
        request: issuing_pb2.ProveRequest,
        request_id: str,
        proven: Proven,
        keys: tuple[ec.EllipticCurvePublicKey, HostKey],
    ) -> Order:
        """The order that good evidence makes, in the line's thread. RequestInvalid."""
        asked_seconds = shorter(request.lifetime_seconds, proven.lifetime_seconds)
        lifetime_seconds = granted_lifetime(asked_seconds, self._desk.lifetimes)
        public_key, key = keys
        return Order(
            spiffe_id=proven.spiffe_id,
            public_key=public_key,
            claim=EvidenceClaim(
                evidence_sha256=proven.evidence_sha256,
                expires_at=proven.not_after,
                host_key=HostKeyRow(key_id=key.key_id, spki=key.spki, provenance=proven.provenance),
            ),
            lifetime_seconds=lifetime_seconds,
            request_id=request_id,
        )

    def _examine_attest(
        self, request: issuing_pb2.AttestRequest, request_id: str, look_ups: LookUps, vouched: Provenance | None
    ) -> Order:
        """The order that an attestation makes, in the line's thread. RequestInvalid, Refused, StoreUnavailable.

        SubjectAsked for a host key that a platform's evidence enrolled, unless it is ``vouched`` that its subject is
        still there. All else holds then: no stranger makes us ask.
        """
        lifetime_seconds = granted_lifetime(request.lifetime_seconds, self._desk.lifetimes)
        public_key = public_key_of_csr(request.csr)
        key_id = _key_id(request.host_key_id)
        nonce = self._desk.nonces.check(request.nonce, key_id, self._desk.clock.now())
        if isinstance(nonce, RefusalReason):
            raise Refused(nonce, key_id)
        enrolled = look_ups.host_key(key_id)
        if enrolled is None:
            raise Refused(RefusalReason.HOST_KEY_UNKNOWN, key_id)
        if enrolled.revoked_at is not None:
            raise Refused(RefusalReason.HOST_KEY_REVOKED, key_id)
        key = HostKey.parse(enrolled.spki)
        if key.public_key == public_key:
            raise RequestInvalid("host key and csr's key are the same (make a new key for every csr)")
        if not key.signed(request.signature, attest_message(request.nonce, request.csr)):
            raise Refused(RefusalReason.SIGNATURE_INVALID, key_id)
        if enrolled.provenance is not None and enrolled.provenance != vouched:
            raise SubjectAsked(enrolled.provenance)
        return Order(
            spiffe_id=SpiffeId.parse(enrolled.spiffe_id),
            public_key=public_key,
            claim=AttestClaim(nonce=nonce, host_key_id=key_id),
            lifetime_seconds=lifetime_seconds,
            request_id=request_id,
        )


def _keys_of(request: issuing_pb2.ProveRequest) -> tuple[ec.EllipticCurvePublicKey, HostKey]:
    """The csr's key and the host key of a request that shows evidence, both shown to be the caller's. RequestInvalid,
    Refused."""
    public_key = public_key_of_csr(request.csr)
    return public_key, _possessed(request, public_key, prove_message(request.kind, request.evidence, request.csr))


def _possessed(
    request: issuing_pb2.JoinRequest | issuing_pb2.ProveRequest, svid_key: ec.EllipticCurvePublicKey, message: bytes
) -> HostKey:
    """The host key of a request to enrol it, its possession proved over ``message``. RequestInvalid, Refused."""
    key = HostKey.parse(request.host_public_key)
    if key.public_key == svid_key:
        raise RequestInvalid("host key and csr's key are the same (make a new key for every csr)")
    if not key.signed(request.host_key_proof, message):
        raise Refused(RefusalReason.HOST_KEY_PROOF_INVALID, key.key_id)
    return key


def _key_id(text: str) -> str:
    if _KEY_ID.fullmatch(text) is None:
        raise RequestInvalid("host key id is not 64 lower-case hex digits (SHA-256 of the key's SubjectPublicKeyInfo)")
    return text
