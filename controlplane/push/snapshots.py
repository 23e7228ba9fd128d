"""From the accepted configuration to what each sidecar is told. Pure.

A sidecar receives its own workload, its own upstreams and the policy that protects it, and nothing of anybody
else's: its memory does not grow with the mesh, and a stolen one betrays only its neighbours' addresses.

What was built before is handed in: whatever comes out the same is the same object again, so that all who come later
see at a glance what did not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, TypeVar

from controlplane.push.merging import Share, unite
from controlplane.push.pruning import LeftOut, Reach
from controlplane.push.upstreams import Called, UpstreamMaker, order
from controlplane.push.weights import Rooms, Weights
from controlplane.push.workload_key import WorkloadKey
from controlplane.push.workloads import Standing, workload_of
from ringfence.mesh import Instance, Mesh, Service
from ringfence.policy.bound import BoundPolicy, Policies, PolicyByLabels
from ringfence.policy.model import Allowlist, Denylist, EgressRule
from ringfence.routing.bind import PortRoute, Routes
from ringfence.snapshot import Snapshot
from ringfence.spiffe import TrustBundle

T = TypeVar("T")
L = TypeVar("L", Allowlist, Denylist)

SNAPSHOT_LIMIT_BYTES: Final = 16 << 20
"""Of one snapshot as a message: no sidecar takes more."""
_NOBODY: Final = BoundPolicy()
_NO_ROUTES: Final[Mapping[int, PortRoute]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What snapshots are made of.

    ``policies`` are bound: full service name -> what decides about its calls; a service that is not in it is protected
    by nothing and so refuses everybody. ``routes``, bound as well: how callers reach it, and what it takes of them.
    ``pruned``: workloads are told what policy could let them call, and not what the mesh says that they call; then at
    most as much as leaves a snapshot within ``limit_bytes``.
    """

    mesh: Mesh
    policies: Policies
    bundles: tuple[TrustBundle, ...]
    routes: Routes = field(default_factory=lambda: MappingProxyType({}))
    pruned: bool = False
    limit_bytes: int = SNAPSHOT_LIMIT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Made:
    """One snapshot and what it was made of."""

    standing: tuple[Standing, ...]
    routes: tuple[Mapping[int, PortRoute], ...]
    shares: tuple[Share, ...]
    bound: BoundPolicy
    without: Snapshot
    """The snapshot but for whom the workload calls."""
    room_bytes: int
    """What there is for these."""
    snapshot: Snapshot


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Built:
    """All snapshots, of revision 1 whatever their revision will be, and what the next building may take over."""

    contents: Mapping[WorkloadKey, Snapshot] = field(default_factory=dict)
    made: Mapping[WorkloadKey, _Made] = field(default_factory=dict)
    upstreams: UpstreamMaker | None = None
    weights: Weights | None = None
    rooms: Rooms | None = None
    reach: Reach | None = None
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    """By full name, the services of which not all are told that policy could let call them."""
    bundles: tuple[TrustBundle, ...] = ()


def build(inputs: Inputs, before: Built) -> Built:
    """One snapshot for each workload. Whatever order the documents had, equal configurations give equal snapshots."""
    workloads: dict[WorkloadKey, list[Standing]] = {}
    for service, instance in inputs.mesh.workloads:
        workloads.setdefault(WorkloadKey(service.identity_of(instance), instance.name), []).append((service, instance))
    bundles = _same(tuple(sorted(inputs.bundles, key=lambda bundle: bundle.trust_domain.name)), before.bundles)
    around = _around(inputs, before)
    made: dict[WorkloadKey, _Made] = {}
    for key, standing in workloads.items():
        if len(standing) > 1:
            standing.sort(key=lambda one: one[0].full_name)
        made[key] = _make(key, tuple(standing), inputs, before.made.get(key), (around, bundles))
    return Built(
        contents={key: one.snapshot for key, one in made.items()},
        made=made,
        upstreams=around.maker,
        weights=around.weights,
        rooms=around.rooms,
        reach=around.reach,
        left_out=around.reach.left_out() if around.reach is not None else {},
        bundles=bundles,
    )


def build_snapshots(
    mesh: Mesh,
    policies: Policies,
    bundles: Iterable[TrustBundle],
    revision: int,
    routes: Routes = MappingProxyType({}),
) -> dict[WorkloadKey, Snapshot]:
    """One snapshot for each workload of ``mesh``, all stamped ``revision``, from nothing."""
    assert revision == 1, "revisions come later"
    inputs = Inputs(mesh=mesh, policies=policies, bundles=tuple(bundles), routes=routes)
    return dict(build(inputs, Built()).contents)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Around:
    """What all workloads are told from. ``reach``: None where the mesh says who calls whom."""

    maker: UpstreamMaker
    weights: Weights | None = None
    rooms: Rooms | None = None
    reach: Reach | None = None
    bound: dict[str, PolicyByLabels] = field(default_factory=dict)
    """By full name of the service."""

    def share(self, service: Service, instance: Instance, policies: Policies) -> Share:
        """What one service brings to a workload."""
        held = self.bound.get(service.full_name)
        if held is None:
            held = self.bound[service.full_name] = PolicyByLabels(policies.get(service.full_name, _NOBODY))
        policy = held.at(instance.labels)
        return Share(policy=policy, ports=frozenset(service.targets_of(instance)) - frozenset((0,)))

    def called(self, key: WorkloadKey, standing: Sequence[Standing], room_bytes: int) -> tuple[Called, ...]:
        """Whom one workload calls."""
        if self.reach is None:
            return _called(standing)
        return self.reach.of(key.spiffe_id, standing[0][0].namespace, room_bytes)


def _around(inputs: Inputs, before: Built) -> _Around:
    maker = UpstreamMaker(inputs.mesh, inputs.routes, before.upstreams)
    if not inputs.pruned:
        return _Around(maker=maker)
    weights = Weights(inputs.mesh, inputs.routes, before.weights)
    rooms = Rooms(inputs.limit_bytes, before.rooms)
    reach = Reach(inputs.mesh, inputs.policies, weights, rooms.least_bytes, before.reach)
    return _Around(maker=maker, weights=weights, rooms=rooms, reach=reach)


def _make(
    key: WorkloadKey,
    standing: tuple[Standing, ...],
    inputs: Inputs,
    before: _Made | None,
    around: tuple[_Around, tuple[TrustBundle, ...]],
) -> _Made:
    told, bundles = around
    routes = tuple(inputs.routes.get(service.full_name, _NO_ROUTES) for service, _ in standing)
    shares = tuple(told.share(service, instance, inputs.policies) for service, instance in standing)
    bound = before.bound if before is not None and before.shares == shares else unite(shares)
    held = before.snapshot if before is not None else None
    if before is not None and before.standing == standing and before.routes == routes:
        workload = before.snapshot.workload
    else:
        workload = _same(workload_of(key, standing, inputs.routes), held.workload if held is not None else None)
    egress = _same(_egress(standing, bound), held.egress if held is not None else None)
    without = before.without if before is not None else None
    if without is None or not (
        before is not None
        and before.bound is bound
        and without.workload is workload
        and without.egress is egress
        and without.bundles == bundles
    ):
        without = Snapshot(
            revision=1,
            workload=workload,
            upstreams=(),
            allowlists=_ordered(bound.policy.allowlists),
            bundles=bundles,
            egress=egress,
            denylists=_ordered(bound.policy.denylists),
            observe_until=bound.policy.observe_until,
            shadow=bound.shadow,
            token_issuers=bound.issuers,
        )
    room_bytes = before.room_bytes if before is not None else 0
    if told.rooms is not None and (before is None or before.without is not without):
        room_bytes = told.rooms.beside(without, bound)
    upstreams = told.maker.make(told.called(key, standing, room_bytes))
    if held is None or before is None or before.without is not without or held.upstreams is not upstreams:
        held = replace(without, upstreams=upstreams)
    return _Made(
        standing=standing,
        routes=routes,
        shares=shares,
        bound=bound,
        without=without,
        room_bytes=room_bytes,
        snapshot=held,
    )


def _ordered(lists: tuple[L, ...]) -> tuple[L, ...]:
    """By name; what is in order already as it is, since all workloads of a service share it."""
    ordered = tuple(sorted(lists, key=lambda listed: listed.full_name))
    return lists if ordered == lists else ordered


def _same(new: T, old: T | None) -> T:
    """``old`` itself where it says what ``new`` says."""
    return old if old is not None and old == new else new


def _egress(standing: Iterable[Standing], bound: BoundPolicy) -> tuple[EgressRule, ...]:
    egress = {rule.name: rule for service, _ in standing for rule in service.egress}
    egress |= {rule.name: rule for rule in bound.egress}
    return tuple(egress[name] for name in sorted(egress))


def _called(standing: Iterable[Standing]) -> tuple[Called, ...]:
    called = {
        one: None for service, instance in standing for one in zip(service.upstreams, instance.listens, strict=True)
    }
    return tuple(sorted(called, key=order))
