"""A workload as its own sidecar is told it, united from all services that it stands behind. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from controlplane.push.workload_key import WorkloadKey
from ringfence.mesh import Instance, Service
from ringfence.policy.labels import Labels
from ringfence.routing.bind import Routes
from ringfence.snapshot import ForwardedFor, ForwardProxy, Port, PortMode, Protocol, Workload

Standing = tuple[Service, Instance]
"""A workload as one of its services has it."""


def workload_of(key: WorkloadKey, standing: Sequence[Standing], routes: Routes) -> Workload:
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
        labels=_labels([{**dict(one.labels), **dict(held.labels)} for one, held in standing]),
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


def _labels(labels: Sequence[Mapping[str, str]]) -> Labels:
    """All of them but those in which services contradict each other."""
    united = {label for one in labels for label in one.items()}
    times = Counter(name for name, _ in united)
    return tuple(sorted(label for label in united if times[label[0]] == 1))
