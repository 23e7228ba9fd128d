"""What must hold between the parts of ``mesh.yaml``: references resolve, nothing is taken twice, nothing leaks. Pure.

Problems are told at the later of two places that contradict each other, with the earlier one in the message.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from controlplane.mesh.direct import DirectServiceDraft
from controlplane.mesh.drafts import InstanceDraft, MeshDraft, PortDraft, ServiceDraft, UpstreamDraft
from controlplane.mesh.listeners import check_listeners
from ringfence.kit.addresses import SocketAddress
from ringfence.policy.problems import nearest, shown


def check_drafts(mesh: MeshDraft) -> None:
    """Tell every problem between the parts of ``mesh`` through the readers that it carries."""
    services = _unique_services((*mesh.services, *mesh.direct_services))
    _check_identities((*mesh.services, *mesh.direct_services))
    for service in mesh.services:
        _check_instances(service)
        _check_virtual_addresses(service)
        _check_ports(service)
        _check_forward_proxy(service)
        for upstream in service.upstreams:
            _check_upstream(upstream, service, services)
        _check_listens(service)
        if service.intercept is not None:
            _check_dialled(service, services)
    check_listeners(mesh)


AnyService = ServiceDraft | DirectServiceDraft


def _unique_services(drafts: tuple[AnyService, ...]) -> dict[str, AnyService]:
    """Full name -> service, the first where a name is taken twice."""
    services: dict[str, AnyService] = {}
    for service in drafts:
        if not service.name or not service.namespace:
            continue
        first = services.setdefault(service.full_name, service)
        if first is not service:
            message = f"duplicate service {shown(service.full_name)}, first on line {first.reader.place('name').line}"
            service.reader.problem(message, "rename one of them", key="name")
    return services


def _check_identities(drafts: tuple[AnyService, ...]) -> None:
    """One identity names one service: policies protect and permit identities, so two services must not share one."""
    holders: dict[str, AnyService] = {}
    for service in drafts:
        if service.spiffe_id is None:
            continue
        first = holders.setdefault(str(service.spiffe_id), service)
        if first is not service and first.full_name != service.full_name:
            message = f"identity {service.spiffe_id} is already that of {first.full_name}"
            if isinstance(service, DirectServiceDraft):
                key = "spiffeId" if "spiffeId" in service.reader else "name"
                service.reader.problem(message, "give each service an identity of its own", key=key)
                continue
            key = "serviceAccount" if "serviceAccount" in service.reader else "name"
            service.reader.problem(message, "give each service a serviceAccount of its own", key=key)


def _check_instances(service: ServiceDraft) -> None:
    """Instances are told apart by name; the address of each is dialled by others and named in CONNECT: it must be one
    host's."""
    seen: dict[str, InstanceDraft] = {}
    for instance in service.instances:
        first = seen.setdefault(instance.name, instance)
        if first is not instance and instance.name:
            message = f"duplicate instance {shown(instance.name)}, first on line {first.reader.place('name').line}"
            instance.reader.problem(message, "rename one of them", key="name")
        if instance.address is not None and not _of_one_host(instance.address):
            message = f"address {instance.address} is not the address of one workload"
            instance.reader.problem(message, "write the address at which others reach it", key="address")


def _check_virtual_addresses(service: ServiceDraft) -> None:
    own = {instance.address for instance in service.instances}
    for address in service.virtual_addresses:
        if not _of_one_host(address):
            message = f"virtual address {address} is not the address of one service"
            service.reader.problem(message, "write an address that callers dial", key="virtualAddresses")
        elif address in own:
            message = f"virtual address {address} is the service's own"
            service.reader.problem(message, "remove it: its own address is dialled anyway", key="virtualAddresses")


def _of_one_host(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return not (ip.is_unspecified or ip.is_multicast)


def _check_ports(service: ServiceDraft) -> None:
    seen: dict[int, PortDraft] = {}
    mesh_ports = {instance.mesh_port for instance in service.instances}
    interception = (service.intercept.inbound, service.intercept.outbound) if service.intercept is not None else ()
    for port in service.ports:
        first = seen.setdefault(port.port, port) if port.port is not None else port
        if first is not port:
            message = f"duplicate port {port.port}, first on line {first.reader.place('port').line}"
            port.reader.problem(message, "keep one of them", key="port")
        if port.port is not None and port.port in mesh_ports:
            message = f"port {port.port} is the service's mesh port"
            port.reader.problem(message, "number one of them otherwise", key="port")
        if port.port is not None and port.port in interception:
            message = f"port {port.port} is an interception port of the service"
            port.reader.problem(message, "number one of them otherwise", key="port")
    for instance in service.instances:
        for app in instance.apps:
            # Behind the sidecar bytes are plaintext, so they must not leave the machine.
            if app.address is not None and not app.address.loopback and app.address.host != instance.address:
                message = f"app address {app.address} is not on the workload's machine"
                own = "service" if not instance.name else "instance"
                app.reader.problem(message, f"use a loopback address or the {own}'s own", key=app.key)


def _check_listens(service: ServiceDraft) -> None:
    for instance in service.instances:
        for listen in instance.listens:
            # Whoever reaches this listener speaks with the service's identity.
            if listen.address is not None and not listen.address.loopback:
                message = f"listen address {listen.address} can be reached from other machines"
                listen.reader.problem(message, "use a loopback address such as 127.0.0.1", key=listen.key)


def _check_forward_proxy(service: ServiceDraft) -> None:
    # Whoever reaches it speaks with the service's identity.
    if service.forward_proxy is not None and not service.forward_proxy.loopback:
        message = f"forwardProxy {service.forward_proxy} can be reached from other machines"
        service.reader.problem(message, "use a loopback address such as 127.0.0.1:3128", key="forwardProxy")


def _check_upstream(upstream: UpstreamDraft, service: ServiceDraft, services: Mapping[str, AnyService]) -> None:
    if not upstream.service:
        return
    target = services.get(upstream.service)
    if target is None:
        upstream.reader.problem(
            f"unknown service {shown(upstream.service)}", _service_mend(upstream, service, services), key="service"
        )
        return
    ports = sorted(port.port for port in target.ports if port.port is not None)
    if upstream.port is not None and upstream.port not in ports:
        known = ", ".join(map(str, ports))
        mend = f"use one of its ports: {known}" if known else f"give {target.full_name} a port, or remove the upstream"
        upstream.reader.problem(f"service {target.full_name} has no port {upstream.port}", mend, key="port")


def _check_dialled(service: ServiceDraft, services: Mapping[str, AnyService]) -> None:
    """An intercepted connection is known by the address and port that it was meant for: they must mean one upstream."""
    seen: dict[tuple[str, int], UpstreamDraft] = {}
    for upstream in service.upstreams:
        target = services.get(upstream.service)
        if target is None or upstream.port is None:
            continue
        for address in dict.fromkeys((*_own_addresses(target), *target.virtual_addresses)):
            first = seen.setdefault((address, upstream.port), upstream)
            if first is not upstream:
                dialled = SocketAddress(address, upstream.port)
                upstream.reader.problem(*_ambiguous(upstream, first, dialled), key="service")
                break


def _own_addresses(service: AnyService) -> tuple[str, ...]:
    if isinstance(service, DirectServiceDraft):
        return service.addresses
    return tuple(instance.address for instance in service.instances if instance.address is not None)


def _ambiguous(upstream: UpstreamDraft, first: UpstreamDraft, dialled: SocketAddress) -> tuple[str, str]:
    line = first.reader.place("service").line
    if first.service == upstream.service:
        return f"upstream {upstream.service}:{upstream.port} is there twice, first on line {line}", "remove one of them"
    message = f"upstream {upstream.service} is dialled at {dialled}, which already means {first.service} on line {line}"
    return message, "give the services different addresses or ports, or remove intercept"


def _service_mend(upstream: UpstreamDraft, service: ServiceDraft, services: Mapping[str, AnyService]) -> str:
    """The nearest full name, or where the short one is found in another namespace."""
    name = upstream.service.rpartition("/")[2]
    valid = sorted(known for known, found in services.items() if found.spiffe_id is not None)
    elsewhere = [known for known in valid if known.rpartition("/")[2] == name]
    near = elsewhere[0] if elsewhere else nearest(upstream.service, valid)
    if near is None:
        return "add the service, or remove the upstream"
    own = near.removeprefix(f"{service.namespace}/")
    return f"did you mean {own}?"
