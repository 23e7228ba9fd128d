"""By where calls come in from outside the mesh: webhooks that the API server calls, Ingresses and routes of gateways,
and Services that the world reaches by a node or a load balancer. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from k8s.objects.lenient import Json, at, integer, labels, mapping, objects, text, texts
from k8s.ramp.finding import Code, Finding
from k8s.ramp.openings import Opening, finding_of, members_behind, service_port, target_port
from k8s.ramp.snapshot import Cluster, PodView, namespace_of, subject_of

_ROUTES: Final = ("HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute")
_CONTROLLERS: Final = frozenset(
    {"ingress-nginx", "nginx-ingress", "traefik", "contour", "haproxy-ingress", "kong", "envoy-gateway", "envoy"}
)


def webhook_findings(cluster: Cluster) -> Iterator[Finding]:
    """Webhooks, conversions and aggregated APIs that a workload of the mesh serves."""
    for subject, config in _client_configs(cluster):
        namespace, name = text(config, "namespace"), text(config, "name")
        service = cluster.service(namespace, name)
        number = integer(config, "port") or 443
        yield from _led(cluster, service, number, _Way(code=Code.WEBHOOK, subject=subject, who="the API server"))


def _client_configs(cluster: Cluster) -> Iterator[tuple[str, Json]]:
    for one in cluster.kind("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for webhook in objects(one, "webhooks"):
            yield subject_of(one), mapping(webhook, "clientConfig", "service")
    for one in cluster.kind("CustomResourceDefinition"):
        yield subject_of(one), mapping(one, "spec", "conversion", "webhook", "clientConfig", "service")
    for one in cluster.kind("APIService"):
        yield subject_of(one), mapping(one, "spec", "service")


def ingress_findings(cluster: Cluster) -> Iterator[Finding]:
    """What Ingresses and routes lead to."""
    controller = cluster.first(_is_controller)
    for ingress in cluster.kind("Ingress"):
        for host, path, backend in _backends(ingress):
            service = cluster.service(namespace_of(ingress), text(backend, "service", "name"))
            wanted = at(backend, "service", "port", "name") or at(backend, "service", "port", "number")
            way = _Way(
                code=Code.ENTRANCE,
                subject=subject_of(ingress),
                who="the ingress",
                caller=controller,
                words=_words(ingress, host, path),
            )
            yield from _led(cluster, service, wanted, way)
    for route in cluster.kind(*_ROUTES):
        for rule in objects(route, "spec", "rules"):
            for backend in objects(rule, "backendRefs"):
                namespace = text(backend, "namespace") or namespace_of(route)
                if text(backend, "kind") not in ("", "Service"):
                    continue
                hosts = texts(route, "spec", "hostnames")
                way = _Way(
                    code=Code.ENTRANCE,
                    subject=subject_of(route),
                    who="the gateway",
                    caller=controller,
                    words={"hosts": hosts} if hosts and text(route, "kind") == "HTTPRoute" else {},
                )
                service = cluster.service(namespace, text(backend, "name"))
                yield from _led(cluster, service, integer(backend, "port"), way)


def exposed_findings(cluster: Cluster) -> Iterator[Finding]:
    """Services of type LoadBalancer and NodePort, and with external addresses."""
    for service in cluster.kind("Service"):
        kind = text(service, "spec", "type")
        if kind not in ("LoadBalancer", "NodePort") and not texts(service, "spec", "externalIPs"):
            continue
        who = f"whoever reaches the {kind or 'external address'}"
        for port in objects(service, "spec", "ports"):
            way = _Way(code=Code.ENTRANCE, subject=subject_of(service), who=who)
            yield from _led(cluster, service, port.get("port"), way)


def _is_controller(view: PodView) -> bool:
    names = (view.labels.get("app.kubernetes.io/name"), view.labels.get("app"))
    return any(one in _CONTROLLERS for one in names)


def _backends(ingress: Json) -> Iterator[tuple[str, Json, Json]]:
    if default := mapping(ingress, "spec", "defaultBackend"):
        yield "", {}, default
    for rule in objects(ingress, "spec", "rules"):
        for path in objects(rule, "http", "paths"):
            yield text(rule, "host"), path, mapping(path, "backend")


def _words(ingress: Json, host: str, path: Json) -> dict[str, Any]:
    """The words of a rule for one path of an Ingress; without the path where the controller rewrites it."""
    words: dict[str, Any] = {"hosts": [host]} if host else {}
    rewritten = any("rewrite" in name or "regex" in name for name in labels(ingress, "metadata", "annotations"))
    said, kind = text(path, "path").rstrip("/"), text(path, "pathType")
    if rewritten or not said.startswith("/") or not _plain(said):
        return words
    if kind == "Exact":
        return {**words, "paths": [text(path, "path")]}
    return {**words, "paths": [said, f"{said}/**"]} if kind == "Prefix" else words


def _plain(path: str) -> bool:
    """Whether a path means itself in a rule."""
    return all(one.isascii() and (one.isalnum() or one in "/-._~") for one in path) and "//" not in path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """By what a Service is reached. ``words``: of the rule's ``to``, beside the port."""

    code: Code
    subject: str
    who: str
    caller: PodView | None = None
    words: Mapping[str, Any] = field(default_factory=dict)


def _led(cluster: Cluster, service: Json | None, wanted: object, way: _Way) -> Iterator[Finding]:
    if service is None:
        return
    port, backing = service_port(service, wanted), members_behind(cluster, service)
    if port is None or not backing:
        return
    number = target_port(port, backing)
    if number is None:
        return
    opening = Opening(
        code=way.code,
        subject=way.subject,
        who=way.who,
        callee=backing[0],
        port=number,
        caller=way.caller,
        words=way.words,
        rule=f"{_RULES[way.code]}-{number}",
    )
    if (found := finding_of(cluster, opening)) is not None:
        yield found


_RULES: Final = {Code.WEBHOOK: "webhook", Code.ENTRANCE: "entrance"}
