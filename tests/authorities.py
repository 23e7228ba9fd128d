"""Authorities for tests: with real databases, real TLS and real certificates, but no half a second of scrypt each."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.attesting import EvidenceSources
from ca.authority import Authority, open_store
from ca.folder import SigningKeys
from ca.hierarchy import Hierarchy, build_intermediate, build_root
from ca.host_proof import attest_message, enrol_message, prove_message
from ca.issue import Issuer
from ca.joining import add_joining
from ca.keys import new_key
from ca.nonces import NonceMint
from ca.renewal import add_renewal
from ca.settings import AuthoritySettings, IssuingLimits
from ca.store.database import Database
from ca.template import new_serial
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.spiffe import SpiffeId, TrustDomain, X509Svid, control_plane_dns_name
from ringfence.wire.gen import issuing_pb2 as pb
from ringfence.wire.gen.issuing_pb2_grpc import JoiningStub, RenewalStub
from tests.attestors import KIND
from tests.issuing_backends import Servers

SHOP = TrustDomain("shop.example")
WEB = SpiffeId.workload(SHOP, "shop", "web")
ORDERS = SpiffeId.workload(SHOP, "shop", "orders")
ALGORITHM = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True)
class MadeHierarchy:
    """A hierarchy with its keys, in memory."""

    hierarchy: Hierarchy
    keys: SigningKeys

    @property
    def issuer(self) -> Issuer:
        return Issuer.of(self.hierarchy, self.keys.issuing)


def make_hierarchy(now: float, trust_domain: TrustDomain = SHOP, dns_names: tuple[str, ...] = ()) -> MadeHierarchy:
    keys = SigningKeys(root=new_key(), issuing=new_key())
    root = build_root(keys.root, trust_domain, now=now, serial=new_serial(secrets.token_bytes))
    intermediate = build_intermediate(
        keys.issuing.public_key(),
        root=root,
        root_key=keys.root,
        trust_domain=trust_domain,
        dns_names=dns_names,
        now=now,
        serial=new_serial(secrets.token_bytes),
    )
    return MadeHierarchy(Hierarchy(trust_domain=trust_domain, root=root, intermediate=intermediate), keys)


def make_csr(key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key or new_key(), hashes.SHA256()).public_bytes(Encoding.DER)


class HostKeyPair:
    """A sidecar's host key, and what it signs."""

    def __init__(self) -> None:
        self.key = new_key()
        self.spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = sha256(self.spki).hexdigest()

    def join(self, token: str, csr: bytes | None = None, /, **changes: Any) -> pb.JoinRequest:
        """A complete join request; ``changes`` replace fields after signing."""
        csr = csr or make_csr()
        proof = self.key.sign(enrol_message(token, csr), ALGORITHM)
        fields = {"token": token, "csr": csr, "host_public_key": self.spki, "host_key_proof": proof}
        return pb.JoinRequest(**(fields | changes))

    def attest(self, nonce: bytes, csr: bytes | None = None, /, **changes: Any) -> pb.AttestRequest:
        """A complete attestation; ``changes`` replace fields after signing."""
        csr = csr or make_csr()
        signature = self.key.sign(attest_message(nonce, csr), ALGORITHM)
        fields = {"host_key_id": self.key_id, "nonce": nonce, "csr": csr, "signature": signature}
        return pb.AttestRequest(**(fields | changes))

    def prove(self, evidence: bytes, csr: bytes | None = None, /, **changes: Any) -> pb.ProveRequest:
        """A complete proof by evidence; ``changes`` replace fields after signing."""
        csr, kind = csr or make_csr(), changes.get("kind", KIND)
        proof = self.key.sign(prove_message(kind, evidence, csr), ALGORITHM)
        fields = {
            "kind": kind, "evidence": evidence, "csr": csr, "host_public_key": self.spki, "host_key_proof": proof
        }  # fmt: skip
        return pb.ProveRequest(**(fields | changes))


class OpenAuthority:
    """An authority over a real database, its log readable."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        made: MadeHierarchy | None = None,
        database_url: str | None = None,
        limits: IssuingLimits | None = None,
        lifetimes: dict[str, int] | None = None,
    ) -> None:
        self.made = made or make_hierarchy(clock.now())
        self.clock = clock
        self.folder = folder
        self._log = io.StringIO()
        settings = AuthoritySettings(
            data_dir=folder,
            passphrase=b"unused",
            database_url=database_url,
            limits=limits or IssuingLimits(database_wait_seconds=2.0),
            **(lifetimes or {}),
        )
        self.database: Database
        self.database, secret = open_store(
            folder, self.made.hierarchy, database_url=database_url, limits=settings.limits
        )
        self.authority = Authority(
            settings=settings,
            issuer=self.made.issuer,
            database=self.database,
            nonces=NonceMint(secret=secret, life_seconds=settings.limits.nonce_seconds),
            clock=clock,
            log=Logger("ca", stream=self._log, clock=clock),
            random_bytes=secrets.token_bytes,
        )

    def __enter__(self) -> OpenAuthority:
        return self

    def __exit__(self, *_: object) -> None:
        self.authority.close()

    def token(self, spiffe_id: SpiffeId = WEB, ttl_seconds: float = 600.0) -> str:
        return self.authority.mint_join_token(spiffe_id, ttl_seconds)

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.getvalue().splitlines()]

    def refusals(self) -> list[str]:
        """Reasons of the refusals logged so far."""
        return [line["reason"] for line in self.log_lines() if line["msg"] == "identity refused"]


@dataclass
class Served:
    """An authority behind its two gRPC servers, and a client's side of them."""

    world: OpenAuthority
    servers: Servers
    channels: list[grpc.aio.Channel]

    @cached_property
    def joining(self) -> Any:
        return JoiningStub(self._channel(str(self.servers.join), self._credentials(None)))

    def renewal(self, svid: X509Svid | None) -> Any:
        """The renewal service as the holder of ``svid`` reaches it."""
        return RenewalStub(self._channel(str(self.servers.renew), self._credentials(svid)))

    def _credentials(self, svid: X509Svid | None) -> grpc.ChannelCredentials:
        root = self.world.authority.bundle().to_pem()
        if svid is None:
            return grpc.ssl_channel_credentials(root)
        return grpc.ssl_channel_credentials(root, svid.private_key_pem(), svid.chain_pem())

    def _channel(self, address: str, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        name = control_plane_dns_name(self.world.authority.trust_domain)
        options = (("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1))
        channel = grpc.aio.secure_channel(address, credentials, options=options)
        self.channels.append(channel)
        return channel


@asynccontextmanager
async def serve(world: OpenAuthority, evidence: EvidenceSources | None = None) -> AsyncIterator[Served]:
    """Serve ``world`` on loopback, as the control plane does."""
    bundle = world.authority.bundle()
    servers = Servers(world.authority.issue_control_plane(), bundle.roots[0], bundle)
    add_joining(servers.joining, world.authority, evidence)
    add_renewal(servers.mutual, world.authority, evidence)
    await servers.start()
    served = Served(world, servers, [])
    try:
        yield served
    finally:
        for channel in served.channels:
            await channel.close()
        await servers.stop()


def svid_of(response: pb.SvidResponse, key: ec.EllipticCurvePrivateKey) -> X509Svid:
    return X509Svid.from_chain(tuple(response.chain), key)


async def refusal_of(call: Any) -> grpc.aio.AioRpcError:
    """The error that a call fails with; fails itself if there is none."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call was answered")
