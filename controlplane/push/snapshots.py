"""From the accepted configuration to what each sidecar is told. Pure.

A sidecar receives its own workload, its own upstreams and the policy that protects it, and nothing of anybody
else's: its memory does not grow with the mesh, and a stolen one betrays only its neighbours' addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from controlplane.push.workload_key import WorkloadKey
from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import DirectService, Instance, Mesh, Service, UpstreamReference
from ringfence.policy.bound import BoundPolicy, Policies
from ringfence.routing.bind import Routes
from ringfence.snapshot import Endpoint, ForwardProxy, Port, Snapshot, Transport, Upstream, Workload
from ringfence.spiffe import TrustBundle

_NOBODY: Final = BoundPolicy()


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
    services: dict[str, Service | DirectService] = {service.full_name: service for service in mesh.services}
    services |= {service.full_name: service for service in mesh.direct_services}
    ordered_bundles = tuple(sorted(bundles, key=lambda bundle: bundle.trust_domain.name))
    found: dict[WorkloadKey, Snapshot] = {}
    for service, instance in mesh.workloads:
        bound = policies.get(service.full_name, _NOBODY)
        found[WorkloadKey(service.spiffe_id, instance.name)] = Snapshot(
            revision=revision,
            workload=_workload(service, instance, routes),
            upstreams=_upstreams(service, instance, services, routes),
            allowlists=tuple(sorted(bound.policy.allowlists, key=lambda listed: listed.full_name)),
            bundles=ordered_bundles,
            egress=tuple(sorted(service.egress, key=lambda rule: rule.name)),
            denylists=tuple(sorted(bound.policy.denylists, key=lambda listed: listed.full_name)),
            observe_until=bound.policy.observe_until,
            shadow=bound.shadow,
            token_issuers=bound.issuers,
        )
    return found


def _workload(service: Service, instance: Instance, routes: Routes) -> Workload:
    held = routes.get(service.full_name, {})
    ports = sorted(zip(service.ports, instance.apps, strict=True), key=lambda pair: pair[0].port)
    return Workload(
        service=service.name,
        namespace=service.namespace,
        spiffe_id=service.spiffe_id,
        mesh_host=instance.address,
        mesh_port=instance.mesh_port,
        ports=tuple(
            Port(
                port=port.port,
                protocol=port.protocol,
                address=instance.address,
                app_host=app.host,
                app_port=app.port,
                mode=port.mode,
                proxy_protocol=port.proxy_protocol,
                forwarded_for=port.forwarded_for,
                limits=held[port.port].limits if port.port in held else (),
            )
            for port, app in ports
        ),
        intercept=service.intercept,
        forward_proxy=ForwardProxy(host=service.forward_proxy.host, port=service.forward_proxy.port)
        if service.forward_proxy is not None
        else None,
        instance=instance.name,
        labels=service.labels,
    )


def _upstreams(
    service: Service, instance: Instance, services: Mapping[str, Service | DirectService], routes: Routes
) -> tuple[Upstream, ...]:
    found: list[Upstream] = []
    for reference, listen in sorted(zip(service.upstreams, instance.listens, strict=True), key=_order):
        target = services[reference.service]
        held = routes.get(reference.service, {}).get(reference.port)
        endpoints = _endpoints(target, reference.port)
        own = sorted({endpoint.address for endpoint in endpoints})
        found.append(
            Upstream(
                service=target.name,
                namespace=target.namespace,
                port=reference.port,
                protocol=reference.protocol,
                listen_host=listen.host if listen is not None else "",
                listen_port=listen.port if listen is not None else 0,
                endpoints=endpoints,
                addresses=tuple(dict.fromkeys((*own, *sorted(target.virtual_addresses)))),
                route=held.route if held is not None else None,
            )
        )
    return tuple(found)


def _endpoints(target: Service | DirectService, port: int) -> tuple[Endpoint, ...]:
    """One for each address or instance, in the order of these or of their names."""
    if isinstance(target, DirectService):
        return tuple(
            Endpoint(
                mesh_host=address,
                mesh_port=port,
                address=address,
                spiffe_id=target.spiffe_id,
                transport=Transport.DIRECT,
            )
            for address in sorted(target.addresses)
        )
    return tuple(
        Endpoint(
            mesh_host=instance.address,
            mesh_port=instance.mesh_port,
            address=instance.address,
            spiffe_id=target.spiffe_id,
        )
        for instance in sorted(target.instances, key=lambda instance: instance.name)
    )


def _order(found: tuple[UpstreamReference, SocketAddress | None]) -> tuple[str, int, str, int]:
    """Unique in a service: two upstreams without a listener are two services or two ports."""
    reference, listen = found
    return (listen.host if listen else "", listen.port if listen else 0, reference.service, reference.port)
