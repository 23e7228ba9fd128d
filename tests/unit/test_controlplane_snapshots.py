"""What each sidecar is told, and at which revision."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from controlplane.mesh.document import read_mesh
from controlplane.mesh.model import Mesh
from controlplane.push.revisions import Catalog, Ledger, advance
from controlplane.push.snapshots import build_snapshots
from ringfence.policy.model import Allowlist, NamespaceCallers, Rule
from ringfence.snapshot import Snapshot
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


def allowlist(name: str, caller_namespace: str = "shop") -> Allowlist:
    return Allowlist(
        namespace="shop", name=name, rules=(Rule(name="a", callers=(NamespaceCallers(namespace=caller_namespace),)),)
    )


def build(found: Mesh, allowlists: dict[str, tuple[Allowlist, ...]] | None = None) -> dict[SpiffeId, Snapshot]:
    return build_snapshots(found, allowlists or {}, [BUNDLE], 1)


def revisions(catalog: Catalog) -> dict[str, int]:
    return {str(spiffe_id).rpartition("/")[2]: snapshot.revision for spiffe_id, snapshot in catalog.snapshots.items()}


def test_sidecar_is_told_only_its_own_share() -> None:
    snapshots = build(
        mesh("web", "orders", "payments"),
        {"shop/orders": (allowlist("orders"),), "shop/payments": (allowlist("payments"),)},
    )
    orders = snapshots[identity("orders")]
    assert orders.workload.spiffe_id == identity("orders")
    assert [upstream.service for upstream in orders.upstreams] == ["payments"]
    assert [endpoint.spiffe_id for endpoint in orders.upstreams[0].endpoints] == [identity("payments")]
    assert [found.name for found in orders.allowlists] == ["orders"]
    assert snapshots[identity("web")].allowlists == ()
    assert snapshots[identity("payments")].upstreams == ()


def test_upstream_bears_the_mesh_address_and_port_of_its_target() -> None:
    found = build(mesh("web", "orders"))[identity("web")].upstreams[0]
    assert (found.port, found.protocol, found.listen_host, found.listen_port) == (8080, "http", "127.0.0.1", 9101)
    endpoint = found.endpoints[0]
    assert (endpoint.mesh_host, endpoint.mesh_port, endpoint.address) == ("127.0.0.1", 15102, "127.0.0.1")


def test_every_snapshot_passes_the_check_at_its_sidecar() -> None:
    for snapshot in build(mesh("web", "orders"), {"shop/orders": (allowlist("orders"),)}).values():
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
