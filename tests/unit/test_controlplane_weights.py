"""A namespace cannot make what others' callers are told too much to be told: its own services lose, and are told of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.intake.notices import LEFT_OUT, notices_of
from controlplane.push.revisions import Catalog
from controlplane.push.sending import FRAME_BYTES, Sendable
from controlplane.push.snapshots import SNAPSHOT_LIMIT_BYTES, Built, Inputs, build
from controlplane.push.weights import Weights
from ringfence.mesh import DirectPort, DirectService, Service
from ringfence.policy.bound import BoundPolicy
from ringfence.policy.model import Allowlist, AuthenticatedCallers, PolicySet, Rule
from ringfence.snapshot import Protocol, Snapshot
from ringfence.wire.convert import upstream_bytes
from tests.platform_mesh import mesh_of, service_of
from tests.property.test_pruning_properties import BUNDLE

_STEP = 64 << 10


def _open(full_name: str, *, paths: int = 1) -> BoundPolicy:
    namespace, _, short = full_name.partition("/")
    rules = tuple(
        Rule(name=f"r{number}", callers=(AuthenticatedCallers(),), paths=(f"/{'x' * 900}/{number}",))
        for number in range(paths)
    )
    return BoundPolicy(policy=PolicySet(allowlists=(Allowlist(namespace=namespace, name=short, rules=rules),)))


def _crowd(full_name: str, *, ports: int, pods: int) -> Service:
    """At addresses that nobody else has."""
    made = service_of(full_name, *range(2000, 2000 + ports), host=9, account="the-account-of-whom-nobody-asked")
    (first,) = made.instances
    several = tuple(replace(first, name=f"p{one}", address=f"fd00:10:77::{one:x}") for one in range(pods))
    return replace(made, instances=several)


def _built(*services: Service, limit: int = SNAPSHOT_LIMIT_BYTES, paths: int = 1) -> Built:
    bound = {one.full_name: _open(one.full_name, paths=paths if one.name == "web" else 1) for one in services}
    inputs = Inputs(mesh=mesh_of(*services), policies=bound, bundles=(BUNDLE,), pruned=True, limit_bytes=limit)
    return build(inputs, Built())


def _web(built: Built) -> Snapshot:
    (found,) = (one for one in built.contents.values() if one.workload.service == "web")
    return found


def _names(snapshot: Snapshot) -> set[str]:
    return {f"{one.namespace}/{one.service}" for one in snapshot.upstreams}


def _unsendable(built: Built, limit: int = SNAPSHOT_LIMIT_BYTES) -> set[str]:
    catalog = Catalog(revision=1, snapshots=built.contents)
    found = Sendable(limit).unsendable(catalog, Catalog(revision=0, snapshots={}))
    return {built.contents[key].workload.full_name for key in found}


def test_a_namespace_with_150_pods_of_1000_ports_each_closes_no_caller_and_no_other_service() -> None:
    crowd = _crowd("bank/crowd", ports=1000 - 3, pods=150)
    built = _built(
        service_of("shop/web", 80, host=1),
        service_of("shop/cart", 80, host=2),
        service_of("stock/db", 80, host=3),
        crowd,
    )
    web = _web(built)
    assert _names(web) == {"shop/web", "shop/cart", "stock/db"}
    assert _unsendable(built) == {"bank/crowd"}, "with more ports than a workload may have it closes itself"
    (notice,) = notices_of(built.left_out, {}, built.contents)
    assert (notice.service, notice.reason) == ("bank/crowd", LEFT_OUT)
    assert "its 997 ports" in notice.message
    assert "16 MiB" in notice.message
    assert "give it fewer ports or pods" in notice.message


def test_what_is_just_within_the_limit_is_told_whole_and_one_pod_more_is_left_out() -> None:
    def built(pods: int, limit: int) -> Built:
        return _built(service_of("shop/web", 80, host=1), _crowd("bank/crowd", ports=100, pods=pods), limit=limit)

    whole = built(40, SNAPSHOT_LIMIT_BYTES)
    mesh = mesh_of(_crowd("bank/crowd", ports=100, pods=40), service_of("shop/web", 80, host=1))
    # The rest of the snapshot is less than a step.
    limit = Weights(mesh, {}).total_bytes + _STEP + FRAME_BYTES
    assert _names(_web(built(40, limit))) == {"shop/web", "bank/crowd"}
    assert _web(built(40, limit)) == _web(whole)
    assert not built(40, limit).left_out
    assert not _unsendable(built(40, limit), limit)
    assert _names(_web(built(41, limit))) == {"shop/web"}
    assert set(built(41, limit).left_out) == {"bank/crowd"}
    assert not _unsendable(built(41, limit), limit)


def test_within_a_namespace_the_largest_service_is_left_out() -> None:
    small, large = _crowd("bank/z", ports=1, pods=3), _crowd("bank/a", ports=200, pods=200)
    built = _built(service_of("shop/web", 80, host=1), small, large, limit=1 << 20)
    assert _names(_web(built)) == {"shop/web", "bank/z"}


def test_a_namespace_too_large_for_itself_keeps_its_small_services() -> None:
    large = _crowd("shop/a", ports=200, pods=200)
    built = _built(service_of("shop/web", 80, host=1), service_of("stock/db", 80, host=2), large, limit=1 << 20)
    assert _names(_web(built)) == {"shop/web", "stock/db"}
    assert set(built.left_out) == {"shop/a"}


def test_whoever_has_a_large_policy_of_its_own_is_told_less_and_not_closed() -> None:
    services = (service_of("shop/web", 80, host=1), _crowd("bank/crowd", ports=100, pods=150))
    limit = 3 << 20
    assert _names(_web(_built(*services, limit=limit))) == {"shop/web", "bank/crowd"}
    burdened = _built(*services, limit=limit, paths=1300)
    assert _names(_web(burdened)) == {"shop/web"}
    assert not _unsendable(burdened, limit)


def test_what_was_left_out_comes_back_and_what_fits_is_the_same_object() -> None:
    web, limit = service_of("shop/web", 80, host=1), 1 << 20
    mesh, large = (mesh_of(web, _crowd("bank/crowd", ports=100, pods=pods)) for pods in (10, 200))
    bound = {name: _open(name) for name in ("shop/web", "bank/crowd")}

    def inputs(of: object) -> Inputs:
        return Inputs(mesh=of, policies=bound, bundles=(BUNDLE,), pruned=True, limit_bytes=limit)  # type: ignore[arg-type]

    first = build(inputs(mesh), Built())
    second = build(inputs(large), first)
    third = build(inputs(mesh), second)
    assert [_names(_web(one)) for one in (first, second, third)] == [
        {"shop/web", "bank/crowd"},
        {"shop/web"},
        {"shop/web", "bank/crowd"},
    ]
    assert _web(third) == _web(first)
    again = build(inputs(large), build(inputs(large), third))
    assert set(again.left_out) == {"bank/crowd"}, "told as long as it holds"


@pytest.mark.parametrize("pinned", [True, False])
def test_nothing_is_larger_on_the_wire_than_it_was_weighed(pinned: bool) -> None:
    made = replace(_crowd("bank/crowd", ports=7, pods=1100), pinned=pinned)
    instances = tuple(
        replace(one, also=(f"fd00::{number:x}",), targets=(*(9000 + port if number % 3 else 0 for port in range(7)),))
        for number, one in enumerate(made.instances)
    )
    service = replace(made, instances=instances)
    direct = DirectService(
        name="out",
        namespace="bank",
        spiffe_id=service.spiffe_id,
        addresses=("10.9.9.9", "10.9.9.8"),
        ports=(DirectPort(port=443, protocol=Protocol.HTTP2),),
    )
    mesh = replace(mesh_of(service_of("shop/web", 80, host=1), service), direct_services=(direct,))
    bound = {name: _open(name) for name in ("shop/web", "bank/crowd")}
    weights = Weights(mesh, {})
    contents = build(Inputs(mesh=mesh, policies=bound, bundles=(BUNDLE,), pruned=True), Built()).contents
    (web,) = (one for one in contents.values() if one.workload.service == "web")
    for name in ("crowd", "out"):
        told = [one for one in web.upstreams if one.service == name]
        worst = [replace(one, endpoints=tuple(replace(end, ready=False) for end in one.endpoints)) for one in told]
        size = sum(upstream_bytes(one) for one in worst)
        assert told
        assert size <= weights.of(f"bank/{name}") <= 1.2 * size + 100 * len(told)
