"""The CA side of joining and renewing, for tests: a small fake one and the real one behind the same few words.

One contract suite runs against both (tests/integration/test_sidecar_issuing_contract.py), so that what a sidecar
relies on is known to be so, and tests that need a CA that lies use the fake.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ringfence.spiffe import (
    SpiffeId,
    TrustBundle,
    TrustDomain,
    X509Svid,
    check_leaf,
    control_plane_dns_name,
    control_plane_id,
    fingerprint,
)
from ringfence.wire.gen import issuing_pb2 as pb
from ringfence.wire.gen.issuing_pb2_grpc import (
    JoiningServicer,
    RenewalServicer,
    add_JoiningServicer_to_server,
    add_RenewalServicer_to_server,
)
from sidecar.settings import HostPort
from tests.attestors import KIND, FakeAttestor
from tests.pki import TestCa

TRUST_DOMAIN = TrustDomain("shop.example")
ORDERS = SpiffeId.workload(TRUST_DOMAIN, "shop", "orders")
WEB = SpiffeId.workload(TRUST_DOMAIN, "shop", "web")


class TurnedClock:
    """The machine's clock, put forward or back by ``offset_seconds``."""

    def __init__(self) -> None:
        self.offset_seconds = 0.0

    def now(self) -> float:
        return time.time() + self.offset_seconds

    def monotonic(self) -> float:
        return time.monotonic()


class Servers:
    """The two gRPC ports: ``join`` asks for no client certificate, ``renew`` requires one."""

    def __init__(self, svid: X509Svid, root: bytes, bundle: TrustBundle) -> None:
        chain = svid.chain_pem() + TrustBundle(bundle.trust_domain, (root,)).to_pem()
        pair = [(svid.private_key_pem(), chain)]
        self.joining = grpc.aio.server()
        self.mutual = grpc.aio.server()
        self.join = self._bind(self.joining, grpc.ssl_server_credentials(pair))
        mutual = grpc.ssl_server_credentials(pair, root_certificates=bundle.to_pem(), require_client_auth=True)
        self.renew = self._bind(self.mutual, mutual)

    @staticmethod
    def _bind(server: grpc.aio.Server, credentials: grpc.ServerCredentials) -> HostPort:
        return HostPort("127.0.0.1", server.add_secure_port("127.0.0.1:0", credentials))

    async def start(self) -> None:
        await self.joining.start()
        await self.mutual.start()

    async def stop(self) -> None:
        await asyncio.gather(self.joining.stop(None), self.mutual.stop(None))


class Backend(Protocol):
    """What the contract suite needs of a CA."""

    clock: TurnedClock
    servers: Servers

    @property
    def root_fingerprint(self) -> str: ...

    @property
    def bundle(self) -> TrustBundle: ...

    def mint(self, spiffe_id: SpiffeId, ttl_seconds: float = 600.0) -> str: ...

    def revoke_host_key(self, host_key_id: str) -> None: ...

    def give_evidence(self, spiffe_id: SpiffeId) -> bytes: ...

    def end_all_subjects(self) -> None: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@dataclass
class _Token:
    spiffe_id: SpiffeId
    ends: float
    spent: bool = False


@dataclass
class FakeBackend:
    """A CA in memory. ``bend`` changes what it answers, to see whether a sidecar believes it; ``calls`` counts."""

    lifetime_seconds: float = 3600.0
    clock: TurnedClock = field(default_factory=TurnedClock)
    calls: list[str] = field(default_factory=list)
    tokens_seen: list[str] = field(default_factory=list)
    bend: Callable[[pb.SvidResponse], pb.SvidResponse] | None = None
    failure: tuple[grpc.StatusCode, str] | None = None
    """Every call is answered with this instead."""

    def __post_init__(self) -> None:
        self.ca = TestCa(TRUST_DOMAIN)
        self.tokens: dict[str, _Token] = {}
        self.host_keys: dict[str, tuple[SpiffeId, ec.EllipticCurvePublicKey]] = {}
        self.revoked: set[str] = set()
        self.evidence: dict[bytes, SpiffeId] = {}
        self.spent: dict[bytes, str] = {}
        self.enrolled_by_evidence: set[str] = set()
        self.nonces: dict[bytes, str] = {}
        svid = self.ca.svid(control_plane_id(TRUST_DOMAIN), dns=[control_plane_dns_name(TRUST_DOMAIN)])
        self.servers = Servers(svid, self.ca.root.der, self.bundle)
        add_JoiningServicer_to_server(_FakeJoining(self), self.servers.joining)
        add_RenewalServicer_to_server(_FakeRenewal(self), self.servers.mutual)

    @property
    def root_fingerprint(self) -> str:
        return fingerprint(self.ca.root.der)

    @property
    def bundle(self) -> TrustBundle:
        return self.ca.bundle()

    def mint(self, spiffe_id: SpiffeId, ttl_seconds: float = 600.0) -> str:
        token = secrets.token_urlsafe(32)
        self.tokens[token] = _Token(spiffe_id, self.clock.now() + ttl_seconds)
        return token

    def revoke_host_key(self, host_key_id: str) -> None:
        self.revoked.add(host_key_id)

    def give_evidence(self, spiffe_id: SpiffeId) -> bytes:
        evidence = secrets.token_urlsafe(32).encode()
        self.evidence[evidence] = spiffe_id
        return evidence

    def end_all_subjects(self) -> None:
        self.revoked |= self.enrolled_by_evidence

    async def start(self) -> None:
        await self.servers.start()

    async def stop(self) -> None:
        await self.servers.stop()

    def issue(self, spiffe_id: SpiffeId, csr: bytes) -> pb.SvidResponse:
        self.ca.now = self.clock.now()
        public_key = x509.load_der_x509_csr(csr).public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        svid = self.ca.svid(spiffe_id, self.lifetime_seconds, key=_PublicOnly(public_key))  # type: ignore[arg-type]
        answer = pb.SvidResponse(
            spiffe_id=str(spiffe_id),
            chain=svid.chain,
            roots=self.bundle.roots,
            not_before=int(svid.not_before),
            not_after=int(svid.not_after),
            ca_time=self.clock.now(),
        )
        return answer if self.bend is None else self.bend(answer)

    async def enter(self, call: str, context: Any) -> None:
        self.calls.append(call)
        if self.failure is not None:
            await context.abort(*self.failure)


@dataclass(frozen=True)
class _PublicOnly:
    """Stands where the certificate builder wants a key pair of which it uses the public half."""

    public: ec.EllipticCurvePublicKey

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self.public


class _FakeJoining(JoiningServicer):
    def __init__(self, backend: FakeBackend) -> None:
        self._backend = backend

    async def Join(self, request: pb.JoinRequest, context: Any) -> pb.SvidResponse:
        backend = self._backend
        await backend.enter("join", context)
        backend.tokens_seen.append(request.token)
        token = backend.tokens.get(request.token)
        proof = b"ringfence-enrol-v1\0" + _sha256(request.token.encode()) + _sha256(request.csr)
        host_key = load_der_public_key(request.host_public_key)
        if token is None or token.spent or token.ends <= backend.clock.now():
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this caller is not permitted an identity")
        assert token is not None
        _verify(host_key, request.host_key_proof, proof)
        token.spent = True
        key_id = hashlib.sha256(request.host_public_key).hexdigest()
        assert isinstance(host_key, ec.EllipticCurvePublicKey)
        backend.host_keys[key_id] = (token.spiffe_id, host_key)
        return backend.issue(token.spiffe_id, request.csr)

    async def Challenge(self, request: pb.ChallengeRequest, context: Any) -> pb.ChallengeResponse:
        await self._backend.enter("challenge", context)
        nonce = os.urandom(32)
        self._backend.nonces[nonce] = request.host_key_id
        return pb.ChallengeResponse(nonce=nonce)

    async def Attest(self, request: pb.AttestRequest, context: Any) -> pb.SvidResponse:
        backend = self._backend
        await backend.enter("attest", context)
        enrolled = backend.host_keys.get(request.host_key_id)
        nonce_of = backend.nonces.pop(request.nonce, None)
        if enrolled is None or request.host_key_id in backend.revoked or nonce_of != request.host_key_id:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this caller is not permitted an identity")
        assert enrolled is not None
        _verify(enrolled[1], request.signature, b"ringfence-attest-v1\0" + request.nonce + _sha256(request.csr))
        return backend.issue(enrolled[0], request.csr)

    async def Prove(self, request: pb.ProveRequest, context: Any) -> pb.SvidResponse:
        backend = self._backend
        await backend.enter("prove", context)
        spiffe_id = backend.evidence.get(request.evidence)
        key_id = hashlib.sha256(request.host_public_key).hexdigest()
        words = {
            request.kind != KIND: "evidence of this kind is not taken here",
            spiffe_id is None: "the evidence is not",
        }
        if any(words):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, words[True])
        if backend.spent.setdefault(request.evidence, key_id) != key_id:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the evidence was used for another host key")
        assert spiffe_id is not None
        host_key = load_der_public_key(request.host_public_key)
        digests = (_sha256(part) for part in (request.kind.encode(), request.evidence, request.csr))
        _verify(host_key, request.host_key_proof, b"ringfence-prove-v1\0" + b"".join(digests))
        assert isinstance(host_key, ec.EllipticCurvePublicKey)
        backend.host_keys[key_id] = (spiffe_id, host_key)
        backend.enrolled_by_evidence.add(key_id)
        return backend.issue(spiffe_id, request.csr)


class _FakeRenewal(RenewalServicer):
    def __init__(self, backend: FakeBackend) -> None:
        self._backend = backend

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.SvidResponse:
        await self._backend.enter("renew", context)
        (pem,) = context.auth_context()["x509_pem_cert"]
        return self._backend.issue(check_leaf(x509.load_pem_x509_certificate(pem)), request.csr)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _verify(key: Any, signature: bytes, message: bytes) -> None:
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise AssertionError("the host key's signature does not verify") from None


class RealBackend:
    """The authority of ``ca``, in a folder of the test."""

    def __init__(self, folder: Path, *, lifetime_seconds: int = 3600) -> None:
        from ca import (
            AuthoritySettings,
            EvidenceSources,
            add_joining,
            add_renewal,
            init_authority,
            open_authority,
        )

        passphrase = b"a passphrase long enough for tests"
        init_authority(folder / "ca", TRUST_DOMAIN, passphrase)
        settings = AuthoritySettings(
            data_dir=folder / "ca", passphrase=passphrase, default_lifetime_seconds=lifetime_seconds, floor_seconds=1
        )
        self.clock = TurnedClock()
        self.authority = open_authority(settings, self.clock)
        own = self.authority.issue_control_plane(lifetime_seconds=3600)
        self.servers = Servers(own, self.bundle.roots[0], self.bundle)
        self.attestor = FakeAttestor()
        sources = EvidenceSources(attestors=(self.attestor,), entries=self.attestor.entries)
        add_joining(self.servers.joining, self.authority, sources)
        add_renewal(self.servers.mutual, self.authority, sources)

    @property
    def root_fingerprint(self) -> str:
        return self.authority.root_fingerprint

    @property
    def bundle(self) -> TrustBundle:
        return self.authority.bundle()

    def mint(self, spiffe_id: SpiffeId, ttl_seconds: float = 600.0) -> str:
        return self.authority.mint_join_token(spiffe_id, ttl_seconds)

    def revoke_host_key(self, host_key_id: str) -> None:
        assert self.authority.revoke_host_key(host_key_id)

    def give_evidence(self, spiffe_id: SpiffeId) -> bytes:
        evidence = secrets.token_urlsafe(32).encode()
        self.attestor.known[evidence] = (spiffe_id, f"pod-{len(self.attestor.known)}")
        return evidence

    def end_all_subjects(self) -> None:
        self.attestor.gone |= {subject for _, subject in self.attestor.known.values()}

    async def start(self) -> None:
        await self.servers.start()

    async def stop(self) -> None:
        await self.servers.stop()
        await asyncio.to_thread(self.authority.close)
