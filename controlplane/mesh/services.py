"""The services of ``mesh.yaml``, read field by field. Pure."""

from __future__ import annotations

from typing import Final

from controlplane.mesh.drafts import InterceptDraft, PortDraft, ServiceDraft, UpstreamDraft
from controlplane.mesh.egress import read_egress
from controlplane.mesh.fields import LOOPBACK, Fields, bounded
from controlplane.mesh.instances import KEY as INSTANCES
from controlplane.mesh.instances import ServiceParts, read_instances
from ringfence.mesh import AccessLog, AccessLogMode
from ringfence.policy.bounds import PORT_LIMIT
from ringfence.policy.yamlnodes import MappingReader
from ringfence.snapshot import ForwardedFor, Intercept, PortMode, Protocol
from ringfence.spiffe import RESERVED_NAMESPACE, SpiffeId, SpiffeIdError, TrustDomain
from ringfence.wire.convert import UPSTREAM_LIMIT

VIRTUAL_ADDRESS_LIMIT: Final = 256
WORKERS_LIMIT: Final = 64


def read_service(fields: Fields, reader: MappingReader, trust_domain: TrustDomain | None) -> ServiceDraft:
    """One item of ``services``."""
    name, name_valid = fields.label(reader, "name")
    namespace, namespace_valid = fields.label(reader, "namespace", default="default")
    account, account_valid = fields.label(reader, "serviceAccount", default=name)
    if namespace == RESERVED_NAMESPACE:
        message = f"namespace {RESERVED_NAMESPACE} is reserved for the mesh itself"
        reader.problem(message, "choose another namespace", key="namespace")
        namespace_valid = False
    spiffe_id = None
    if trust_domain is not None and name_valid and namespace_valid and account_valid:
        spiffe_id = _spiffe_id(reader, trust_domain, namespace, account)
    listed, intercepted = INSTANCES in reader, "intercept" in reader
    ports = tuple(_port(fields, item.mapping(), listed) for item in bounded(reader, "ports", PORT_LIMIT))
    upstreams = tuple(
        _upstream(fields, item.mapping(), namespace, listed or intercepted)
        for item in bounded(reader, "upstreams", UPSTREAM_LIMIT)
    )
    parts = ServiceParts(reader=reader, namespace=namespace, ports=ports, upstreams=upstreams, intercepted=intercepted)
    draft = ServiceDraft(
        reader=reader,
        name=name,
        namespace=namespace,
        service_account=account,
        spiffe_id=spiffe_id,
        access_log=_access_log(reader.mapping("accessLog", default=None, short="mode")),
        workers=fields.clean(lambda: reader.integer("workers", 1, WORKERS_LIMIT, default=1)),
        virtual_addresses=fields.distinct(
            reader, "virtualAddresses", VIRTUAL_ADDRESS_LIMIT, fields.ip_item, "remove it, or write an address"
        ),
        ports=ports,
        upstreams=upstreams,
        intercept=_intercept(fields, reader.mapping("intercept", default=None)),
        egress=read_egress(fields, reader),
        forward_proxy=fields.socket_address(reader, "forwardProxy", default_host=LOOPBACK),
        labels=fields.labels(reader),
        instances=read_instances(fields, parts),
    )
    reader.finish()
    return draft


def _access_log(reader: MappingReader) -> AccessLog:
    """``accessLog``: a mode, or a mapping of a mode and what share of all to log."""
    mode = AccessLogMode(reader.choice("mode", AccessLogMode, default=AccessLogMode.DENIED))
    value = reader.value("sample", None)
    sample = value.share() if value is not None else 1.0
    if value is not None and mode is not AccessLogMode.ALL:
        value.problem("sample of requests that are not logged", "add mode: all, or remove it")
    reader.finish()
    return AccessLog(mode=mode, sample=sample)


def _spiffe_id(reader: MappingReader, trust_domain: TrustDomain, namespace: str, account: str) -> SpiffeId | None:
    try:
        return SpiffeId.workload(trust_domain, namespace, account)
    except SpiffeIdError as error:
        reader.problem(f"the service has no valid SPIFFE ID: {error}", "shorten its names", key="serviceAccount")
        return None


def _port(fields: Fields, reader: MappingReader, instances: bool) -> PortDraft:
    """A port; where there are ``instances``, each of them may say where its app listens."""
    protocol = fields.clean(lambda: Protocol(reader.choice("protocol", Protocol, default=Protocol.AUTO)))
    draft = PortDraft(
        reader=reader,
        port=fields.port(reader, "port"),
        protocol=protocol,
        app=fields.socket_address(reader, "app", required=not instances, default_host=LOOPBACK),
        mode=PortMode(reader.choice("mode", PortMode, default=PortMode.STRICT)),
        proxy_protocol=reader.choice("proxyProtocol", ["v2"], default=None) is not None,
        forwarded_for=ForwardedFor(reader.choice("forwardedFor", ForwardedFor, default=ForwardedFor.REPLACE)),
    )
    if draft.proxy_protocol and protocol is Protocol.AUTO:
        mend = "declare protocol: tcp, which alone has it: an app must know whether the header comes"
        reader.problem("proxyProtocol on a port whose protocol is found out", mend, key="proxyProtocol")
    elif draft.proxy_protocol and protocol is not None and protocol.is_http:
        mend = "remove it, only tcp ports have it: HTTP tells its caller in a header"
        reader.problem(f"proxyProtocol on a port of protocol {protocol}", mend, key="proxyProtocol")
    if protocol is Protocol.TCP and "forwardedFor" in reader:
        mend = "remove it, only HTTP ports have it: on tcp ports proxyProtocol tells the app its caller"
        reader.problem(f"forwardedFor on a port of protocol {protocol}", mend, key="forwardedFor")
    reader.finish()
    return draft


def _upstream(fields: Fields, reader: MappingReader, namespace: str, without_listener: bool) -> UpstreamDraft:
    if reader.present and not without_listener and "listen" not in reader:
        mend = 'add an address such as "127.0.0.1:9102", or intercept the app\'s calls: give the service intercept: {}'
        reader.problem(f"{reader.what} lacks listen", mend)
    service = reader.text("service")
    draft = UpstreamDraft(
        reader=reader,
        service=service if "/" in service or not service else f"{namespace}/{service}",
        port=fields.port(reader, "port"),
        listen=fields.socket_address(reader, "listen", default_host=LOOPBACK),
    )
    reader.finish()
    return draft


def _intercept(fields: Fields, reader: MappingReader) -> InterceptDraft | None:
    if not reader.present:
        return None
    standard = Intercept()
    draft = InterceptDraft(
        reader=reader,
        inbound=fields.port(reader, "inbound", default=standard.inbound_port),
        outbound=fields.port(reader, "outbound", default=standard.outbound_port),
    )
    reader.finish()
    return draft
