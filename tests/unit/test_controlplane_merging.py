"""Workloads that stand behind several services, and services whose workloads differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.intake.judging import services_of
from controlplane.push.merging import Share, unite
from controlplane.push.snapshots import build_snapshots
from controlplane.push.workload_key import WorkloadKey
from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import (
    AccessLog,
    ControlPlaneAddresses,
    IdentityLifetimes,
    Instance,
    Mesh,
    Service,
    ServicePort,
    UpstreamReference,
)
from ringfence.policy.bound import BoundPolicy
from ringfence.policy.labels import Labels
from ringfence.policy.model import Allowlist, Denylist, NamespaceCallers, PolicySet, Rule, TokenIssuer
from ringfence.routing.bind import PortRoute
from ringfence.routing.model import Per, Rate, RateLimit, Route, Timeouts
from ringfence.snapshot import EgressRule, Intercept, PortMode, Protocol, Snapshot
from ringfence.spiffe import SpiffeId, TrustDomain
from ringfence.wire.convert import snapshot_from_wire, snapshot_to_wire
from tests.pki import TestCa

BUNDLE = TestCa("shop.example").bundle()


def identity(account: str) -> SpiffeId:
    return SpiffeId.parse(f"spiffe://shop.example/ns/shop/sa/{account}")


def pod(
    name: str, address: str, apps: tuple[int, ...], *, account: str | None = None, targets: tuple[int, ...] = ()
) -> Instance:
    return Instance(
        name=name,
        address=address,
        mesh_port=15008,
        signals=None,
        apps=tuple(SocketAddress(address, port) for port in apps),
        listens=(),
        run=None,
        targets=targets,
        spiffe_id=identity(account) if account else None,
    )


def service(name: str, ports: tuple[ServicePort, ...], *pods: Instance, labels: Labels = ()) -> Service:
    return Service(
        name=name,
        namespace="shop",
        service_account=name,
        spiffe_id=identity(name),
        access_log=AccessLog(),
        ports=ports,
        upstreams=(),
        instances=pods,
        virtual_addresses=(f"10.96.0.{len(name)}",),
        intercept=Intercept(),
        labels=labels,
        pinned=True,
    )


def mesh(*services: Service) -> Mesh:
    return Mesh(
        name="cluster",
        trust_domain=TrustDomain("shop.example"),
        policies="",
        control_plane=ControlPlaneAddresses(),
        identities=IdentityLifetimes(),
        services=services,
    )


def port(
    number: int, target: int = 0, protocol: Protocol = Protocol.HTTP, mode: PortMode = PortMode.STRICT
) -> ServicePort:
    return ServicePort(port=number, protocol=protocol, target=target, mode=mode)


def caller(*references: UpstreamReference) -> Service:
    instance = pod("web-1", "10.1.0.1", ())
    return Service(
        name="web",
        namespace="shop",
        service_account="web",
        spiffe_id=identity("web"),
        access_log=AccessLog(),
        ports=(),
        upstreams=references,
        instances=(
            Instance(
                name=instance.name,
                address=instance.address,
                mesh_port=15008,
                signals=None,
                apps=(),
                listens=(None,) * len(references),
                run=None,
            ),
        ),
        intercept=Intercept(),
    )


def build(
    found: Mesh, policies: dict[str, BoundPolicy] | None = None, routes: object = None
) -> dict[WorkloadKey, Snapshot]:
    snapshots = build_snapshots(found, policies or {}, [BUNDLE], 1, routes or {})  # type: ignore[arg-type]
    for snapshot in snapshots.values():
        assert snapshot_from_wire(snapshot_to_wire(snapshot)) == snapshot
    return snapshots


def allow(name: str, *ports: int, rule: str = "a") -> Allowlist:
    return Allowlist(
        namespace="shop", name=name, rules=(Rule(name=rule, callers=(NamespaceCallers(namespace=name),), ports=ports),)
    )


def bound(*lists: Allowlist | Denylist, observe_until: float | None = None) -> BoundPolicy:
    return BoundPolicy(
        policy=PolicySet(
            allowlists=tuple(one for one in lists if isinstance(one, Allowlist)),
            denylists=tuple(one for one in lists if isinstance(one, Denylist)),
            observe_until=observe_until,
        )
    )


def test_a_call_names_the_port_that_each_workload_listens_on() -> None:
    api = service(
        "api",
        (port(80, target=8080), port(443)),
        pod("api-a", "10.1.0.2", (8080, 443)),
        pod("api-b", "10.1.0.3", (9090, 443), targets=(9090, 443)),
        pod("api-c", "10.1.0.4", (0, 443), targets=(0, 443)),
    )
    reference = UpstreamReference(service="shop/api", port=80, protocol=Protocol.HTTP)
    snapshots = build(mesh(api, caller(reference)))
    (upstream,) = snapshots[WorkloadKey(identity("web"), "web-1")].upstreams
    assert upstream.port == 80
    assert [(one.address, one.port) for one in upstream.endpoints] == [("10.1.0.2", 8080), ("10.1.0.3", 9090)]
    assert upstream.addresses == ("10.96.0.3",)  # an address of its own means that pod alone
    told = {key.instance: [one.port for one in found.workload.ports] for key, found in snapshots.items()}
    assert told == {"web-1": [], "api-a": [443, 8080], "api-b": [443, 9090], "api-c": [443]}


def test_policy_and_routes_name_the_ports_of_workloads() -> None:
    api = service("api", (port(80, target=8080),), pod("api-a", "10.1.0.2", (8080,)))
    empty = service("later", (port(80, target=7070), port(81, target=7070, protocol=Protocol.TCP)))
    named = services_of(mesh(api, empty))
    assert named["shop/api"].ports == {8080: "http"}
    assert named["shop/later"].ports == {7070: "auto"}
    route = Route(name="shop/api")
    limit = RateLimit(name="all", per=Per.ROUTE, connections=Rate(amount=1, seconds=1))
    reference = UpstreamReference(service="shop/api", port=80, protocol=Protocol.HTTP)
    snapshots = build(mesh(api, caller(reference)), {}, {"shop/api": {8080: PortRoute(route=route, limits=(limit,))}})
    assert snapshots[WorkloadKey(identity("web"), "web-1")].upstreams[0].route == route
    assert snapshots[WorkloadKey(identity("api"), "api-a")].workload.ports[0].limits == (limit,)


def test_workloads_of_one_service_may_bear_other_identities() -> None:
    api = service(
        "api", (port(80),), pod("a", "10.1.0.2", (80,), account="one"), pod("b", "10.1.0.3", (80,), account="two")
    )
    reference = UpstreamReference(service="shop/api", port=80, protocol=Protocol.HTTP)
    snapshots = build(mesh(api, caller(reference)))
    assert set(snapshots) == {
        WorkloadKey(identity("one"), "a"),
        WorkloadKey(identity("two"), "b"),
        WorkloadKey(identity("web"), "web-1"),
    }
    (upstream,) = snapshots[WorkloadKey(identity("web"), "web-1")].upstreams
    assert [one.spiffe_id for one in upstream.endpoints] == [identity("one"), identity("two")]
    # Who is named by the service's name is who really stands behind it, and not whose name it bears.
    assert services_of(mesh(api))["shop/api"].identities == (identity("one"), identity("two"))


def test_a_workload_behind_two_services_has_the_ports_of_both_and_what_each_may_do_at_its_own() -> None:
    ports = {"shop/api": 8080, "shop/metrics": 9100}
    found = mesh(
        service(
            "api", (port(80, target=8080),), pod("p", "10.1.0.2", (8080,), account="x"), labels=(("a", "1"), ("z", "1"))
        ),
        service("metrics", (port(9100),), pod("p", "10.1.0.2", (9100,), account="x"), labels=(("a", "1"), ("z", "2"))),
    )
    common = allow("common")
    snapshots = build(
        found,
        {
            "shop/api": bound(allow("callers"), allow("all", 8080, 9100), common),
            "shop/metrics": bound(allow("scrapers", 9100, 8080), common),
        },
    )
    ((key, snapshot),) = snapshots.items()
    assert key == WorkloadKey(identity("x"), "p")
    assert snapshot.workload.full_name == "shop/api"
    assert snapshot.workload.labels == (("a", "1"),)
    assert [one.port for one in snapshot.workload.ports] == sorted(ports.values())
    told = {one.name: [rule.ports for rule in one.rules] for one in snapshot.allowlists}
    assert told == {"callers": [(8080,)], "all": [(8080,)], "scrapers": [(9100,)], "common": [()]}


def test_a_rule_for_none_of_the_ports_of_its_service_is_left_out_and_never_becomes_one_for_all() -> None:
    united = unite(
        [
            Share(policy=bound(allow("one", 9100)), ports=frozenset((8080,))),
            Share(policy=bound(), ports=frozenset((9100,))),
        ]
    )
    assert united.policy.allowlists == ()


def test_a_denylist_refuses_at_the_ports_of_the_services_that_it_is_for() -> None:
    denied = Denylist(namespace="shop", name="no", rules=(Rule(name="r", callers=(NamespaceCallers(namespace="x"),)),))
    two = frozenset((8080,)), frozenset((9100,))
    both = unite([Share(policy=bound(denied), ports=ports) for ports in two])
    assert both.policy.denylists == (denied,)
    one = unite([Share(policy=bound(denied), ports=two[0]), Share(policy=bound(), ports=two[1])])
    assert [rule.ports for rule in one.policy.denylists[0].rules] == [(8080,)]


@pytest.mark.parametrize(("ends", "until"), [((5.0, 9.0), 5.0), ((5.0, None), None), ((None, None), None)])
def test_a_workload_is_observed_only_while_each_of_its_services_is(
    ends: tuple[float | None, ...], until: float | None
) -> None:
    shares = [Share(policy=bound(observe_until=end), ports=frozenset((number,))) for number, end in enumerate(ends, 1)]
    assert unite(shares).policy.observe_until == until


def test_a_shadow_of_one_service_is_judged_beside_what_holds_at_the_others() -> None:
    tried = BoundPolicy(policy=PolicySet(), shadow=PolicySet(allowlists=(allow("tried"),)))
    issuer = TokenIssuer(name="shop/i", issuer="https://i", audiences=("a",))
    held = BoundPolicy(policy=PolicySet(allowlists=(allow("held"),)), issuers=(issuer,))
    united = unite([Share(policy=tried, ports=frozenset((1,))), Share(policy=held, ports=frozenset((2,)))])
    assert [one.name for one in united.policy.allowlists] == ["held"]
    assert united.shadow is not None
    assert {one.name: one.rules[0].ports for one in united.shadow.allowlists} == {"held": (2,), "tried": (1,)}
    assert united.issuers == (issuer,)


def test_of_a_port_behind_two_services_the_stricter_word_holds() -> None:
    limit = RateLimit(name="all", per=Per.ROUTE, connections=Rate(amount=1, seconds=1))
    other = RateLimit(name="all", per=Per.ROUTE, connections=Rate(amount=2, seconds=1))
    found = mesh(
        service("a", (port(80, target=8080, mode=PortMode.PERMISSIVE),), pod("p", "10.1.0.2", (8080,), account="x")),
        service("bb", (port(81, target=8080, protocol=Protocol.TCP),), pod("p", "10.1.0.2", (8080,), account="x")),
    )
    routes = {
        "shop/a": {8080: PortRoute(route=Route(name="shop/a"), limits=(limit,))},
        "shop/bb": {8080: PortRoute(route=Route(name="shop/bb"), limits=(other,))},
    }
    (snapshot,) = build(found, {}, routes).values()
    (told,) = snapshot.workload.ports
    assert (told.protocol, told.mode) == (Protocol.AUTO, PortMode.STRICT)
    assert [(one.name, one.connections) for one in told.limits] == [
        ("all", limit.connections),
        ("all-2", other.connections),
    ]


def test_egress_of_documents_goes_with_that_of_the_mesh_file() -> None:
    written = EgressRule(name="own", hosts=("a.example",))
    rules = [EgressRule(name=f"shop/out/{name}", hosts=("b.example",)) for name in "ab"]
    api = replace(service("api", (port(80),), pod("p", "10.1.0.2", (80,), account="x")), egress=(written,))
    other = service("bb", (port(81),), pod("p", "10.1.0.2", (81,), account="x"))
    policies = {"shop/api": BoundPolicy(egress=(rules[0],)), "shop/bb": BoundPolicy(egress=(rules[1], rules[0]))}
    (snapshot,) = build(mesh(api, other), policies).values()
    assert snapshot.egress == (written, *rules)
    (alone,) = build(mesh(api), policies).values()
    assert alone.egress == (written, rules[0])


def test_words_about_requests_are_not_for_a_port_that_is_opaque() -> None:
    ports = (port(80, target=8080), port(81, target=8080, protocol=Protocol.TCP))
    api = service("api", ports, pod("a", "10.1.0.2", (8080, 8080)))
    route = Route(name="shop/api", timeouts=Timeouts(request_seconds=1.0))
    plain = Route(name="shop/api", max_age_seconds=60)
    references = [
        UpstreamReference(service="shop/api", port=80, protocol=Protocol.HTTP),
        UpstreamReference(service="shop/api", port=81, protocol=Protocol.TCP),
    ]
    for held, told in ((route, [route, None]), (plain, [plain, plain])):
        snapshots = build(mesh(api, caller(*references)), {}, {"shop/api": {8080: PortRoute(route=held)}})
        assert [one.route for one in snapshots[WorkloadKey(identity("web"), "web-1")].upstreams] == told
