"""What tests between network namespaces lean on.

They are skipped, with the reason, where this is not root or a program is missing; under CI they fail, as there nobody
would notice.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import NoReturn

import pytest

from tests.netns.spaces import Ends, Space, SpaceError, cable, environment
from tests.waiting import until

BACKENDS = ("nft", "iptables-nft", "iptables-legacy")
SIDECAR_UID = 1337
APP_UID = 2000


def unfit(reason: str) -> NoReturn:
    """This machine cannot run the tests."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; under CI the tests between network namespaces must run", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def administrator() -> None:
    if os.geteuid() != 0:
        unfit("network namespaces need root")
    for program, package in (
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("iptables-legacy", "iptables"),
        ("curl", "curl"),
    ):
        if shutil.which(program, path=environment()["PATH"]) is None:
            unfit(f"{program} is not installed (apt-get install {package})")
    try:
        Space("trial").close()
    except SpaceError as error:
        unfit(f"no network namespace can be made here: {error}")


# The legacy programs' lock is one for the machine, and who does not wait for it fails: other tests have it for moments.
LEGACY_WAIT = ("--wait", "20")


@cache
def kernel_refuses(backend: str) -> str:
    """Why the kernel cannot hold such rules, asked without a line of the code under test; empty if it can."""
    space = Space("probe")
    try:
        for stem in ("iptables", "ip6tables"):
            wait = LEGACY_WAIT if backend == "iptables-legacy" else ()
            rule = (*wait, "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "REDIRECT", "--to-ports", "1")
            tried = (
                space.try_run("nft", "add table inet probe { chain c { type nat hook output priority 0; }; }")
                if backend == "nft"
                else space.try_run(backend.replace("iptables", stem), *rule)
            )
            if tried.returncode != 0:
                return tried.stderr.strip()
    finally:
        space.close()
    return ""


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, administrator: None) -> str:
    """Each backend in turn that this kernel can hold."""
    name: str = request.param
    if reason := kernel_refuses(name):
        if name == "nft":
            unfit(f"this kernel holds no rules of nft: {reason}")
        pytest.skip(f"this kernel holds no rules of {name}: {reason}")
    return name


@dataclass
class Network:
    """A pod with a workload (8080) and what a sidecar would listen on, joined to a host outside."""

    pod: Space
    outside: Space
    pod_at: Ends
    outside_at: Ends
    backend: str

    def install(self, *words: str) -> None:
        """``ringfence redirect install`` in the pod, which must go well."""
        done = self.pod.redirect("install", "--backend", self.backend, *words)
        assert done.returncode == 0, done.stderr

    def remove(self) -> None:
        done = self.pod.redirect("remove")
        assert done.returncode == 0, done.stderr

    def flush(self) -> None:
        """All rules of the pod's namespace go."""
        self.pod.run("nft", "flush", "ruleset")
        if self.backend == "iptables-legacy":
            for stem in ("iptables", "ip6tables"):
                self.pod.run(f"{stem}-legacy-restore", *LEGACY_WAIT, given="*nat\nCOMMIT\n")

    def rules(self) -> str:
        """All rules of the pod's namespace, of whatever backend, without counters."""
        listings = (("nft", "--stateless", "list", "ruleset"), ("iptables-nft-save",), ("ip6tables-nft-save",))
        legacy = (("iptables-legacy-save",), ("ip6tables-legacy-save",))
        printed = "".join(self.pod.run(*argv) for argv in (*listings, *legacy))
        lines = (line for line in printed.splitlines() if not line.startswith("#"))
        return "\n".join(re.sub(r"\[[0-9]+:[0-9]+\]|counter packets [0-9]+ bytes [0-9]+", "", line) for line in lines)


def new_space(stack: ExitStack, word: str) -> Space:
    """A namespace that goes when the stack is unwound."""
    space = Space(word)
    stack.callback(space.close)
    return space


@contextmanager
def new_network(backend: str) -> Iterator[Network]:
    """A network of its own, on which packets flow."""
    with ExitStack() as stack:
        pod, outside = (new_space(stack, word) for word in ("pod", "outside"))
        pod_at, outside_at = cable(pod, outside, 1)
        pod.land("15001@127.0.0.1", "15001@::1", 15006, 15008, 9402, 8080)
        outside.land(80, 443, 8080)
        for address in (pod_at.ipv4, pod_at.ipv6, f"{pod_at.link_local}%eth0"):
            # A cable is up a moment before the kernel routes over it.
            asyncio.run(until(lambda address=address: "error" not in outside.dial(address, 8080)))
        yield Network(pod=pod, outside=outside, pod_at=pod_at, outside_at=outside_at, backend=backend)


@pytest.fixture(scope="session")
def shared_networks(administrator: None) -> Iterator[Callable[[str], Network]]:
    """A network for each backend, kept over the tests that change only rules."""
    with ExitStack() as stack:

        @cache
        def network_of(backend: str) -> Network:
            return stack.enter_context(new_network(backend))

        yield network_of


@pytest.fixture
def network(backend: str, shared_networks: Callable[[str], Network]) -> Iterator[Network]:
    """The backend's shared network, without rules; they are taken away again afterwards, not by the code under test."""
    network = shared_networks(backend)
    yield network
    network.flush()


@pytest.fixture
def fresh_network(backend: str) -> Iterator[Network]:
    """A network for this test alone, whose kernel has seen no rule yet."""
    with new_network(backend) as network:
        yield network
