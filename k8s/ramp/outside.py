"""Destinations outside the mesh that workloads of it use, as far as their manifests tell. Pure.

Told by: ExternalName Services, Services whose endpoints are written by hand, and addresses in arguments and plain
environment of containers. What an app reads from a Secret or a file cannot be seen; ``policy flows`` tells it later.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any, Final

from k8s.objects.lenient import Json, integer, labels, objects, text, texts
from k8s.ramp.finding import Code, Finding, is_kept, made_document
from k8s.ramp.snapshot import Cluster, PodView, name_of, namespace_of, subject_of

_PORTS: Final = {
    "amqp": 5672,
    "amqps": 5671,
    "http": 80,
    "https": 443,
    "mongodb": 27017,
    "mysql": 3306,
    "nats": 4222,
    "postgres": 5432,
    "postgresql": 5432,
    "redis": 6379,
    "rediss": 6379,
}
# What is before an "@" may be a password: it is passed over, never kept.
_URL: Final = re.compile(
    r"\b(?P<scheme>[a-z]{3,12})(?:\+[a-z0-9]{1,20})?://(?:[^\s/@]{1,200}@)?(?P<host>[A-Za-z0-9.-]{3,253})(?::(?P<port>[0-9]{1,5}))?"
)
_SCANNED_CHARACTERS: Final = 4096
# The cluster keeps this one by hand; who of the namespace calls it, nobody can see.
_API_SERVER: Final = ("default", "kubernetes")


def outside_findings(cluster: Cluster) -> Iterator[Finding]:
    for service in cluster.kind("Service"):
        if namespace_of(service) in cluster.chosen and (namespace_of(service), name_of(service)) != _API_SERVER:
            yield from _external_name(cluster, service)
            yield from _by_hand(cluster, service)
    for view in cluster.owners(cluster.members).values():
        for host, port in sorted(_named(view)):
            if (found := _outside(cluster, view, host, port)) is not None:
                yield found


def _external_name(cluster: Cluster, service: Json) -> Iterator[Finding]:
    host = text(service, "spec", "externalName").rstrip(".").lower()
    if text(service, "spec", "type") != "ExternalName" or not host or _in_mesh(cluster, host):
        return
    ports = _numbers(service) or [443]
    rule = {"name": name_of(service), "hosts": [host], "ports": ports}
    yield from _finding(cluster, service, rule, f"leads to {host} outside the mesh")


def _by_hand(cluster: Cluster, service: Json) -> Iterator[Finding]:
    if labels(service, "spec", "selector") or text(service, "spec", "type") == "ExternalName":
        return
    name, namespace = name_of(service), namespace_of(service)
    addresses = set()
    for one in cluster.kind("EndpointSlice"):
        if labels(one, "metadata", "labels").get("kubernetes.io/service-name") == name and (
            namespace_of(one) == namespace
        ):
            addresses |= {to for endpoint in objects(one, "endpoints") for to in texts(endpoint, "addresses")}
    for one in cluster.kind("Endpoints"):
        if name_of(one) == name and namespace_of(one) == namespace:
            addresses |= {text(at, "ip") for subset in objects(one, "subsets") for at in objects(subset, "addresses")}
    cidrs = sorted(found for one in addresses if (found := _cidr(one)))
    if cidrs:
        targets = [port.get("targetPort", port.get("port")) for port in objects(service, "spec", "ports")]
        ports = sorted({one for one in targets if isinstance(one, int)} | set(_numbers(service)))
        rule: dict[str, Any] = {"name": name, "cidrs": cidrs, **({"ports": ports} if ports else {})}
        yield from _finding(cluster, service, rule, f"leads to {', '.join(cidrs[:5])}, which is no pod")


def _cidr(address: str) -> str:
    try:
        return str(ipaddress.ip_network(address))
    except ValueError:
        return ""


def _numbers(service: Json) -> list[int]:
    ports = (integer(port, "port") for port in objects(service, "spec", "ports"))
    return sorted({one for one in ports if one is not None})


def _finding(cluster: Cluster, service: Json, rule: dict[str, Any], what: str) -> Iterator[Finding]:
    namespace, name = namespace_of(service), name_of(service)
    document = made_document("Egress", namespace, f"{name}-outside", {"scope": "namespace", "rules": [rule]})
    if not is_kept(document, cluster.kind("Egress")):
        yield Finding(
            code=Code.OUTSIDE,
            subject=subject_of(service),
            what=what,
            mend="apply the egress rule, better for the services that use it only",
            documents=(document,),
        )


def _named(view: PodView) -> set[tuple[str, int]]:
    found = set()
    for container in [*view.containers, *objects(view.spec, "initContainers")]:
        said = [text(one, "value") for one in objects(container, "env")]
        for one in [*said, *texts(container, "command"), *texts(container, "args")]:
            for match in _URL.finditer(one[:_SCANNED_CHARACTERS]):
                port = int(match["port"] or _PORTS.get(match["scheme"], 0))
                if 0 < port < 65536:
                    found.add((match["host"].rstrip(".").lower(), port))
    return found


def _outside(cluster: Cluster, view: PodView, host: str, port: int) -> Finding | None:
    if _cidr(host):
        address = ipaddress.ip_address(host)
        if address.is_loopback or address.is_unspecified or address.is_link_local:
            return None
        rule: dict[str, Any] = {"name": f"to-{host.replace('.', '-')}", "cidrs": [_cidr(host)], "ports": [port]}
    else:
        if "." not in host or host.endswith((".local", ".localhost")) or _in_cluster(cluster, host):
            return None
        rule = {"name": f"to-{host.replace('.', '-')}"[:63].rstrip("-"), "hosts": [host], "ports": [port]}
    name = cluster.mesh_name(view)
    document = made_document("Egress", view.namespace, f"{name}-{rule['name']}", {"service": name, "rules": [rule]})
    if is_kept(document, cluster.kind("Egress")):
        return None
    return Finding(
        code=Code.OUTSIDE,
        subject=view.owner,
        what=f"its environment or arguments name {host}:{port}, outside the mesh",
        mend="apply the egress rule if it calls there",
        documents=(document,),
    )


def _in_cluster(cluster: Cluster, host: str) -> bool:
    """Whether a name is that of a Service: ``name.namespace`` and what may follow."""
    name, _, rest = host.partition(".")
    namespace, _, tail = rest.partition(".")
    return tail == "svc" or tail.startswith("svc.") or cluster.service(namespace, name) is not None


def _in_mesh(cluster: Cluster, host: str) -> bool:
    """Whether a name leads to a Service whose pods are members."""
    name, _, rest = host.partition(".")
    service = cluster.service(rest.partition(".")[0], name)
    return service is not None and any(cluster.is_member(one) for one in cluster.backing(service))
