"""Snapshots to messages and back. What arrives is checked whole before anybody sees a value of it.

``snapshot_from_wire`` is a sidecar's only door for what it enforces: every field is validated again although the
sender is authenticated, every list is bounded, and whatever does not hold raises WireError with the path of the field
(``workload.ports[1].port: …``); nothing is repaired, and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from ringfence.kit.addresses import SocketAddress
from ringfence.policy.bounds import EGRESS_LIMIT, PORT_LIMIT
from ringfence.policy.words import is_label_key, is_label_value
from ringfence.snapshot import (
    EgressRule,
    Endpoint,
    ForwardedFor,
    ForwardProxy,
    Intercept,
    Port,
    PortMode,
    Protocol,
    Snapshot,
    Transport,
    Upstream,
    Workload,
)
from ringfence.spiffe import TrustBundle
from ringfence.wire.fields import (
    WireError,
    check_unique,
    read_checked,
    read_cidr,
    read_host_pattern,
    read_instance,
    read_ip,
    read_list,
    read_name,
    read_port,
    read_root,
    read_spiffe_id,
    read_trust_domain,
    read_word,
)
from ringfence.wire.gen import control_pb2
from ringfence.wire.policies import (
    allowlists_to_wire,
    denylists_to_wire,
    policy_to_wire,
    read_policy,
)
from ringfence.wire.routes import limits_to_wire, read_limits, read_route, route_to_wire
from ringfence.wire.tokens import issuers_to_wire, read_issuers

__all__ = ["WireError", "check_upstreams", "snapshot_from_wire", "snapshot_to_wire"]

# Bounds on one sidecar's share of the mesh: far above any real one, far below what could exhaust a sidecar.
UPSTREAM_LIMIT: Final = 1_000
ENDPOINT_LIMIT: Final = 1_000
ADDRESS_LIMIT: Final = 2_000
LABEL_LIMIT: Final = 256
WORD_LIMIT: Final = 1_000
BUNDLE_LIMIT: Final = 64
ROOT_LIMIT: Final = 16
REVISION_MAXIMUM: Final = 2**53 - 1  # stays exact in JSON readers


# --------------------------------------------------------------------------------------------------------- to the wire


def snapshot_to_wire(snapshot: Snapshot) -> control_pb2.Snapshot:
    """The message for ``snapshot``; total, since the values were checked when they were made."""
    return control_pb2.Snapshot(
        revision=snapshot.revision,
        workload=_workload_to_wire(snapshot.workload),
        upstreams=[_upstream_to_wire(upstream) for upstream in snapshot.upstreams],
        allowlists=allowlists_to_wire(snapshot.allowlists),
        bundles=[
            control_pb2.Bundle(trust_domain=bundle.trust_domain.name, roots=bundle.roots) for bundle in snapshot.bundles
        ],
        egress=[
            control_pb2.EgressRule(name=rule.name, hosts=rule.hosts, cidrs=rule.cidrs, ports=rule.ports)
            for rule in snapshot.egress
        ],
        denylists=denylists_to_wire(snapshot.denylists),
        observe_until=snapshot.observe_until,
        shadow=policy_to_wire(snapshot.shadow) if snapshot.shadow is not None else None,
        token_issuers=issuers_to_wire(snapshot.token_issuers),
    )


def upstream_bytes(upstream: Upstream) -> int:
    """How long ``upstream`` is in a message for a snapshot."""
    return control_pb2.Snapshot(upstreams=[_upstream_to_wire(upstream)]).ByteSize()


def _workload_to_wire(workload: Workload) -> control_pb2.Workload:
    return control_pb2.Workload(
        service=workload.service,
        namespace=workload.namespace,
        spiffe_id=str(workload.spiffe_id),
        mesh_host=workload.mesh_host,
        mesh_port=workload.mesh_port,
        ports=[
            control_pb2.Port(
                port=port.port,
                protocol=port.protocol.value,
                address=port.address,
                app_host=port.app_host,
                app_port=port.app_port,
                mode=port.mode.value,
                proxy_protocol=port.proxy_protocol,
                forwarded_for=port.forwarded_for.value,
                limits=limits_to_wire(port.limits),
            )
            for port in workload.ports
        ],
        intercept=_intercept_to_wire(workload.intercept),
        forward_proxy=control_pb2.ForwardProxy(host=workload.forward_proxy.host, port=workload.forward_proxy.port)
        if workload.forward_proxy is not None
        else None,
        instance=workload.instance,
        labels=[control_pb2.Label(key=key, value=value) for key, value in workload.labels],
    )


def _intercept_to_wire(intercept: Intercept | None) -> control_pb2.Intercept | None:
    if intercept is None:
        return None
    return control_pb2.Intercept(inbound_port=intercept.inbound_port, outbound_port=intercept.outbound_port)


def _upstream_to_wire(upstream: Upstream) -> control_pb2.Upstream:
    return control_pb2.Upstream(
        service=upstream.service,
        namespace=upstream.namespace,
        port=upstream.port,
        protocol=upstream.protocol.value,
        listen_host=upstream.listen_host,
        listen_port=upstream.listen_port,
        endpoints=[
            control_pb2.Endpoint(
                mesh_host=endpoint.mesh_host,
                mesh_port=endpoint.mesh_port,
                address=endpoint.address,
                spiffe_id=str(endpoint.spiffe_id),
                not_ready=not endpoint.ready,
                transport=endpoint.transport.value,
                port=endpoint.port,
            )
            for endpoint in upstream.endpoints
        ],
        addresses=upstream.addresses,
        route=route_to_wire(upstream.route),
    )


# ------------------------------------------------------------------------------------------------------- from the wire


def snapshot_from_wire(message: control_pb2.Snapshot) -> Snapshot:
    """The checked value of ``message``. Raises WireError for the first thing that does not hold."""
    _check_known(message)
    if not 1 <= message.revision <= REVISION_MAXIMUM:
        raise WireError(f"revision: {message.revision} is not a revision")
    if not message.HasField("workload"):
        raise WireError("workload: missing")
    workload = _workload(message.workload)
    upstreams = read_list("upstreams", message.upstreams, UPSTREAM_LIMIT, _upstream)
    check_upstreams(upstreams, intercepted=workload.intercept is not None)
    policy = read_policy("", message)
    bundles = read_list("bundles", message.bundles, BUNDLE_LIMIT, _bundle)
    check_unique("bundles", (bundle.trust_domain for bundle in bundles))
    if workload.spiffe_id.trust_domain not in {bundle.trust_domain for bundle in bundles}:
        raise WireError(f"bundles: none for the workload's own trust domain {workload.spiffe_id.trust_domain}")
    egress = read_list("egress", message.egress, EGRESS_LIMIT, _egress_rule)
    check_unique("egress", (rule.name for rule in egress))
    return Snapshot(
        revision=message.revision,
        workload=workload,
        upstreams=upstreams,
        allowlists=policy.allowlists,
        bundles=bundles,
        egress=egress,
        denylists=policy.denylists,
        observe_until=policy.observe_until,
        shadow=read_policy("shadow.", message.shadow) if message.HasField("shadow") else None,
        token_issuers=read_issuers("token_issuers", message.token_issuers),
    )


def check_upstreams(upstreams: Sequence[Upstream], *, intercepted: bool) -> None:
    """What must hold between the upstreams of one workload. Raises WireError."""
    check_unique("upstreams", map(_listener, upstreams))
    if intercepted:
        _check_addresses(upstreams)


def _listener(upstream: Upstream) -> Hashable:
    """What no two upstreams share: the listener, or, where there is none, the service and its port."""
    if upstream.has_listener:
        return upstream.listen_host, upstream.listen_port
    return upstream.namespace, upstream.service, upstream.port


def _check_addresses(upstreams: Sequence[Upstream]) -> None:
    """A dialled address and port must mean one upstream, or the caller would be led to another than it named."""
    seen: set[tuple[str, int]] = set()
    for index, upstream in enumerate(upstreams):
        for place, address in enumerate(upstream.addresses):
            if (address, upstream.port) in seen:
                raise WireError(f"upstreams[{index}].addresses[{place}]: {address} port {upstream.port} is another's")
            seen.add((address, upstream.port))


def _check_known(message: control_pb2.Snapshot) -> None:
    """Nothing in ``message``, however deep, that a newer version put there: what is read past is not enforced."""
    known = control_pb2.Snapshot()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if known.ByteSize() != message.ByteSize():
        raise WireError("snapshot: has fields that this version does not know (upgrade the sidecar)")


def _workload(message: control_pb2.Workload) -> Workload:
    spiffe_id = read_spiffe_id("workload.spiffe_id", message.spiffe_id)
    if spiffe_id.namespace is None or spiffe_id.namespace != message.namespace:
        raise WireError(f"workload.namespace: {message.namespace!r} is not the namespace of {spiffe_id}")
    ports = read_list("workload.ports", message.ports, PORT_LIMIT, _port)
    check_unique("workload.ports", ((port.address, port.port) for port in ports))
    mesh_port = read_port("workload.mesh_port", message.mesh_port)
    return Workload(
        service=read_name("workload.service", message.service),
        namespace=read_name("workload.namespace", message.namespace),
        spiffe_id=spiffe_id,
        mesh_host=read_ip("workload.mesh_host", message.mesh_host),
        mesh_port=mesh_port,
        ports=ports,
        intercept=_intercept(message.intercept, mesh_port) if message.HasField("intercept") else None,
        forward_proxy=_forward_proxy(message.forward_proxy) if message.HasField("forward_proxy") else None,
        instance=read_instance("workload.instance", message.instance) if message.instance else "",
        labels=_labels(message.labels),
    )


def _labels(messages: Sequence[control_pb2.Label]) -> tuple[tuple[str, str], ...]:
    labels = read_list(
        "workload.labels",
        messages,
        LABEL_LIMIT,
        lambda path, label: (
            read_checked(f"{path}.key", label.key, is_label_key),
            read_checked(f"{path}.value", label.value, is_label_value),
        ),
    )
    check_unique("workload.labels", (key for key, _ in labels))
    if list(labels) != sorted(labels):
        raise WireError("workload.labels: not sorted by key")
    return labels


def _forward_proxy(message: control_pb2.ForwardProxy) -> ForwardProxy:
    address = SocketAddress(
        read_ip("workload.forward_proxy.host", message.host), read_port("workload.forward_proxy.port", message.port)
    )
    if not address.loopback:  # whoever reaches it speaks with the workload's identity
        raise WireError(f"workload.forward_proxy.host: {address.host} can be reached from other machines")
    return ForwardProxy(host=address.host, port=address.port)


def _intercept(message: control_pb2.Intercept, mesh_port: int) -> Intercept:
    inbound = read_port("workload.intercept.inbound_port", message.inbound_port)
    outbound = read_port("workload.intercept.outbound_port", message.outbound_port)
    if len({mesh_port, inbound, outbound}) != 3:
        raise WireError(f"workload.intercept: {inbound} in, {outbound} out and mesh port {mesh_port} must differ")
    return Intercept(inbound_port=inbound, outbound_port=outbound)


def _port(path: str, message: control_pb2.Port) -> Port:
    protocol = read_word(f"{path}.protocol", message.protocol, Protocol)
    if message.proxy_protocol and protocol is not Protocol.TCP:
        raise WireError(f"{path}.proxy_protocol: not on a port of protocol {protocol}")
    return Port(
        port=read_port(f"{path}.port", message.port),
        protocol=protocol,
        address=read_ip(f"{path}.address", message.address),
        app_host=read_ip(f"{path}.app_host", message.app_host),
        app_port=read_port(f"{path}.app_port", message.app_port),
        # Absent means the narrower mode, as a sender that knows no modes means it.
        mode=read_word(f"{path}.mode", message.mode, PortMode) if message.mode else PortMode.STRICT,
        proxy_protocol=message.proxy_protocol,
        # Absent means that no claim of a caller's is believed.
        forwarded_for=read_word(f"{path}.forwarded_for", message.forwarded_for, ForwardedFor)
        if message.forwarded_for
        else ForwardedFor.REPLACE,
        limits=read_limits(f"{path}.limits", message.limits, http=protocol.may_be_http),
    )


def _upstream(path: str, message: control_pb2.Upstream) -> Upstream:
    endpoints = read_list(f"{path}.endpoints", message.endpoints, ENDPOINT_LIMIT, _endpoint)
    check_unique(f"{path}.endpoints", endpoints)
    addresses = read_list(f"{path}.addresses", message.addresses, ADDRESS_LIMIT, read_ip)
    check_unique(f"{path}.addresses", addresses)
    # Port 0 elsewhere is the system's choice, and an empty host every address: only both together mean "none".
    listens = bool(message.listen_host or message.listen_port)
    protocol = read_word(f"{path}.protocol", message.protocol, Protocol)
    return Upstream(
        service=read_name(f"{path}.service", message.service),
        namespace=read_name(f"{path}.namespace", message.namespace),
        port=read_port(f"{path}.port", message.port),
        protocol=protocol,
        listen_host=read_ip(f"{path}.listen_host", message.listen_host) if listens else "",
        listen_port=read_port(f"{path}.listen_port", message.listen_port) if listens else 0,
        endpoints=endpoints,
        addresses=addresses,
        route=read_route(f"{path}.route", message.route, http=protocol.may_be_http)
        if message.HasField("route")
        else None,
    )


def _endpoint(path: str, message: control_pb2.Endpoint) -> Endpoint:
    return Endpoint(
        mesh_host=read_ip(f"{path}.mesh_host", message.mesh_host),
        mesh_port=read_port(f"{path}.mesh_port", message.mesh_port),
        address=read_ip(f"{path}.address", message.address),
        spiffe_id=read_spiffe_id(f"{path}.spiffe_id", message.spiffe_id),
        ready=not message.not_ready,
        transport=read_word(f"{path}.transport", message.transport, Transport)
        if message.transport
        else Transport.TUNNEL,
        port=read_port(f"{path}.port", message.port) if message.port else 0,
    )


def _egress_rule(path: str, message: control_pb2.EgressRule) -> EgressRule:
    if not message.hosts and not message.cidrs:
        raise WireError(f"{path}: names no destination")
    return EgressRule(
        name=read_name(f"{path}.name", message.name),
        hosts=read_list(f"{path}.hosts", message.hosts, WORD_LIMIT, read_host_pattern),
        cidrs=read_list(f"{path}.cidrs", message.cidrs, WORD_LIMIT, read_cidr),
        ports=read_list(f"{path}.ports", message.ports, WORD_LIMIT, read_port),
    )


def _bundle(path: str, message: control_pb2.Bundle) -> TrustBundle:
    roots = read_list(f"{path}.roots", message.roots, ROOT_LIMIT, read_root)
    if not roots:
        raise WireError(f"{path}.roots: empty")
    check_unique(f"{path}.roots", roots)
    return TrustBundle(read_trust_domain(f"{path}.trust_domain", message.trust_domain), roots)
