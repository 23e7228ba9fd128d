"""The calls to the CA: join, prove, attest, renew. Each has a deadline; gRPC's errors are mapped here, once.

On the join address the TLS handshake itself finds out who answers there, by ``identity/anchor.py``, and nothing is sent
before. What comes back is not yet believed: see ``identity/acceptance.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from google.protobuf.message import Message

from ringfence.kit.clock import Clock
from ringfence.spiffe import TrustBundle, TrustDomain, X509Svid
from ringfence.wire.gen import issuing_pb2 as pb
from sidecar.channels import FINAL_CODES, IDENTITY_LIMIT_BYTES, joining_channel, mutual_tls_channel, told
from sidecar.identity.anchor import Anchor, PinnedVerifier
from sidecar.identity.errors import IdentityRefused, IdentityUnavailable
from sidecar.identity.host_key import HostKey
from sidecar.rpc import Connection, Method, RpcError, method
from sidecar.settings import HostPort

Request = TypeVar("Request", bound=Message)

_JOIN: Final = method(pb.DESCRIPTOR, "Joining", "Join", pb.JoinRequest, pb.SvidResponse)
_CHALLENGE: Final = method(pb.DESCRIPTOR, "Joining", "Challenge", pb.ChallengeRequest, pb.ChallengeResponse)
_ATTEST: Final = method(pb.DESCRIPTOR, "Joining", "Attest", pb.AttestRequest, pb.SvidResponse)
_PROVE: Final = method(pb.DESCRIPTOR, "Joining", "Prove", pb.ProveRequest, pb.SvidResponse)
_RENEW: Final = method(pb.DESCRIPTOR, "Renewal", "Renew", pb.RenewRequest, pb.SvidResponse)

# Bounds on what one answer may hold; the CA sends two certificates and one or two roots.
_CHAIN_LIMIT: Final = 4
_ROOTS_LIMIT: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """An answer of the CA, not yet verified, and what it was checked against on the way."""

    spiffe_id: str
    chain: tuple[bytes, ...]
    """DER, leaf first, without the root."""
    roots: tuple[bytes, ...]
    """DER; the CA's present trust bundle."""
    ca_time: float
    """The CA's clock, Unix seconds."""
    local_time: float
    """This machine's clock at the middle of the call: the best guess at when the CA read its own."""
    trusted: TrustBundle
    """The roots by which the CA was authenticated on this call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the platform gave this workload to prove itself by; ``kind`` says how it is read."""

    kind: str
    content: bytes = field(repr=False)


class Issuing(Protocol):
    """What the identity holder needs of the CA."""

    async def join(self, token: str, host_key: HostKey, csr: bytes, deadline_seconds: float) -> Issued: ...

    async def prove(self, evidence: Evidence, host_key: HostKey, csr: bytes, deadline_seconds: float) -> Issued: ...

    async def attest(self, host_key: HostKey, csr: bytes, deadline_seconds: float) -> Issued: ...

    async def renew(self, svid: X509Svid, bundle: TrustBundle, csr: bytes, deadline_seconds: float) -> Issued: ...


class IssuingClient:
    """``Issuing`` over gRPC. ``anchor`` is asked at each contact, as a bundle file may have changed."""

    def __init__(
        self,
        *,
        join: HostPort,
        renew: HostPort,
        trust_domain: TrustDomain,
        anchor: Callable[[], Anchor],
        lifetime_seconds: int,
        clock: Clock,
    ) -> None:
        self._join = join
        self._renew = renew
        self._trust_domain = trust_domain
        self._anchor = anchor
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock

    async def join(self, token: str, host_key: HostKey, csr: bytes, deadline_seconds: float) -> Issued:
        """Exchange a one-time token for an SVID and enrol ``host_key``. Raises IdentityError."""
        left = self._countdown(deadline_seconds)
        async with self._joining(deadline_seconds) as (connection, trusted):
            request = pb.JoinRequest(
                token=token,
                csr=csr,
                host_public_key=host_key.public_der,
                host_key_proof=host_key.enrolment_proof(token, csr),
                lifetime_seconds=self._lifetime_seconds,
            )
            return await self._issued(connection, _JOIN, request, trusted, left())

    async def prove(self, evidence: Evidence, host_key: HostKey, csr: bytes, deadline_seconds: float) -> Issued:
        """Exchange evidence of the platform for an SVID and enrol ``host_key``. Raises IdentityError."""
        left = self._countdown(deadline_seconds)
        async with self._joining(deadline_seconds) as (connection, trusted):
            request = pb.ProveRequest(
                kind=evidence.kind,
                evidence=evidence.content,
                csr=csr,
                host_public_key=host_key.public_der,
                host_key_proof=host_key.evidence_proof(evidence.kind, evidence.content, csr),
                lifetime_seconds=self._lifetime_seconds,
            )
            return await self._issued(connection, _PROVE, request, trusted, left())

    async def attest(self, host_key: HostKey, csr: bytes, deadline_seconds: float) -> Issued:
        """Prove the enrolled host key and get an SVID for the workload it was enrolled for. Raises IdentityError."""
        left = self._countdown(deadline_seconds)
        async with self._joining(deadline_seconds) as (connection, trusted):
            question = pb.ChallengeRequest(host_key_id=host_key.id)
            challenge = await connection.unary(_CHALLENGE, question, deadline_seconds=left())
            request = pb.AttestRequest(
                host_key_id=host_key.id,
                nonce=challenge.nonce,
                csr=csr,
                signature=host_key.attestation(challenge.nonce, csr),
                lifetime_seconds=self._lifetime_seconds,
            )
            return await self._issued(connection, _ATTEST, request, trusted, left())

    async def renew(self, svid: X509Svid, bundle: TrustBundle, csr: bytes, deadline_seconds: float) -> Issued:
        """Exchange a living SVID for its successor. Raises IdentityError."""
        left = self._countdown(deadline_seconds)
        request = pb.RenewRequest(csr=csr, lifetime_seconds=self._lifetime_seconds)
        channel = mutual_tls_channel(
            self._renew,
            bundle,
            svid,
            clock=self._clock,
            limit_bytes=IDENTITY_LIMIT_BYTES,
            connect_seconds=deadline_seconds,
        )
        with _mapped(self._renew):
            async with channel as connection:
                return await self._issued(connection, _RENEW, request, bundle, left())

    def _countdown(self, seconds: float) -> Callable[[], float]:
        """What is left of ``seconds`` from now, never negative: one deadline over all steps of an exchange."""
        ends = self._clock.monotonic() + seconds
        return lambda: max(0.0, ends - self._clock.monotonic())

    @asynccontextmanager
    async def _joining(self, deadline_seconds: float) -> AsyncIterator[tuple[Connection, TrustBundle]]:
        """A connection to the join address and the roots that vouched for who answers there."""
        try:
            anchor = self._anchor()
        except ValueError as error:
            raise IdentityRefused(str(error)) from error
        verifier = PinnedVerifier(anchor, self._trust_domain, str(self._join))
        channel = joining_channel(
            self._join, self._trust_domain, verifier, clock=self._clock, connect_seconds=deadline_seconds
        )
        with _mapped(self._join, verifier):
            async with channel as connection:
                assert verifier.roots is not None, "the handshake is done"
                yield connection, verifier.roots

    async def _issued(
        self,
        connection: Connection,
        method: Method[Request, pb.SvidResponse],
        request: Request,
        trusted: TrustBundle,
        deadline_seconds: float,
    ) -> Issued:
        asked = self._clock.now()
        answer = await connection.unary(method, request, deadline_seconds=deadline_seconds)
        answered = self._clock.now()
        if not 1 <= len(answer.chain) <= _CHAIN_LIMIT or not 1 <= len(answer.roots) <= _ROOTS_LIMIT:
            raise IdentityUnavailable(
                f"the CA answered with {len(answer.chain)} certificates and {len(answer.roots)} roots"
            )
        return Issued(
            spiffe_id=answer.spiffe_id,
            chain=tuple(answer.chain),
            roots=tuple(answer.roots),
            ca_time=answer.ca_time,
            local_time=(asked + answered) / 2.0,
            trusted=trusted,
        )


@contextmanager
def _mapped(address: HostPort, verifier: PinnedVerifier | None = None) -> Iterator[None]:
    """What a call to ``address`` fails with, as an own error."""
    try:
        yield
    except RpcError as error:
        if error.refused is not None and verifier is not None:
            raise verifier.told(error.refused) from error
        words = told(error)
        if error.code in FINAL_CODES:
            raise IdentityRefused(words) from error
        raise IdentityUnavailable(f"{address}: {words}") from error
