"""Snapshots to messages and back. What arrives is checked whole before anybody sees a value of it.

``snapshot_from_wire`` is a sidecar's only door for what it enforces: every field is validated again although the
sender is authenticated, every list is bounded, and whatever does not hold raises WireError with the path of the field
(``workload.ports[1].port: …``); nothing is repaired, and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Final, TypeVar

from cryptography import x509

from ringfence.kit.addresses import AddressError, check_port, parse_ip
from ringfence.policy.callers import PatternError, format_spiffe_id_pattern, parse_spiffe_id_pattern
from ringfence.policy.model import (
    Allowlist,
    Callers,
    NamespaceCallers,
    Rule,
    SpiffeIdPattern,
    TrustDomainCallers,
)
from ringfence.policy.paths import TemplateError, parse_template
from ringfence.snapshot import Endpoint, Port, Protocol, Snapshot, Upstream, Workload
from ringfence.spiffe import SpiffeId, SpiffeIdError, TrustBundle, TrustDomain
from ringfence.wire.gen import control_pb2

_T = TypeVar("_T")
_Message = TypeVar("_Message")

# Bounds on one sidecar's share of the mesh: far above any real one, far below what could exhaust a sidecar.
UPSTREAM_LIMIT: Final = 1_000
ENDPOINT_LIMIT: Final = 1_000
PORT_LIMIT: Final = 256
ALLOWLIST_LIMIT: Final = 1_000
RULE_LIMIT: Final = 20_000
CALLER_LIMIT: Final = 1_000
WORD_LIMIT: Final = 1_000
BUNDLE_LIMIT: Final = 64
ROOT_LIMIT: Final = 16
REVISION_MAXIMUM: Final = 2**53 - 1  # stays exact in JSON readers
_NAME_LIMIT_CHARACTERS: Final = 253
_WORD_LIMIT_CHARACTERS: Final = 2048
_ROOT_LIMIT_BYTES: Final = 16 * 1024
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class WireError(ValueError):
    """A message that does not hold together: ``path: what``."""


# --------------------------------------------------------------------------------------------------------- to the wire


def snapshot_to_wire(snapshot: Snapshot) -> control_pb2.Snapshot:
    """The message for ``snapshot``; total, since the values were checked when they were made."""
    return control_pb2.Snapshot(
        revision=snapshot.revision,
        workload=_workload_to_wire(snapshot.workload),
        upstreams=[_upstream_to_wire(upstream) for upstream in snapshot.upstreams],
        allowlists=[
            control_pb2.Allowlist(
                namespace=allowlist.namespace,
                name=allowlist.name,
                rules=[_rule_to_wire(rule) for rule in allowlist.rules],
            )
            for allowlist in snapshot.allowlists
        ],
        bundles=[
            control_pb2.Bundle(trust_domain=bundle.trust_domain.name, roots=bundle.roots) for bundle in snapshot.bundles
        ],
    )


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
            )
            for port in workload.ports
        ],
    )


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
            )
            for endpoint in upstream.endpoints
        ],
    )


def _rule_to_wire(rule: Rule) -> control_pb2.Rule:
    # ``from`` is a Python keyword, so the field can be named only through a mapping.
    return control_pb2.Rule(
        name=rule.name,
        ports=rule.ports,
        methods=rule.methods,
        paths=rule.paths,
        **{"from": [_callers_to_wire(callers) for callers in rule.callers]},
    )


def _callers_to_wire(callers: Callers) -> control_pb2.Callers:
    match callers:
        case SpiffeIdPattern():
            return control_pb2.Callers(spiffe_id=format_spiffe_id_pattern(callers))
        case NamespaceCallers():
            return control_pb2.Callers(namespace=callers.namespace)
        case TrustDomainCallers():
            return control_pb2.Callers(trust_domain=callers.trust_domain.name)


# ------------------------------------------------------------------------------------------------------- from the wire


def snapshot_from_wire(message: control_pb2.Snapshot) -> Snapshot:
    """The checked value of ``message``. Raises WireError for the first thing that does not hold."""
    if not 1 <= message.revision <= REVISION_MAXIMUM:
        raise WireError(f"revision: {message.revision} is not a revision")
    if not message.HasField("workload"):
        raise WireError("workload: missing")
    workload = _workload(message.workload)
    upstreams = _list("upstreams", message.upstreams, UPSTREAM_LIMIT, _upstream)
    _unique("upstreams", ((upstream.listen_host, upstream.listen_port) for upstream in upstreams))
    allowlists = _list("allowlists", message.allowlists, ALLOWLIST_LIMIT, _allowlist)
    _unique("allowlists", (allowlist.full_name for allowlist in allowlists))
    if sum(len(allowlist.rules) for allowlist in allowlists) > RULE_LIMIT:
        raise WireError(f"allowlists: more than {RULE_LIMIT} rules")
    bundles = _list("bundles", message.bundles, BUNDLE_LIMIT, _bundle)
    _unique("bundles", (bundle.trust_domain for bundle in bundles))
    if workload.spiffe_id.trust_domain not in {bundle.trust_domain for bundle in bundles}:
        raise WireError(f"bundles: none for the workload's own trust domain {workload.spiffe_id.trust_domain}")
    return Snapshot(
        revision=message.revision, workload=workload, upstreams=upstreams, allowlists=allowlists, bundles=bundles
    )


def _workload(message: control_pb2.Workload) -> Workload:
    spiffe_id = _spiffe_id("workload.spiffe_id", message.spiffe_id)
    if spiffe_id.namespace is None or spiffe_id.namespace != message.namespace:
        raise WireError(f"workload.namespace: {message.namespace!r} is not the namespace of {spiffe_id}")
    ports = _list("workload.ports", message.ports, PORT_LIMIT, _port)
    _unique("workload.ports", ((port.address, port.port) for port in ports))
    return Workload(
        service=_name("workload.service", message.service),
        namespace=_name("workload.namespace", message.namespace),
        spiffe_id=spiffe_id,
        mesh_host=_ip("workload.mesh_host", message.mesh_host),
        mesh_port=_port_number("workload.mesh_port", message.mesh_port),
        ports=ports,
    )


def _port(path: str, message: control_pb2.Port) -> Port:
    return Port(
        port=_port_number(f"{path}.port", message.port),
        protocol=_protocol(f"{path}.protocol", message.protocol),
        address=_ip(f"{path}.address", message.address),
        app_host=_ip(f"{path}.app_host", message.app_host),
        app_port=_port_number(f"{path}.app_port", message.app_port),
    )


def _upstream(path: str, message: control_pb2.Upstream) -> Upstream:
    endpoints = _list(f"{path}.endpoints", message.endpoints, ENDPOINT_LIMIT, _endpoint)
    _unique(f"{path}.endpoints", endpoints)
    return Upstream(
        service=_name(f"{path}.service", message.service),
        namespace=_name(f"{path}.namespace", message.namespace),
        port=_port_number(f"{path}.port", message.port),
        protocol=_protocol(f"{path}.protocol", message.protocol),
        listen_host=_ip(f"{path}.listen_host", message.listen_host),
        listen_port=_port_number(f"{path}.listen_port", message.listen_port),
        endpoints=endpoints,
    )


def _endpoint(path: str, message: control_pb2.Endpoint) -> Endpoint:
    return Endpoint(
        mesh_host=_ip(f"{path}.mesh_host", message.mesh_host),
        mesh_port=_port_number(f"{path}.mesh_port", message.mesh_port),
        address=_ip(f"{path}.address", message.address),
        spiffe_id=_spiffe_id(f"{path}.spiffe_id", message.spiffe_id),
    )


def _allowlist(path: str, message: control_pb2.Allowlist) -> Allowlist:
    rules = _list(f"{path}.rules", message.rules, RULE_LIMIT, _rule)
    _unique(f"{path}.rules", (rule.name for rule in rules))
    return Allowlist(
        namespace=_name(f"{path}.namespace", message.namespace), name=_name(f"{path}.name", message.name), rules=rules
    )


def _rule(path: str, message: control_pb2.Rule) -> Rule:
    callers = _list(f"{path}.from", getattr(message, "from"), CALLER_LIMIT, _callers)
    if not callers:
        # An empty list elsewhere means "any"; here it must never be read that way.
        raise WireError(f"{path}.from: empty")
    return Rule(
        name=_name(f"{path}.name", message.name),
        callers=callers,
        ports=_list(f"{path}.ports", message.ports, PORT_LIMIT, _port_number),
        methods=_list(f"{path}.methods", message.methods, WORD_LIMIT, _method),
        paths=_list(f"{path}.paths", message.paths, WORD_LIMIT, _path_template),
    )


def _callers(path: str, message: control_pb2.Callers) -> Callers:
    match message.WhichOneof("match"):
        case "spiffe_id":
            return _spiffe_id_pattern(path, message.spiffe_id)
        case "namespace":
            return NamespaceCallers(namespace=_name(path, message.namespace))
        case "trust_domain":
            return TrustDomainCallers(trust_domain=_trust_domain(path, message.trust_domain))
        case _:
            raise WireError(f"{path}: names nobody")


def _bundle(path: str, message: control_pb2.Bundle) -> TrustBundle:
    roots = _list(f"{path}.roots", message.roots, ROOT_LIMIT, _root)
    if not roots:
        raise WireError(f"{path}.roots: empty")
    _unique(f"{path}.roots", roots)
    return TrustBundle(_trust_domain(f"{path}.trust_domain", message.trust_domain), roots)


def _root(path: str, der: bytes) -> bytes:
    if len(der) > _ROOT_LIMIT_BYTES:
        raise WireError(f"{path}: {len(der)} bytes are more than {_ROOT_LIMIT_BYTES}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise WireError(f"{path}: not a CA certificate: {error}") from error
    if not constraints.ca:
        raise WireError(f"{path}: not a CA certificate")
    return der


# ----------------------------------------------------------------------------------------------------------- the words


def _list(path: str, items: Sequence[_Message], limit: int, read: Callable[[str, _Message], _T]) -> tuple[_T, ...]:
    if len(items) > limit:
        raise WireError(f"{path}: {len(items)} are more than {limit}")
    return tuple(read(f"{path}[{index}]", item) for index, item in enumerate(items))


def _unique(path: str, keys: Iterable[Hashable]) -> None:
    seen: set[Hashable] = set()
    for index, key in enumerate(keys):
        if key in seen:
            raise WireError(f"{path}[{index}]: a duplicate")
        seen.add(key)


def _name(path: str, text: str) -> str:
    return _bounded(path, text, _NAME_LIMIT_CHARACTERS)


def _bounded(path: str, text: str, limit: int) -> str:
    if not 1 <= len(text) <= limit or not text.isprintable():
        raise WireError(f"{path}: {text[:64]!r} is empty, too long or not printable")
    return text


def _ip(path: str, text: str) -> str:
    try:
        return parse_ip(text)
    except AddressError as error:
        raise WireError(f"{path}: {error}") from error


def _port_number(path: str, port: int) -> int:
    try:
        return check_port(port)
    except AddressError as error:
        raise WireError(f"{path}: {error}") from error


def _protocol(path: str, text: str) -> Protocol:
    try:
        return Protocol(text)
    except ValueError:
        # Never taken for opaque: a port whose protocol this version does not know must not be relayed unjudged.
        raise WireError(f"{path}: {text[:64]!r} is not a protocol that this version knows") from None


def _spiffe_id(path: str, text: str) -> SpiffeId:
    try:
        return SpiffeId.parse(text)
    except SpiffeIdError as error:
        raise WireError(f"{path}: {error}") from error


def _trust_domain(path: str, text: str) -> TrustDomain:
    try:
        return TrustDomain(text)
    except SpiffeIdError as error:
        raise WireError(f"{path}: {error}") from error


def _spiffe_id_pattern(path: str, text: str) -> SpiffeIdPattern:
    try:
        return parse_spiffe_id_pattern(_bounded(path, text, _WORD_LIMIT_CHARACTERS))
    except PatternError as error:
        raise WireError(f"{path}: {error}") from error


def _method(path: str, text: str) -> str:
    if not text or not _only(text, _TOKEN):
        raise WireError(f"{path}: {text[:64]!r} is not an upper-case method")
    return _bounded(path, text, _NAME_LIMIT_CHARACTERS)


def _only(text: str, characters: Collection[str]) -> bool:
    return all(character in characters for character in text)


def _path_template(path: str, text: str) -> str:
    try:
        return str(parse_template(_bounded(path, text, _WORD_LIMIT_CHARACTERS)))
    except TemplateError as error:
        raise WireError(f"{path}: {error}") from error
