"""From the accepted configuration to what each sidecar is told. Pure.

A sidecar receives its own workload, its own upstreams and the policy that protects it, and nothing of anybody
else's: its memory does not grow with the mesh, and a stolen one betrays only its neighbours' addresses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from controlplane.push.merging import Share, unite
from controlplane.push.upstreams import Called, UpstreamMaker
from controlplane.push.workload_key import WorkloadKey
from ringfence.mesh import Instance, Mesh, Service
from ringfence.policy.bound import BoundPolicy, Policies
from ringfence.policy.labels import Labels
from ringfence.routing.bind import Routes
from ringfence.snapshot import ForwardedFor, ForwardProxy, Port, PortMode, Protocol, Snapshot, Workload
from ringfence.spiffe import TrustBundle

_NOBODY: Final = BoundPolicy()
Standing = tuple[Service, Instance]
"""A workload as one of its services has it."""


def build_snapshots(
    mesh: Mesh,
    policies: Policies,
    bundles: Iterable[TrustBundle],
    revision: int,
    routes: Routes = MappingProxyType({}),
) -> dict[WorkloadKey, Snapshot]:
    """One snapshot for each workload of ``mesh``, all stamped ``revision``.

    ``policies`` are bound: full service name -> what decides about its calls; a service that is not in it is protected
    by nothing and so refuses everybody. ``routes``, bound as well: how callers reach it, and what it takes of them.
    Whatever order the documents had, equal configurations give equal snapshots.
    """
    workloads: dict[WorkloadKey, list[Standing]] = {}
    for service, instance in mesh.workloads:
        workloads.setdefault(WorkloadKey(service.identity_of(instance), instance.name), []).append((service, instance))
    upstreams = UpstreamMaker(mesh, routes)
    ordered_bundles = tuple(sorted(bundles, key=lambda bundle: bundle.trust_domain.name))
    found: dict[WorkloadKey, Snapshot] = {}
    for key, standing in workloads.items():
        standing.sort(key=lambda one: one[0].full_name)
        bound = unite([_share(service, instance, policies) for service, instance in standing])
        egress = {rule.name: rule for service, _ in standing for rule in service.egress}
        egress |= {rule.name: rule for rule in bound.egress}
        found[key] = Snapshot(
            revision=revision,
            workload=_workload(key, standing, routes),
            upstreams=upstreams.make(_called(standing)),
            allowlists=tuple(sorted(bound.policy.allowlists, key=lambda listed: listed.full_name)),
            bundles=ordered_bundles,
            egress=tuple(egress[name] for name in sorted(egress)),
            denylists=tuple(sorted(bound.policy.denylists, key=lambda listed: listed.full_name)),
            observe_until=bound.policy.observe_until,
            shadow=bound.shadow,
            token_issuers=bound.issuers,
        )
    return found


def _share(service: Service, instance: Instance, policies: Policies) -> Share:
    return Share(
        policy=policies.get(service.full_name, _NOBODY), ports=frozenset(service.targets_of(instance)) - frozenset((0,))
    )


def _called(standing: Sequence[Standing]) -> tuple[Called, ...]:
    return tuple(
        dict.fromkeys(
            called for service, instance in standing for called in zip(service.upstreams, instance.listens, strict=True)
        )
    )


def _workload(key: WorkloadKey, standing: Sequence[Standing], routes: Routes) -> Workload:
    """A workload behind several services is told to people by the first of them that has ports."""
    service, instance = next((one for one in standing if one[0].ports), standing[0])
    # By the order of services, so that who is told first of two limits does not change by itself.
    ports: dict[int, Port] = {}
    for port in (port for one in standing for port in _ports(*one, routes)):
        held = ports.get(port.port)
        ports[port.port] = port if held is None else _both(held, port)
    proxy = next((one.forward_proxy for one, _ in standing if one.forward_proxy is not None), None)
    return Workload(
        service=service.name,
        namespace=service.namespace,
        spiffe_id=key.spiffe_id,
        mesh_host=instance.address,
        mesh_port=instance.mesh_port,
        ports=tuple(ports[number] for number in sorted(ports)),
        intercept=next((one.intercept for one, _ in standing if one.intercept is not None), None),
        forward_proxy=ForwardProxy(host=proxy.host, port=proxy.port) if proxy is not None else None,
        instance=instance.name,
        labels=_labels([one.labels for one, _ in standing]),
    )


def _ports(service: Service, instance: Instance, routes: Routes) -> Iterable[Port]:
    held = routes.get(service.full_name, {})
    for port, target, app in zip(service.ports, service.targets_of(instance), instance.apps, strict=True):
        if target:
            yield Port(
                port=target,
                protocol=port.protocol,
                address=instance.address,
                app_host=app.host,
                app_port=app.port,
                mode=port.mode,
                proxy_protocol=port.proxy_protocol,
                forwarded_for=port.forwarded_for,
                limits=held[target].limits if target in held else (),
            )


def _both(one: Port, other: Port) -> Port:
    """A port behind two services, as the stricter of both has it, with the limits of each."""
    limits = list(one.limits)
    for limit in other.limits:
        if limit not in limits:
            same = sum(limit.name == held.name for held in limits)
            limits.append(replace(limit, name=f"{limit.name}-{same + 1}") if same else limit)
    return replace(
        one,
        protocol=one.protocol if one.protocol is other.protocol else Protocol.AUTO,
        mode=one.mode if one.mode is other.mode else PortMode.STRICT,
        proxy_protocol=one.proxy_protocol and other.proxy_protocol,
        forwarded_for=one.forwarded_for if one.forwarded_for is other.forwarded_for else ForwardedFor.REPLACE,
        limits=tuple(limits),
    )


def _labels(labels: Sequence[Labels]) -> Labels:
    """All of them but those in which services contradict each other."""
    if len(labels) == 1:
        return labels[0]
    united = {label for one in labels for label in one}
    times = Counter(name for name, _ in united)
    return tuple(sorted(label for label in united if times[label[0]] == 1))
