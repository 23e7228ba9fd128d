"""Chains of opaque TCP, ours and Envoy's, in front of one nginx; they carry HTTP, which neither reads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import backend, envoy, mesh
from benchmarks.chain import Chain
from benchmarks.works import BenchmarkError, Say

_PATH = "/"


@contextlib.contextmanager
def chains(
    folder: Path, backend_port: int, *, logged: bool = False, sampled: bool = False
) -> Iterator[tuple[Chain, Chain]]:
    """Start both, ours first, and see that the duties are on; ``sampled``: ours under ``benchmarks.sampler``.

    ``logged``: each proxy of both writes a line of JSON for each connection that ends; else none does.
    """
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(envoy.chain(folder, "tcp", backend_port, _PATH, logged=logged))
        wanted = mesh.Wanted(protocol="tcp", backend_port=backend_port, log_level="info" if logged else "warning")
        (ours,) = stack.enter_context(mesh.chains(folder, [wanted], _PATH, sampled=sampled))
        check_duties(ours)
        yield ours, peer


@contextlib.contextmanager
def started(say: Say, *, sampled: bool = False) -> Iterator[tuple[Path, Chain, Chain]]:
    """Start nginx and both chains in a temporary folder: the folder, ours, the peer."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(backend.folder())
        say("starting nginx, envoy and the mesh")
        (port,) = stack.enter_context(backend.nginx(folder, 1))
        ours, peer = stack.enter_context(chains(folder, port, sampled=sampled))
        yield folder, ours, peer


def check_duties(ours: Chain) -> None:
    """BenchmarkError unless our side refuses what the policy does not permit, and counts every connection."""
    if ours.forbidden_port is None or ours.answers(_PATH, ours.forbidden_port):
        raise BenchmarkError(f"{ours.name} let a connection to a forbidden port through")
    before = ours.counted("connections")
    wanted = [count + 5 for count in before]
    for _ in range(5):
        ours.ask(_PATH)
    deadline = time.monotonic() + 5
    while True:
        counted = ours.counted("connections")
        if all(have >= want for have, want in zip(counted, wanted, strict=True)):
            return
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{ours.name} counted {list(counted)} connections instead of {wanted}")
        time.sleep(0.02)
