"""What each sidecar is told, and at which revision."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from controlplane.mesh.document import read_mesh
from controlplane.push.revisions import RESERVE, Catalog, Ledger, advance, amend, resumed, settled
from controlplane.push.snapshots import build_snapshots
from controlplane.push.workload_key import WorkloadKey
from ringfence.mesh import Mesh
from ringfence.policy.bound import BoundPolicy
from ringfence.policy.model import Allowlist, NamespaceCallers, PolicySet, Rule
from ringfence.routing.bind import PortRoute
from ringfence.routing.model import Per, Rate, RateLimit, Route
from ringfence.snapshot import EgressRule, ForwardProxy, Intercept, PortMode, Protocol, Snapshot, Transport
from ringfence.spiffe import SpiffeId
from ringfence.wire.convert import snapshot_from_wire, snapshot_to_wire
from tests.mesh_files import mesh_text
from tests.pki import TestCa

BUNDLE = TestCa("shop.example").bundle()


def mesh(*services: str, **options: object) -> Mesh:
    document, problems = read_mesh(mesh_text(*services, **options), "mesh.yaml")  # type: ignore[arg-type]
    assert document is not None, problems
    return document.mesh


def identity(name: str) -> SpiffeId:
    return SpiffeId.parse(f"spiffe://shop.example/ns/shop/sa/{name}")


def key(name: str, instance: str = "") -> WorkloadKey:
    return WorkloadKey(identity(name), instance)


def allowlist(name: str, caller_namespace: str = "shop") -> Allowlist:
    return Allowlist(
        namespace="shop", name=name, rules=(Rule(name="a", callers=(NamespaceCallers(namespace=caller_namespace),)),)
    )


def build(found: Mesh, allowlists: dict[str, tuple[Allowlist, ...]] | None = None) -> dict[WorkloadKey, Snapshot]:
    policies = {name: BoundPolicy(policy=PolicySet(allowlists=listed)) for name, listed in (allowlists or {}).items()}
    return build_snapshots(found, policies, [BUNDLE], 1)


def revisions(catalog: Catalog) -> dict[str, int]:
    return {str(workload).rpartition("/")[2]: snapshot.revision for workload, snapshot in catalog.snapshots.items()}


def test_sidecar_is_told_only_its_own_share() -> None:
    snapshots = build(
        mesh("web", "orders", "payments"),
        {"shop/orders": (allowlist("orders"),), "shop/payments": (allowlist("payments"),)},
    )
    orders = snapshots[key("orders")]
    assert orders.workload.spiffe_id == identity("orders")
    assert [upstream.service for upstream in orders.upstreams] == ["payments"]
    assert [endpoint.spiffe_id for endpoint in orders.upstreams[0].endpoints] == [identity("payments")]
    assert [found.name for found in orders.allowlists] == ["orders"]
    assert snapshots[key("web")].allowlists == ()
    assert snapshots[key("payments")].upstreams == ()


def test_a_route_goes_to_the_callers_and_its_limits_to_the_service() -> None:
    limit = RateLimit(name="all", per=Per.ROUTE, connections=Rate(amount=1, seconds=1))
    route = Route(name="shop/orders", max_age_seconds=60)
    routes = {"shop/orders": {8080: PortRoute(route=route, limits=(limit,))}}
    found = mesh("web", "orders", "payments")
    snapshots = build_snapshots(found, {}, [BUNDLE], 1, routes)
    (to_orders,) = snapshots[key("web")].upstreams
    (to_payments,) = snapshots[key("orders")].upstreams
    assert (to_orders.service, to_orders.port, to_orders.route) == ("orders", 8080, route)
    assert to_payments.route is None
    assert [port.limits for port in snapshots[key("orders")].workload.ports] == [(limit,)]
    assert [port.limits for port in snapshots[key("web")].workload.ports] == [()]


def test_upstream_bears_the_mesh_address_and_port_of_its_target() -> None:
    found = build(mesh("web", "orders"))[key("web")].upstreams[0]
    assert (found.port, found.protocol, found.listen_host, found.listen_port) == (8080, "http", "127.0.0.1", 9101)
    endpoint = found.endpoints[0]
    assert (endpoint.mesh_host, endpoint.mesh_port, endpoint.address) == ("127.0.0.1", 15102, "127.0.0.1")


def test_a_workload_is_told_the_labels_of_its_service() -> None:
    text = mesh_text("web", "orders").replace(
        "    - name: orders\n", "    - name: orders\n      labels: {b: x, a: y}\n"
    )
    document, problems = read_mesh(text, "m.yaml")
    assert document is not None, problems
    snapshots = build(document.mesh)
    assert snapshots[key("orders")].workload.labels == (("a", "y"), ("b", "x"))
    assert snapshots[key("web")].workload.labels == ()


DIRECT = """\
  directServices:
    - {name: search, namespace: shop, addresses: ["10.0.0.6", "10.0.0.5"], ports: [{port: 8443, protocol: grpc}]}
"""


def test_a_service_without_a_sidecar_is_dialled_itself_and_gets_no_snapshot() -> None:
    text = mesh_text("web", "orders") + DIRECT
    document, problems = read_mesh(text.replace("service: orders, port: 8080", "service: search, port: 8443"), "m.yaml")
    assert document is not None, problems
    snapshots = build(document.mesh)
    assert snapshots.keys() == {key("web"), key("orders")}
    [found] = snapshots[key("web")].upstreams
    assert (found.service, found.protocol, found.addresses) == ("search", "grpc", ("10.0.0.5", "10.0.0.6"))
    assert [(end.mesh_host, end.mesh_port, end.spiffe_id, end.transport) for end in found.endpoints] == [
        ("10.0.0.5", 8443, identity("search"), Transport.DIRECT),
        ("10.0.0.6", 8443, identity("search"), Transport.DIRECT),
    ]
    assert snapshot_from_wire(snapshot_to_wire(snapshots[key("web")])) == snapshots[key("web")]


def test_a_port_without_a_protocol_has_it_found_out_at_both_ends() -> None:
    document, problems = read_mesh(mesh_text("web", "orders").replace("protocol: http, ", ""), "m.yaml")
    assert document is not None, problems
    snapshots = build(document.mesh)
    assert [port.protocol for port in snapshots[key("orders")].workload.ports] == [Protocol.AUTO]
    assert [upstream.protocol for upstream in snapshots[key("web")].upstreams] == [Protocol.AUTO]
    assert snapshot_from_wire(snapshot_to_wire(snapshots[key("web")])) == snapshots[key("web")]


def test_every_snapshot_passes_the_check_at_its_sidecar() -> None:
    for snapshot in build(mesh("web", "orders"), {"shop/orders": (allowlist("orders"),)}).values():
        assert snapshot_from_wire(snapshot_to_wire(snapshot)) == snapshot


FULL = """\
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {name: shop}
spec:
  trustDomain: shop.example
  services:
    - name: web
      namespace: shop
      address: 10.0.0.1
      mesh: 15008
      intercept: {outbound: 16001}
      forwardProxy: "127.0.0.1:3128"
      upstreams:
        - {service: ledger, port: 7000}
        - {service: ledger, port: 8080}
        - {service: orders, port: 8080, listen: "127.0.0.1:9101"}
      egress:
        - {name: mirrors, cidrs: ["2001:DB8::/32", 10.1.0.0/16]}
        - {name: api, hosts: [api.example.org, "*.example.net"], ports: [443, 80]}
    - name: orders
      namespace: shop
      address: 10.0.0.2
      mesh: 15008
      ports:
        - {port: 8080, protocol: http2, mode: permissive, app: 9002}
        - {port: 9090, protocol: grpc, mode: strict, app: 9003}
    - name: ledger
      namespace: shop
      address: 10.0.0.3
      virtualAddresses: [10.96.0.9, "2001:DB8::9", 10.96.0.10]
      mesh: 15008
      intercept: {}
      ports:
        - {port: 7000, protocol: tcp, proxyProtocol: v2, app: 9004}
        - {port: 8080, protocol: http, app: 9005}
"""


def full() -> dict[WorkloadKey, Snapshot]:
    document, problems = read_mesh(FULL, "mesh.yaml")
    assert document is not None, problems
    return build(document.mesh)


def test_ports_bear_their_mode_and_whether_the_app_is_told_its_caller() -> None:
    orders, ledger = full()[key("orders")].workload, full()[key("ledger")].workload
    assert [(port.port, port.protocol, port.mode, port.proxy_protocol) for port in (*orders.ports, *ledger.ports)] == [
        (8080, Protocol.HTTP2, PortMode.PERMISSIVE, False),
        (9090, Protocol.GRPC, PortMode.STRICT, False),
        (7000, Protocol.TCP, PortMode.STRICT, True),
        (8080, Protocol.HTTP, PortMode.STRICT, False),
    ]


def test_a_forward_proxy_is_told_to_the_sidecar_of_its_service_alone() -> None:
    found = {name: full()[key(name)].workload.forward_proxy for name in ("web", "orders", "ledger")}
    assert found == {"web": ForwardProxy(host="127.0.0.1", port=3128), "orders": None, "ledger": None}


def test_interception_is_on_where_it_is_asked_for() -> None:
    found = {name: full()[key(name)].workload.intercept for name in ("web", "orders", "ledger")}
    assert found == {
        "web": Intercept(inbound_port=15006, outbound_port=16001),
        "orders": None,
        "ledger": Intercept(inbound_port=15006, outbound_port=15001),
    }


def test_upstreams_are_known_by_the_addresses_that_the_app_dials_and_listen_only_if_told() -> None:
    ledger = ("10.0.0.3", "10.96.0.10", "10.96.0.9", "2001:db8::9")
    assert [
        (upstream.service, upstream.port, upstream.addresses, upstream.listen_host, upstream.listen_port)
        for upstream in full()[key("web")].upstreams
    ] == [
        ("ledger", 7000, ledger, "", 0),
        ("ledger", 8080, ledger, "", 0),
        ("orders", 8080, ("10.0.0.2",), "127.0.0.1", 9101),
    ]


def test_egress_is_its_own_services_alone_and_none_where_nothing_is_said() -> None:
    snapshots = full()
    assert snapshots[key("web")].egress == (
        EgressRule(name="api", hosts=("api.example.org", "*.example.net"), ports=(443, 80)),
        EgressRule(name="mirrors", cidrs=("2001:db8::/32", "10.1.0.0/16")),
    )
    assert snapshots[key("orders")].egress == snapshots[key("ledger")].egress == ()


def test_a_full_snapshot_passes_the_check_at_its_sidecar() -> None:
    for snapshot in full().values():
        assert snapshot_from_wire(snapshot_to_wire(snapshot)) == snapshot


def test_order_of_documents_does_not_matter() -> None:
    random = Random(7)
    base = mesh("web", "orders", "payments")
    lists = [allowlist(name) for name in ("a", "b", "c", "d")]
    first = build(base, {"shop/orders": tuple(lists)})
    for _ in range(10):
        random.shuffle(lists)
        services = list(base.services)
        random.shuffle(services)
        assert build(replace(base, services=tuple(services)), {"shop/orders": tuple(lists)}) == first


def test_revision_of_a_snapshot_is_that_of_its_last_change() -> None:
    base = mesh("web", "orders", "payments")
    ledger, catalog = advance(Ledger(), build(base))
    assert (ledger.revision, revisions(catalog)) == (1, {"web": 1, "orders": 1, "payments": 1})
    ledger, catalog = advance(ledger, build(base, {"shop/orders": (allowlist("orders"),)}))
    assert (catalog.revision, revisions(catalog)) == (2, {"web": 1, "orders": 2, "payments": 1})
    ledger, catalog = advance(ledger, build(base, {"shop/payments": (allowlist("payments"),)}))
    assert (catalog.revision, revisions(catalog)) == (3, {"web": 1, "orders": 3, "payments": 3})


def test_change_that_alters_nothing_for_anybody_is_no_revision() -> None:
    base = mesh("web", "orders")
    ledger, catalog = advance(Ledger(), build(base))
    assert advance(ledger, build(replace(base, name="other"))) == (ledger, catalog)


def test_content_that_comes_back_gets_a_revision_of_its_own() -> None:
    base, changed = mesh("web", "orders"), {"shop/orders": (allowlist("orders"),)}
    ledger, _ = advance(Ledger(), build(base))
    ledger, _ = advance(ledger, build(base, changed))
    ledger, catalog = advance(ledger, build(base))
    assert revisions(catalog) == {"web": 1, "orders": 3}


def test_workload_that_leaves_and_returns_never_reuses_a_revision() -> None:
    ledger, _ = advance(Ledger(), build(mesh("web", "orders", upstreams=False)))
    ledger, catalog = advance(ledger, build(mesh("web", upstreams=False)))
    assert (catalog.revision, revisions(catalog)) == (2, {"web": 1})
    ledger, catalog = advance(ledger, build(mesh("web", "orders", upstreams=False)))
    assert (catalog.revision, revisions(catalog)) == (3, {"web": 1, "orders": 3})


def test_restart_with_the_same_documents_keeps_every_revision() -> None:
    base = mesh("web", "orders")
    ledger, before = advance(Ledger(), build(base, {"shop/orders": (allowlist("orders"),)}))
    _, after = advance(
        Ledger(revision=ledger.revision, stamps=dict(ledger.stamps)),
        build(base, {"shop/orders": (allowlist("orders"),)}),
    )
    assert after == before


# --------------------------------------------------------------------------------------------------------- instances

FLEET = """\
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {name: shop}
spec:
  trustDomain: shop.example
  services:
    - name: web
      namespace: shop
      mesh: 15101
      upstreams: [{service: orders, port: 8080, listen: 9101}]
    - name: orders
      namespace: shop
      virtualAddresses: [10.96.0.1]
      ports: [{port: 8080, protocol: http}]
      upstreams: [{service: web-hook, port: 8080}]
      intercept: {}
      instances:
        - {name: b, address: 10.0.0.2, mesh: 15102, apps: {8080: 9002}}
        - {name: a, address: 10.0.0.1, mesh: 15008, apps: {8080: 9001}}
    - {name: web-hook, namespace: shop, mesh: 15103, ports: [{port: 8080, protocol: http, app: 9003}]}
"""


def fleet() -> dict[WorkloadKey, Snapshot]:
    document, problems = read_mesh(FLEET, "mesh.yaml")
    assert document is not None, problems
    return build(document.mesh)


def test_each_instance_gets_a_snapshot_of_its_own_under_the_one_identity() -> None:
    snapshots = fleet()
    assert snapshots.keys() == {key("web"), key("orders", "a"), key("orders", "b"), key("web-hook")}
    for name, host, mesh_port, app_port in (("a", "10.0.0.1", 15008, 9001), ("b", "10.0.0.2", 15102, 9002)):
        workload = snapshots[key("orders", name)].workload
        assert (workload.instance, workload.spiffe_id) == (name, identity("orders"))
        assert (workload.mesh_host, workload.mesh_port) == (host, mesh_port)
        assert [(port.address, port.port, port.app_port) for port in workload.ports] == [(host, 8080, app_port)]


def test_callers_are_told_every_instance_and_all_the_addresses_that_mean_them() -> None:
    [upstream] = fleet()[key("web")].upstreams
    assert [(end.mesh_host, end.mesh_port, end.spiffe_id, end.ready) for end in upstream.endpoints] == [
        ("10.0.0.1", 15008, identity("orders"), True),
        ("10.0.0.2", 15102, identity("orders"), True),
    ]
    assert upstream.addresses == ("10.0.0.1", "10.0.0.2", "10.96.0.1")


def test_further_addresses_of_an_instance_lead_to_it_and_are_not_chosen() -> None:
    held = mesh("web", "orders")
    orders = held.services[1]
    instance = replace(orders.instances[0], also=("fd00::1",))
    services = (held.services[0], replace(orders, instances=(instance,), pinned=True))
    built = build_snapshots(replace(held, services=services), {}, [BUNDLE], 1)
    found = built[key("web")].upstreams[0].endpoints
    assert [(end.address, end.mesh_host, end.ready) for end in found] == [
        (instance.address, instance.address, True),
        ("fd00::1", "fd00::1", False),
    ]
    assert {end.spiffe_id for end in found} == {identity("orders")}
    assert snapshot_from_wire(snapshot_to_wire(built[key("web")])) == built[key("web")]


def test_snapshots_of_instances_pass_the_check_at_their_sidecars() -> None:
    for snapshot in fleet().values():
        assert snapshot_from_wire(snapshot_to_wire(snapshot)) == snapshot


# ------------------------------------------------------------------------------------------- readiness in revisions


def unready(snapshot: Snapshot) -> Snapshot:
    return replace(
        snapshot,
        upstreams=tuple(
            replace(up, endpoints=tuple(replace(end, ready=False) for end in up.endpoints)) for up in snapshot.upstreams
        ),
    )


def test_a_change_of_readiness_is_a_revision_of_those_it_concerns() -> None:
    contents = build(mesh("web", "orders", "payments"))
    ledger, catalog = advance(Ledger(), contents)
    ledger, catalog = amend(ledger, catalog, {key("web"): unready(contents[key("web")])})
    assert (catalog.revision, revisions(catalog)) == (2, {"web": 2, "orders": 1, "payments": 1})
    assert not catalog.snapshots[key("web")].upstreams[0].endpoints[0].ready
    assert amend(ledger, catalog, {key("web"): unready(contents[key("web")])}) == (ledger, catalog)
    _, catalog = amend(ledger, catalog, {key("web"): contents[key("web")]})
    assert revisions(catalog) == {"web": 3, "orders": 1, "payments": 1}


def test_revisions_are_set_aside_once_for_many_changes_of_readiness() -> None:
    contents = build(mesh("web", "orders"))
    ledger, catalog = advance(Ledger(), contents)
    reserved = set()
    for number in range(RESERVE):
        content = contents[key("web")] if number % 2 else unready(contents[key("web")])
        ledger, catalog = amend(ledger, catalog, {key("web"): content})
        assert ledger.revision <= ledger.reserved
        reserved.add(ledger.reserved)
    assert len(reserved) == 1


def test_after_a_crash_no_revision_is_used_again_and_callers_are_told_a_higher_one() -> None:
    contents = build(mesh("web", "orders"))
    ledger, catalog = advance(Ledger(), contents)
    ledger, catalog = amend(ledger, catalog, {key("web"): unready(contents[key("web")])})
    on_disk = ledger  # saved when revisions were set aside; what follows is not on it
    for content in (contents[key("web")], unready(contents[key("web")])) * 5:
        ledger, catalog = amend(ledger, catalog, {key("web"): content})
    used = catalog.revision
    ledger, catalog = advance(resumed(on_disk, contents), contents)
    assert revisions(catalog)["web"] > used
    assert revisions(catalog)["orders"] == 1
    assert catalog.revision > used


def test_after_a_clean_stop_a_restart_keeps_every_revision_that_still_fits() -> None:
    contents = build(mesh("web", "orders"))
    ledger, catalog = advance(Ledger(), contents)
    for content in (unready(contents[key("web")]), contents[key("web")]):
        ledger, catalog = amend(ledger, catalog, {key("web"): content})
    assert advance(resumed(settled(ledger), contents), contents)[1] == catalog
