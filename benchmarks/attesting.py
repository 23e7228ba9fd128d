"""Sidecars by the dozen, as far as the CA can tell: each enrols a host key and then attests by it again and again.

``python -m benchmarks.attesting`` takes its orders as lines of JSON on standard input and answers each with one: first
whom to be and where (``Orders``), then how many SVIDs to get, each over a connection of its own or not (``{"count": N,
"fresh": bool}``).
A process of its own, so that its CPU time is not the CA's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ringfence.wire.gen import issuing_pb2 as pb
from ringfence.wire.gen.issuing_pb2_grpc import JoiningStub

if TYPE_CHECKING:
    from ringfence.wire.gen.issuing_pb2_grpc import JoiningAsyncStub

_DEADLINE_SECONDS = 20.0
_DIGEST = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """``tokens``: join tokens, one for each workload to be; ``server_name``: of the control plane's certificate."""

    address: str
    server_name: str
    roots_pem: str
    tokens: list[str]


class Workload:
    """One workload's host key, and what it signs (see ``ringfence/wire/protos/issuing.proto``)."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = sha256(self.public).hexdigest()

    def joining(self, token: str, csr: bytes | None = None) -> pb.JoinRequest:
        """The request that enrols the host key and brings a first SVID; ``csr``: else for a key that is thrown away."""
        csr = csr or new_csr()
        message = b"ringfence-enrol-v1\0" + sha256(token.encode()).digest() + sha256(csr).digest()
        proof = self._key.sign(message, _DIGEST)
        return pb.JoinRequest(token=token, csr=csr, host_public_key=self.public, host_key_proof=proof)

    def challenging(self) -> pb.ChallengeRequest:
        """The request for a nonce."""
        return pb.ChallengeRequest(host_key_id=self.key_id)

    def attesting(self, nonce: bytes) -> pb.AttestRequest:
        """The request for a further SVID, with a new key."""
        csr = new_csr()
        signature = self._key.sign(b"ringfence-attest-v1\0" + nonce + sha256(csr).digest(), _DIGEST)
        return pb.AttestRequest(host_key_id=self.key_id, nonce=nonce, csr=csr, signature=signature)


def new_csr() -> bytes:
    """A PKCS#10 request with a new P-256 key, DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


class Crowd:
    """The workloads, each with a connection of its own."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._credentials = grpc.ssl_channel_credentials(orders.roots_pem.encode())
        self._workloads = [Workload() for _ in orders.tokens]

    async def enrol(self) -> None:
        """Join with every token."""

        async def one(workload: Workload, token: str) -> None:
            async with self._stub() as stub:
                await stub.Join(workload.joining(token), timeout=_DEADLINE_SECONDS)

        await asyncio.gather(*map(one, self._workloads, self._orders.tokens))

    async def attest(self, count: int, *, fresh: bool) -> float:
        """Get ``count`` SVIDs, all workloads at once; seconds. ``fresh``: each over a connection of its own."""
        numbers = iter(range(count))
        started = time.perf_counter()
        await asyncio.gather(*(self._attest_on(workload, numbers, fresh) for workload in self._workloads))
        return time.perf_counter() - started

    async def _attest_on(self, workload: Workload, numbers: Iterator[int], fresh: bool) -> None:
        """Take numbers until there is none left, an SVID for each."""
        while (first := next(numbers, None)) is not None:
            async with self._stub() as stub:
                for _ in (first,) if fresh else itertools.chain((first,), numbers):
                    challenge = await stub.Challenge(workload.challenging(), timeout=_DEADLINE_SECONDS)
                    answer = await stub.Attest(workload.attesting(challenge.nonce), timeout=_DEADLINE_SECONDS)
                    if not answer.chain:
                        raise ValueError("an answer holds no certificate")

    @contextlib.asynccontextmanager
    async def _stub(self) -> AsyncIterator[JoiningAsyncStub]:
        options = [
            ("grpc.ssl_target_name_override", self._orders.server_name),
            # A sidecar shares its connection with nobody.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        async with grpc.aio.secure_channel(self._orders.address, self._credentials, options) as channel:
            yield JoiningStub(channel)


async def serve() -> None:
    """Read orders and answer them until the input ends."""
    crowd = Crowd(Orders(**json.loads(await _line())))
    await crowd.enrol()
    print(json.dumps({"enrolled": True}), flush=True)
    while line := await _line():
        order = json.loads(line)
        seconds = await crowd.attest(order["count"], fresh=order["fresh"])
        print(json.dumps({"seconds": seconds}), flush=True)


async def _line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(serve())
