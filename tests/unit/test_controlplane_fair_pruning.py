"""What one namespace lets everybody into takes nobody else's place in what callers are told."""

from __future__ import annotations

from dataclasses import replace

from controlplane.push.snapshots import Built, Inputs, build
from ringfence.policy.bound import BoundPolicy
from ringfence.policy.model import Allowlist, AuthenticatedCallers, PolicySet, Rule
from ringfence.wire.convert import UPSTREAM_LIMIT, snapshot_from_wire, snapshot_to_wire
from tests.platform_mesh import mesh_of, service_of
from tests.property.test_pruning_properties import BUNDLE


def _open(name: str) -> BoundPolicy:
    namespace, _, short = name.partition("/")
    rule = Rule(name="a", callers=(AuthenticatedCallers(),))
    return BoundPolicy(policy=PolicySet(allowlists=(Allowlist(namespace=namespace, name=short, rules=(rule,)),)))


def _told(*others: str, crowd: tuple[int, ...]) -> set[str]:
    """Which services the pod of ``web`` is told, beside one of the namespace ``bank`` for each number of ports."""
    services = [service_of(name, 80, host=number) for number, name in enumerate(("shop/web", *others))]
    for number, ports in enumerate(crowd, 100):
        services.append(service_of(f"bank/a{number}", *range(2000, 2000 + ports), pods=0, host=number))
    mesh = mesh_of(*services)
    bound = {one.full_name: _open(one.full_name) for one in services}
    contents = build(Inputs(mesh=mesh, policies=bound, bundles=(BUNDLE,), pruned=True), Built()).contents
    (web,) = (one for one in contents.values() if one.workload.service == "web")
    assert snapshot_from_wire(snapshot_to_wire(web)) == web
    return {f"{one.namespace}/{one.service}" for one in web.upstreams}


def test_one_service_with_more_ports_than_anybody_is_told_costs_no_other() -> None:
    told = _told("stock/db", "stock/queue", crowd=(UPSTREAM_LIMIT + 1,))
    assert {"stock/db", "stock/queue"} <= told


def test_a_namespace_with_many_ports_comes_after_those_with_few() -> None:
    told = _told("stock/db", "stock/queue", crowd=(UPSTREAM_LIMIT - 1, 300, 300))
    assert {"stock/db", "stock/queue", "bank/a101", "bank/a102"} <= told
    assert "bank/a100" not in told


def test_an_address_that_two_pods_seem_to_have_is_told_once() -> None:
    made = service_of("bank/vault", 80, pods=3, host=7)
    first, second, third = made.instances
    pods = (
        replace(first, also=("fd00::1", "fd00::2")),
        replace(second, also=("fd00::1", third.address)),
        third,
    )
    mesh = mesh_of(service_of("shop/web", 80, host=8), replace(made, instances=pods))
    bound = {"bank/vault": _open("bank/vault")}
    contents = build(Inputs(mesh=mesh, policies=bound, bundles=(BUNDLE,), pruned=True), Built()).contents
    (web,) = (one for one in contents.values() if one.workload.service == "web")
    assert snapshot_from_wire(snapshot_to_wire(web)) == web
    (vault,) = (one for one in web.upstreams if one.service == "vault")
    assert [one.address for one in vault.endpoints] == [*(one.address for one in pods), "fd00::1", "fd00::2"]
