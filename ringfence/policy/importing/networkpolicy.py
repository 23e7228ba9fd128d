"""NetworkPolicy of Kubernetes: its ingress, as far as identities can say it. Pure.

There callers are pods, here they are identities: a pod selector becomes the services with these labels, so services of
the mesh file need the labels of their pods. Addresses stay addresses: whoever calls from them, with an identity or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ringfence.policy.importing.imported import (
    CannotSayError,
    Import,
    Made,
    Unsaid,
    Weight,
    Words,
    checked,
    checked_rule,
    selector_of,
)
from ringfence.policy.importing.istio_sources import networks
from ringfence.policy.importing.objects import KubeObject, match_labels
from ringfence.policy.yamlnodes import MappingReader

GROUP: Final = "networking.k8s.io"
_NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
_PORTS: Final = 1000


def import_network_policies(objects: Iterable[KubeObject], made: Import, *, trust_domain: str) -> None:
    """Add what the objects say."""
    for found in objects:
        if found.kind != "NetworkPolicy":
            why = "it says nothing of who may call what"
            made.unsaid.append(Unsaid(place=found.place, source=str(found), why=why, weight=Weight.NOTE))
            continue
        _import(found, trust_domain, made)


def _import(found: KubeObject, trust_domain: str, made: Import) -> None:
    spec = found.spec

    def unsaid(error: CannotSayError, weight: Weight = Weight.ALLOW) -> None:
        found.problems.clear()
        made.unsaid.append(Unsaid(place=error.place, source=str(found), why=error.why, weight=weight))

    types = list(spec.texts("policyTypes", default=())) or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    if "Egress" in types or "egress" in spec:
        spec.known("egress")
        why = "egress: where a service may go stands at the service in the mesh file"
        unsaid(CannotSayError(spec.place("egress"), why), Weight.DENY)
    if "Ingress" not in types:
        return None
    try:
        selector = selector_of(match_labels(spec.mapping("podSelector", default=None), found))
        items = spec.mappings("ingress", default=None)
        spec.finish()
        found.take_problem()
    except CannotSayError as error:
        # What it selects would be isolated there; here everything is, whether or not a document says so.
        return unsaid(error)
    rules: list[Words] = []
    for number, item in enumerate(items, 1):
        try:
            rule: Words = {"name": f"rule-{number}", "from": _callers(item, found, trust_domain)}
            ports = _ports(item, found)
            if ports:
                rule["to"] = {"ports": ports}
            item.finish()
            found.take_problem()
            rules.append(checked_rule("Allowlist", rule, item.place()))
        except CannotSayError as error:
            unsaid(error)
    try:
        spec_made = {**selector, "rules": rules}
        document = Made(kind="Allowlist", namespace=found.namespace, name=found.name, spec=spec_made)
        made.add(checked(document, found.place), found.place, str(found))
    except CannotSayError as error:
        unsaid(error)
    return None


def _callers(item: MappingReader, found: KubeObject, trust_domain: str) -> list[Words]:
    peers = item.mappings("from", default=None)
    if not peers:
        return [{"authenticated": True}, {"unauthenticated": True}]
    callers: list[Words] = []
    for peer in peers:
        callers += _peer(peer, found, trust_domain)
        peer.finish()
    return callers


def _peer(peer: MappingReader, found: KubeObject, trust_domain: str) -> list[Words]:
    if "ipBlock" in peer:
        block = peer.mapping("ipBlock")
        if "except" in block:
            raise CannotSayError(
                block.place("except"), "except takes addresses out of a network (name those that are left)"
            )
        cidrs = networks([block.text("cidr")], block.place("cidr"))
        block.finish()
        return [{"authenticated": True, "cidrs": cidrs}, {"unauthenticated": True, "cidrs": cidrs}]
    labels = match_labels(peer.mapping("podSelector", default=None), found)
    if "namespaceSelector" not in peer:
        return [{"serviceLabels": labels} if labels else {"namespace": found.namespace}]
    spaces = match_labels(peer.mapping("namespaceSelector"), found)
    place = peer.place("namespaceSelector")
    if set(spaces) == {_NAMESPACE_LABEL}:
        namespace = spaces[_NAMESPACE_LABEL]
        return [{"serviceLabels": labels, "namespace": namespace} if labels else {"namespace": namespace}]
    if spaces:
        raise CannotSayError(place, f"namespaces have no labels here, only names ({_NAMESPACE_LABEL})")
    if labels:
        raise CannotSayError(place, "services are chosen by labels in one namespace at a time (name each)")
    if not trust_domain:
        raise CannotSayError(place, "every namespace is the mesh's whole trust domain (name it by --trust-domain)")
    return [{"trustDomain": trust_domain}]


def _ports(item: MappingReader, found: KubeObject) -> list[int]:
    ports: list[int] = []
    for entry in item.mappings("ports", default=None):
        protocol = entry.text("protocol", default="TCP")
        if protocol != "TCP":
            raise CannotSayError(entry.place("protocol"), f"protocol {protocol}: a mesh carries TCP")
        if "port" not in entry:
            raise CannotSayError(entry.place(), "a protocol without a port: name the ports")
        first = entry.integer("port", 1, 65535)
        last = entry.integer("endPort", 1, 65535, default=first)
        entry.finish()
        if found.problems:
            found.problems.clear()
            raise CannotSayError(entry.place("port"), "a port must be a number here: names of ports are not known")
        if last - first + len(ports) >= _PORTS:
            raise CannotSayError(entry.place("endPort"), f"more than {_PORTS} ports")
        ports += range(first, last + 1)
    return list(dict.fromkeys(ports))
