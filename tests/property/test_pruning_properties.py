"""Whatever a callee's policy would permit to a caller is among what the caller is told that it may call."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controlplane.push.snapshots import Built, Inputs, build
from controlplane.push.workload_key import WorkloadKey
from ringfence.mesh import Mesh, Service
from ringfence.policy.bound import BoundPolicy
from ringfence.policy.compile import compile_policy
from ringfence.policy.facts import KnownFacts
from ringfence.policy.model import (
    Allowlist,
    AuthenticatedCallers,
    Callers,
    Denylist,
    NamespaceCallers,
    NarrowedCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.snapshot import PortMode, Snapshot
from ringfence.spiffe import TrustDomain
from tests.pki import TestCa
from tests.platform_mesh import DOMAIN, mesh_of, service_of

BUNDLE = TestCa(DOMAIN).bundle()
NAMES = [f"{namespace}/{name}" for namespace in ("a", "b") for name in ("x", "y", "z")]
OWN = TrustDomain(DOMAIN)
AT_SOME_TIME = KnownFacts(now=1.8e9)
ACCOUNTS = ["x", "y", "z", "shared"]

PATTERNS = st.builds(
    lambda namespace, account: SpiffeIdPattern(trust_domain=OWN, segments=("ns", namespace, "sa", account)),
    st.sampled_from(["a", "b", "*"]),
    st.sampled_from([*ACCOUNTS, "*"]),
)
NAMED = st.one_of(
    PATTERNS,
    st.builds(lambda namespace: NamespaceCallers(namespace=namespace), st.sampled_from("abc")),
    st.builds(
        lambda name: TrustDomainCallers(trust_domain=TrustDomain(name)), st.sampled_from([DOMAIN, "other.example"])
    ),
    st.just(AuthenticatedCallers()),
    st.just(UnauthenticatedCallers()),
)
CALLERS: st.SearchStrategy[Callers] = NAMED | st.builds(
    lambda named: NarrowedCallers(callers=named, cidrs=("10.0.0.0/8",)), NAMED
)


@st.composite
def policies(draw: st.DrawFn, name: str) -> BoundPolicy:
    def rules() -> tuple[Rule, ...]:
        found = draw(st.lists(st.lists(CALLERS, min_size=1, max_size=2, unique=True), max_size=2))
        return tuple(
            Rule(name=f"r{number}", callers=tuple(callers), ports=draw(st.sampled_from([(), (80,), (81,)])))
            for number, callers in enumerate(found)
        )

    return BoundPolicy(
        policy=PolicySet(
            allowlists=(Allowlist(namespace=name[0], name=f"{name[2]}-allow", rules=rules()),),
            denylists=(Denylist(namespace=name[0], name=f"{name[2]}-deny", rules=rules()),),
            observe_until=draw(st.sampled_from([None, None, 4e9])),
        )
    )


@st.composite
def meshes(draw: st.DrawFn) -> tuple[Mesh, dict[str, BoundPolicy]]:
    services: list[Service] = []
    for number, name in enumerate(NAMES):
        made = service_of(name, 80, pods=draw(st.integers(0, 2)), host=number, account=draw(st.sampled_from(ACCOUNTS)))
        mode = draw(st.sampled_from(PortMode))
        services.append(replace(made, ports=tuple(replace(port, mode=mode) for port in made.ports)))
    # One that stands beside another before the same pods, at a port of its own.
    first = services[draw(st.integers(0, len(services) - 1))]
    beside = replace(
        first,
        name="beside",
        ports=tuple(replace(port, port=8000, target=draw(st.sampled_from([80, 81]))) for port in first.ports),
        virtual_addresses=("10.255.255.1",),
    )
    found = {name: draw(policies(name)) for name in NAMES if draw(st.booleans())}
    return mesh_of(*services, beside), found


def permits(callee: Snapshot, caller: Snapshot, port: int) -> bool:
    trust_domain = callee.workload.spiffe_id.trust_domain
    ports = [one.port for one in callee.workload.ports if one.protocol.is_http]
    table = compile_policy(callee.policy, trust_domain=trust_domain, http_ports=ports)
    view = table.caller(caller.workload.spiffe_id, caller.workload.mesh_host)
    return view.request(port, b"GET", b"/", AT_SOME_TIME).permitted


@given(meshes())
def test_whoever_would_be_let_in_is_told_where(made: tuple[Mesh, dict[str, BoundPolicy]]) -> None:
    mesh, bound = made
    contents = build(Inputs(mesh=mesh, policies=bound, bundles=(BUNDLE,), pruned=True), Built()).contents
    for caller in contents.values():
        told = {(f"{one.namespace}/{one.service}", one.port) for one in caller.upstreams}
        for service, instance in mesh.workloads:
            callee = contents[WorkloadKey(service.identity_of(instance), instance.name)]
            for port, target in zip(service.ports, service.targets_of(instance), strict=True):
                if permits(callee, caller, target):
                    assert (service.full_name, port.port) in told
        for service in mesh.services:
            if service.namespace == caller.workload.namespace:
                assert {(service.full_name, port.port) for port in service.ports} <= told


@given(meshes(), meshes())
def test_what_is_built_upon_an_earlier_mesh_is_what_is_built_from_nothing(
    made: tuple[Mesh, dict[str, BoundPolicy]], before: tuple[Mesh, dict[str, BoundPolicy]]
) -> None:
    def inputs(of: tuple[Mesh, dict[str, BoundPolicy]]) -> Inputs:
        return Inputs(mesh=of[0], policies=of[1], bundles=(BUNDLE,), pruned=True)

    fresh = build(inputs(made), Built())
    first = build(inputs(made), Built())
    again = build(inputs(made), first)
    assert all(again.contents[key] is first.contents[key] for key in first.contents)
    over = build(inputs(made), build(inputs(before), Built()))
    assert dict(over.contents) == dict(fresh.contents)
    for key, snapshot in over.contents.items():
        ends = [(end.port, end.ready) for upstream in snapshot.upstreams for end in upstream.endpoints]
        same = fresh.contents[key].upstreams
        assert ends == [(end.port, end.ready) for upstream in same for end in upstream.endpoints]
