"""The calls to the CA: join, attest, renew. Each has a deadline; gRPC's errors are mapped here, once.

Everything on the join address happens after ``pinning`` has found out who answers there. What comes back is not yet
believed: see ``identity/acceptance.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import grpc
import grpc.aio

from ringfence.kit.clock import Clock
from ringfence.spiffe import TrustBundle, TrustDomain, X509Svid
from ringfence.wire.gen import issuing_pb2 as pb
from ringfence.wire.gen.issuing_pb2_grpc import JoiningStub, RenewalStub
from sidecar.channels import FINAL_CODES, IDENTITY_LIMIT_BYTES, mutual_tls_channel, server_tls_channel, told
from sidecar.identity.anchor import Anchor
from sidecar.identity.errors import IdentityRefused, IdentityUnavailable
from sidecar.identity.host_key import HostKey
from sidecar.identity.pinning import authenticate_control_plane
from sidecar.settings import HostPort

T = TypeVar("T")

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


class Issuing(Protocol):
    """What the identity holder needs of the CA."""

    async def join(self, token: str, host_key: HostKey, csr: bytes, deadline_seconds: float) -> Issued: ...

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
        trusted = await self._authenticated(deadline_seconds)
        request = pb.JoinRequest(
            token=token,
            csr=csr,
            host_public_key=host_key.public_der,
            host_key_proof=host_key.enrolment_proof(token, csr),
            lifetime_seconds=self._lifetime_seconds,
        )
        async with server_tls_channel(self._join, trusted, limit_bytes=IDENTITY_LIMIT_BYTES) as channel:
            stub = JoiningStub(channel)
            return await self._issued(lambda: stub.Join(request, timeout=deadline_seconds), self._join, trusted)

    async def attest(self, host_key: HostKey, csr: bytes, deadline_seconds: float) -> Issued:
        """Prove the enrolled host key and get an SVID for the workload it was enrolled for. Raises IdentityError."""
        trusted = await self._authenticated(deadline_seconds)
        async with server_tls_channel(self._join, trusted, limit_bytes=IDENTITY_LIMIT_BYTES) as channel:
            stub = JoiningStub(channel)
            challenge = await _called(
                lambda: stub.Challenge(pb.ChallengeRequest(host_key_id=host_key.id), timeout=deadline_seconds),
                self._join,
            )
            request = pb.AttestRequest(
                host_key_id=host_key.id,
                nonce=challenge.nonce,
                csr=csr,
                signature=host_key.attestation(challenge.nonce, csr),
                lifetime_seconds=self._lifetime_seconds,
            )
            return await self._issued(lambda: stub.Attest(request, timeout=deadline_seconds), self._join, trusted)

    async def renew(self, svid: X509Svid, bundle: TrustBundle, csr: bytes, deadline_seconds: float) -> Issued:
        """Exchange a living SVID for its successor. Raises IdentityError."""
        request = pb.RenewRequest(csr=csr, lifetime_seconds=self._lifetime_seconds)
        async with mutual_tls_channel(self._renew, bundle, svid, limit_bytes=IDENTITY_LIMIT_BYTES) as channel:
            stub = RenewalStub(channel)
            return await self._issued(lambda: stub.Renew(request, timeout=deadline_seconds), self._renew, bundle)

    async def _authenticated(self, deadline_seconds: float) -> TrustBundle:
        try:
            anchor = self._anchor()
        except ValueError as error:
            raise IdentityRefused(str(error)) from error
        return await authenticate_control_plane(
            self._join,
            anchor,
            trust_domain=self._trust_domain,
            clock=self._clock,
            deadline_seconds=deadline_seconds,
        )

    async def _issued(
        self, call: Callable[[], Awaitable[pb.SvidResponse]], address: HostPort, trusted: TrustBundle
    ) -> Issued:
        asked = self._clock.now()
        answer = await _called(call, address)
        answered = self._clock.now()
        if not 1 <= len(answer.chain) <= _CHAIN_LIMIT or not 1 <= len(answer.roots) <= _ROOTS_LIMIT:
            raise IdentityUnavailable(
                f"{address} answered with {len(answer.chain)} certificates and {len(answer.roots)} roots"
            )
        return Issued(
            spiffe_id=answer.spiffe_id,
            chain=tuple(answer.chain),
            roots=tuple(answer.roots),
            ca_time=answer.ca_time,
            local_time=(asked + answered) / 2.0,
            trusted=trusted,
        )


async def _called(call: Callable[[], Awaitable[T]], address: HostPort) -> T:
    """The answer of one call; its gRPC error as an own one."""
    try:
        return await call()
    except grpc.aio.AioRpcError as error:
        words = told(error)
        if error.code() in FINAL_CODES:
            raise IdentityRefused(words) from error
        raise IdentityUnavailable(f"{address}: {words}") from error
