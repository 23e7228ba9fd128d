"""``directServices``: services that have no sidecar and take mutual TLS with an SVID themselves. Pure.

They stand apart from ``services``, since nothing of a sidecar can be said of them: whatever would only be enforced or
offered by one is an error here, and not a setting that does nothing.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from controlplane.mesh.fields import Fields, bounded
from ringfence.mesh import DirectPort, DirectService
from ringfence.policy.bounds import PORT_LIMIT
from ringfence.policy.labels import Labels
from ringfence.policy.yamlnodes import MappingReader
from ringfence.snapshot import Protocol
from ringfence.spiffe import RESERVED_NAMESPACE, SpiffeId, SpiffeIdError, TrustDomain
from ringfence.wire.convert import ENDPOINT_LIMIT

KEY: Final = "directServices"
VIRTUAL_ADDRESS_LIMIT: Final = 256
_OF_SIDECARS: Final = (
    "mesh",
    "signals",
    "accessLog",
    "upstreams",
    "intercept",
    "egress",
    "forwardProxy",
    "instances",
    "run",
)
_OF_SIDECARS_PORTS: Final = ("app", "mode", "proxyProtocol", "forwardedFor")


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectPortDraft:
    """A port as read."""

    reader: MappingReader
    port: int | None
    protocol: Protocol | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectServiceDraft:
    """A direct service as read; a None stands where a problem was told."""

    reader: MappingReader
    name: str
    namespace: str
    spiffe_id: SpiffeId | None
    addresses: tuple[str, ...]
    virtual_addresses: tuple[str, ...]
    ports: tuple[DirectPortDraft, ...]
    labels: Labels

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"

    def built(self) -> DirectService:
        """The value of a draft without problems."""
        assert self.spiffe_id is not None
        return DirectService(
            name=self.name,
            namespace=self.namespace,
            spiffe_id=self.spiffe_id,
            addresses=self.addresses,
            virtual_addresses=self.virtual_addresses,
            ports=tuple(
                DirectPort(port=port.port, protocol=port.protocol)
                for port in self.ports
                if port.port is not None and port.protocol is not None
            ),
            labels=self.labels,
        )


def read_direct_service(fields: Fields, reader: MappingReader, trust_domain: TrustDomain | None) -> DirectServiceDraft:
    """One item of ``directServices``."""
    name, name_valid = fields.label(reader, "name")
    namespace, namespace_valid = fields.label(reader, "namespace", default="default")
    if namespace == RESERVED_NAMESPACE:
        reader.problem(
            f"namespace {RESERVED_NAMESPACE} is reserved for the mesh itself", "choose another", key="namespace"
        )
        namespace_valid = False
    spiffe_id = None
    if trust_domain is not None and name_valid and namespace_valid:
        spiffe_id = _spiffe_id(reader, trust_domain, namespace, name)
    reader.known("spiffeId")
    _refuse(reader, _OF_SIDECARS, "a direct service has no sidecar", "remove it, or move the service to services")
    addresses = fields.distinct(reader, "addresses", ENDPOINT_LIMIT, fields.ip_item, "write where it takes mutual TLS")
    if reader.present and "addresses" not in reader:
        reader.problem(f"{reader.what} lacks addresses", 'write where it takes mutual TLS, such as ["10.0.0.5"]')
    ports = bounded(reader, "ports", PORT_LIMIT)
    if reader.present and not ports:
        reader.problem(f"{reader.what} lacks ports", "write at least one, such as {port: 8443, protocol: http}")
    draft = DirectServiceDraft(
        reader=reader,
        name=name,
        namespace=namespace,
        spiffe_id=spiffe_id,
        addresses=addresses,
        virtual_addresses=fields.distinct(
            reader, "virtualAddresses", VIRTUAL_ADDRESS_LIMIT, fields.ip_item, "remove it, or write an address"
        ),
        ports=tuple(_port(fields, item.mapping()) for item in ports),
        labels=fields.labels(reader),
    )
    reader.finish()
    _check(draft)
    return draft


def _spiffe_id(reader: MappingReader, trust_domain: TrustDomain, namespace: str, name: str) -> SpiffeId | None:
    """As written, else the workload ID of its name; of our own trust domain, as there is no other's bundle."""
    try:
        if "spiffeId" not in reader:
            return SpiffeId.workload(trust_domain, namespace, name)
        text = reader.text("spiffeId")
        found = SpiffeId.parse(text) if text else None
    except SpiffeIdError as error:
        mend = f"write it like spiffe://{trust_domain}/ns/shop/sa/api"
        reader.problem(f"no valid SPIFFE ID: {error}", mend, key="spiffeId" if "spiffeId" in reader else "name")
        return None
    if found is None:
        return None
    if found.trust_domain != trust_domain:
        message = f"spiffeId {found} is not of the trust domain {trust_domain}"
        reader.problem(message, "no other's bundle can be given yet", key="spiffeId")
        return None
    if not found.segments or found.namespace == RESERVED_NAMESPACE:
        message = f"spiffeId {found} is not that of a workload"
        reader.problem(message, f"write it like spiffe://{trust_domain}/ns/shop/sa/api", key="spiffeId")
        return None
    return found


def _port(fields: Fields, reader: MappingReader) -> DirectPortDraft:
    _refuse(reader, _OF_SIDECARS_PORTS, "a direct service has no sidecar", "remove it")
    draft = DirectPortDraft(
        reader=reader,
        port=fields.port(reader, "port"),
        # Found out only once bytes flow, which is too late to offer it by ALPN.
        protocol=fields.clean(lambda: Protocol(reader.choice("protocol", [one for one in Protocol if one != "auto"]))),
    )
    reader.finish()
    return draft


def _refuse(reader: MappingReader, keys: tuple[str, ...], why: str, mend: str) -> None:
    reader.known(*keys)
    for key in keys:
        if key in reader:
            reader.problem(f"{why}, so it cannot have {key}", mend, key=key)


def _check(draft: DirectServiceDraft) -> None:
    for key, addresses in (("addresses", draft.addresses), ("virtualAddresses", draft.virtual_addresses)):
        for address in addresses:
            ip = ipaddress.ip_address(address)
            if ip.is_unspecified or ip.is_multicast:
                message = f"{address} is not the address of one host"
                draft.reader.problem(message, "write an address that callers can dial", key=key)
    for address in draft.virtual_addresses:
        if address in draft.addresses:
            message = f"virtual address {address} is the service's own"
            draft.reader.problem(message, "remove it: its own address is dialled anyway", key="virtualAddresses")
    seen: dict[int, DirectPortDraft] = {}
    for port in draft.ports:
        first = seen.setdefault(port.port, port) if port.port is not None else port
        if first is not port:
            message = f"duplicate port {port.port}, first on line {first.reader.place('port').line}"
            port.reader.problem(message, "keep one of them", key="port")
