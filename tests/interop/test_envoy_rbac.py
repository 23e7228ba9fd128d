"""The engine against Envoy's RBAC filter, in the language that both have: no difference, but those that are named."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from ringfence.policy.compile import compile_policy
from ringfence.policy.decide import Decision
from ringfence.policy.facts import KnownFacts
from ringfence.policy.model import (
    Allowlist,
    AuthenticatedCallers,
    Denylist,
    HeaderMatch,
    PolicySet,
    Rule,
)
from ringfence.policy.reasons import DenyReason
from tests.interop.generated import CALLERS, OTHER, OWN, Call, Source
from tests.interop.rbac import Client, Request, judging
from tests.pki import TestCa
from tests.ports import free_port

POLICIES = 300
CALLS = 25_000
LEAST = 20_000


def asked(number: int, call: Call) -> Request:
    return Request(policy=number, method=call.method, target=call.target, host=call.host, lines=call.headers)


def decided(policy: PolicySet, call: Call, ports: list[int]) -> Decision:
    """What our engine says, from scratch."""
    table = compile_policy(policy, trust_domain=OWN, http_ports=ports)
    facts = KnownFacts(
        now=1_000_000.0,
        host=call.host.lower().encode(),
        headers={name.encode(): [value.encode()] for name, value in call.headers},
    )
    view = table.caller(CALLERS[call.caller], call.address)
    return view.request(ports[call.port], call.method.encode(), call.target.encode(), facts)


async def test_the_engine_and_envoy_agree_on_each_of_many_generated_calls(tmp_path: Path) -> None:
    ports = sorted(free_port() for _ in range(3))
    authorities = [TestCa(OWN), TestCa(OTHER)]
    source = Source(20260929, ports)
    policies = [source.policy(number) for number in range(POLICIES)]
    plan: dict[tuple[int, str, int], list[tuple[int, Call]]] = defaultdict(list)
    for at in range(CALLS):
        number = at % POLICIES
        call = source.call(policies[number])
        plan[call.caller, call.address, call.port].append((number, call))
    permitted = refused = denylisted = 0
    differences = []
    async with judging(tmp_path, policies, ports, authorities):
        for (caller, address, port), calls in plan.items():
            spiffe_id = CALLERS[caller]
            authority = authorities[1] if spiffe_id is not None and spiffe_id.trust_domain == OTHER else authorities[0]
            client = Client(tmp_path, authority, spiffe_id, address, ports[port])
            answers = client.ask([asked(number, call) for number, call in calls])
            client.close()
            for (number, call), envoy in zip(calls, answers, strict=True):
                ours = decided(policies[number], call, ports)
                permitted += envoy
                refused += not envoy
                denylisted += getattr(ours, "reason", None) is DenyReason.DENYLISTED
                if ours.permitted != envoy:
                    differences.append((call, ours, policies[number]))
    assert differences == [], f"{len(differences)} of {CALLS}, the first: {differences[0]}"
    assert permitted + refused == CALLS >= LEAST
    # Neither side says one word all the time.
    assert permitted > CALLS / 6
    assert refused > CALLS / 6
    assert denylisted > CALLS / 50


# ------------------------------------------------------------------------------------------- differences, each meant


def allow(**words: object) -> PolicySet:
    rule = Rule(name="rule", callers=(AuthenticatedCallers(),), **words)  # type: ignore[arg-type]
    return PolicySet(allowlists=(Allowlist(namespace="shop", name="allow", rules=(rule,)),))


def deny(**words: object) -> PolicySet:
    rule = Rule(name="rule", callers=(AuthenticatedCallers(),), **words)  # type: ignore[arg-type]
    everything = Rule(name="all", callers=(AuthenticatedCallers(),))
    return PolicySet(
        allowlists=(Allowlist(namespace="shop", name="allow", rules=(everything,)),),
        denylists=(Denylist(namespace="shop", name="deny", rules=(rule,)),),
    )


PINNED = [
    # What an app may read otherwise than the judge is refused whatever the rules say; Envoy judges it as it stands.
    pytest.param(allow(paths=("/**",)), "/a/../b", "api.example", (), False, True, id="dot segments are refused"),
    pytest.param(allow(paths=("/**",)), "/a/..%2fb", "api.example", (), False, True, id="an escaped slash is refused"),
    pytest.param(allow(paths=("/**",)), "/a//b", "api.example", (), False, True, id="an empty segment is refused"),
    pytest.param(allow(), "/a;x/b", "api.example", (), False, True, id="parameters before a slash are refused"),
    # A needless escape is the character that it stands for, so that it is no way around a denylist.
    pytest.param(allow(paths=("/a",)), "/%61", "api.example", (), True, False, id="a needless escape is its character"),
    pytest.param(deny(paths=("/a",)), "/%61", "api.example", (), False, True, id="nor is it a way around a denial"),
    # Parameters of the last segment are a part of it where a rule permits; some servers cut them off, so they are no
    # way around a denial.
    pytest.param(
        allow(paths=("/a",)), "/a;v=1", "api.example", (), False, False, id="parameters are a part, with both"
    ),
    pytest.param(deny(paths=("/a",)), "/a;v=1", "api.example", (), False, True, id="they are no way around a denial"),
    # A host is a name; the port behind it is not a part of it.
    pytest.param(
        allow(hosts=("api.example",)), "/", "api.example:80", (), True, False, id="a port is no part of a host"
    ),
    # A header that is there twice has no value, as two readers would read it as two things; Envoy takes any of them.
    # (Where a rule denies, any of them counts with both: a second one is no way around it.)
    pytest.param(
        allow(headers=(HeaderMatch(name="x-mode", values=("a",)),)),
        "/",
        "api.example",
        (("x-mode", "a"), ("x-mode", "b")),
        False,
        True,
        id="a header that is there twice has no value",
    ),
    pytest.param(
        deny(headers=(HeaderMatch(name="x-mode", values=("a",)),)),
        "/",
        "api.example",
        (("x-mode", "b"), ("x-mode", "a")),
        False,
        False,
        id="a second header is no way around a denial, with both",
    ),
]


@pytest.mark.parametrize("policy, target, host, lines, ours, envoys", PINNED)
async def test_they_differ_where_it_is_meant(
    policy: PolicySet,
    target: str,
    host: str,
    lines: tuple[tuple[str, str], ...],
    ours: bool,
    envoys: bool,
    tmp_path: Path,
) -> None:
    port, authority = free_port(), TestCa(OWN)
    headers: dict[bytes, list[bytes]] = defaultdict(list)
    for name, value in lines:
        headers[name.encode()].append(value.encode())
    facts = KnownFacts(now=1_000_000.0, host=host.partition(":")[0].encode(), headers=headers)
    table = compile_policy(policy, trust_domain=OWN, http_ports=[port])
    decision = table.caller(CALLERS[0], "127.0.0.1").request(port, b"GET", target.encode(), facts)
    async with judging(tmp_path, [policy], [port], [authority]):
        client = Client(tmp_path, authority, CALLERS[0], "127.0.0.1", port)
        [found] = client.ask([Request(policy=0, method="GET", target=target, host=host, lines=lines)])
        client.close()
    assert (decision.permitted, found) == (ours, envoys)
