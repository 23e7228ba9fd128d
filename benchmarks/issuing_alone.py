"""The CA without gRPC: the same attestations, handed to the handlers of its Joining service in one process.

What the handlers do is whole: proofs examined, SVIDs signed and checked, recorded in the database, logged. What is
missing is gRPC, TLS and HTTP/2. What the workloads do (keys, CSRs, signatures) happens in between and is not counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import grpc.aio

from benchmarks.attesting import Workload
from benchmarks.mesh import PASSPHRASE, initialise
from benchmarks.mesh_documents import TRUST_DOMAIN
from benchmarks.works import BenchmarkError
from ca import AuthoritySettings, add_joining, open_authority
from ringfence.kit.log import Logger
from ringfence.spiffe import SpiffeId, TrustDomain

_BATCH = 64
"""Petitions at a time: what the authority records in one transaction at most."""


class _Handlers:
    """Stands where the gRPC server would, and keeps the handlers that are registered with it."""

    def __init__(self) -> None:
        self.by_method: Mapping[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same handlers in another form."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self.by_method = handlers


class _Context:
    """As much of a call's context as the service looks at."""

    def set_trailing_metadata(self, metadata: object) -> None:
        """Nobody reads it."""

    def time_remaining(self) -> None:
        return None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def abort(self, code: object, details: str, metadata: object = ()) -> None:
        raise BenchmarkError(f"the CA refused: {details} ({code})")


def attest(folder: Path, count: int, workloads: int) -> float:
    """Have a CA of its own in ``folder`` issue about ``count`` SVIDs to so many workloads; CPU seconds for each."""
    passphrase = folder / "passphrase-alone"
    passphrase.touch(mode=0o600)
    passphrase.write_text(f"{PASSPHRASE}\n")
    initialise(folder / "ca-alone", passphrase)
    settings = AuthoritySettings(data_dir=folder / "ca-alone", passphrase=PASSPHRASE.encode())
    with (folder / "ca-alone.log").open("w") as stream, open_authority(settings, log=Logger("ca", stream=stream)) as ca:
        handlers = _Handlers()
        add_joining(cast("grpc.aio.Server", handlers), ca)
        domain = TrustDomain.parse(TRUST_DOMAIN)
        tokens = [
            ca.mint_join_token(SpiffeId.workload(domain, "default", f"workload-{number}"), 300)
            for number in range(workloads)
        ]
        spent = asyncio.run(_attest_all(handlers.by_method, tokens, count))
        recorded = len(ca.issued(limit=count + workloads + 1))
        if recorded != count + workloads:
            raise BenchmarkError(f"the CA recorded {recorded} SVIDs instead of {count + workloads}")
    return spent / count


async def _attest_all(handlers: Mapping[str, Any], tokens: list[str], count: int) -> float:
    """CPU seconds of the handlers for ``count`` attestations."""

    async def call(method: str, requests: list[Any]) -> list[Any]:
        function = handlers[method].unary_unary
        return list(await asyncio.gather(*(function(request, _Context()) for request in requests)))

    workloads = [Workload() for _ in tokens]
    await call("Join", [workload.joining(token) for workload, token in zip(workloads, tokens, strict=True)])
    spent = 0.0
    for start in range(0, count, _BATCH):
        asking = [workloads[number % len(workloads)] for number in range(start, min(start + _BATCH, count))]
        requests: list[Any] = [workload.challenging() for workload in asking]
        before = time.process_time()
        challenges = await call("Challenge", requests)
        spent += time.process_time() - before
        requests = [workload.attesting(challenge.nonce) for workload, challenge in zip(asking, challenges, strict=True)]
        before = time.process_time()
        answers = await call("Attest", requests)
        spent += time.process_time() - before
        if not all(answer.chain for answer in answers):
            raise BenchmarkError("an answer of the CA holds no certificate")
    return spent
