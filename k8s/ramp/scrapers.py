"""Who scrapes metrics: by the annotations of Prometheus, and by the monitors of its operator. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from k8s.objects.lenient import Json, at, integer, labels, mapping, objects, text, texts
from k8s.objects.selectors import selects
from k8s.ramp.finding import Code, Finding
from k8s.ramp.openings import Opening, finding_of, members_behind, service_port, target_port
from k8s.ramp.snapshot import Cluster, PodView, namespace_of, subject_of

_PATH = "/metrics"


def scraper_findings(cluster: Cluster) -> Iterator[Finding]:
    """Each workload of the mesh that is scraped, once a port and path."""
    prometheus = cluster.first(_is_prometheus)
    told: set[tuple[str, int, str]] = set()
    for subject, view, port, path in _scraped(cluster):
        if (view.owner, port, path) in told:
            continue
        told.add((view.owner, port, path))
        opening = Opening(
            code=Code.SCRAPER,
            subject=subject,
            who="prometheus" if prometheus is None else f"{prometheus.namespace}/{prometheus.owner_name}",
            callee=view,
            port=port,
            caller=prometheus,
            words={"methods": ["GET"], "paths": [path]},
            rule=f"scrape-{port}",
        )
        if (found := finding_of(cluster, opening)) is not None:
            yield found


def _is_prometheus(view: PodView) -> bool:
    if view.labels.get("app.kubernetes.io/name") == "prometheus" or view.labels.get("app") == "prometheus":
        return True
    images = (text(one, "image").partition("@")[0].rpartition("/")[2] for one in view.containers)
    return any(one.partition(":")[0] == "prometheus" for one in images)


def _scraped(cluster: Cluster) -> Iterator[tuple[str, PodView, int, str]]:
    for view in cluster.owners(cluster.members).values():
        yield from _annotated(view.owner, view.annotations, [view])
    for service in cluster.kind("Service"):
        found = labels(service, "metadata", "annotations")
        yield from _annotated(subject_of(service), found, members_behind(cluster, service)[:1])
    for monitor in cluster.kind("ServiceMonitor"):
        for service in cluster.kind("Service"):
            if _chosen(monitor, service) and (backing := members_behind(cluster, service)):
                yield from _endpoints(subject_of(monitor), monitor, backing[0], service)
    for monitor in cluster.kind("PodMonitor"):
        for view in cluster.owners(cluster.members).values():
            if _chosen_pod(monitor, view):
                yield from _endpoints(subject_of(monitor), monitor, view, None)


def _annotated(
    subject: str, annotations: dict[str, str], views: list[PodView]
) -> Iterator[tuple[str, PodView, int, str]]:
    if annotations.get("prometheus.io/scrape") != "true" or not views:
        return
    path = _path(annotations.get("prometheus.io/path", ""))
    said = annotations.get("prometheus.io/port", "")
    if said.isascii() and said.isdigit() and 0 < int(said[:6]) < 65536:
        yield subject, views[0], int(said), path
        return
    for port in _declared(views[0]):  # without a port Prometheus tries each that the pod declares
        yield subject, views[0], port, path


def _declared(view: PodView) -> list[int]:
    return sorted({number for port in view.ports if (number := integer(port, "containerPort")) is not None})


def _path(said: str) -> str:
    path = said.partition("?")[0]
    return path if path.startswith("/") and path.isprintable() and "*" not in path and "{" not in path else _PATH


def _in_namespaces(monitor: Json, namespace: str) -> bool:
    chosen = mapping(monitor, "spec", "namespaceSelector")
    if chosen.get("any") is True:
        return True
    return namespace in (texts(chosen, "matchNames") or [namespace_of(monitor)])


def _chosen(monitor: Json, service: Json) -> bool:
    return _in_namespaces(monitor, namespace_of(service)) and selects(
        mapping(monitor, "spec", "selector"), labels(service, "metadata", "labels")
    )


def _chosen_pod(monitor: Json, view: PodView) -> bool:
    return _in_namespaces(monitor, view.namespace) and selects(mapping(monitor, "spec", "selector"), view.labels)


def _endpoints(
    subject: str, monitor: Json, view: PodView, service: Json | None
) -> Iterator[tuple[str, PodView, int, str]]:
    listed = "endpoints" if service is not None else "podMetricsEndpoints"
    for endpoint in objects(monitor, "spec", listed):
        number: object = None
        named = text(endpoint, "port")
        if service is not None and named:
            port = service_port(service, named)
            number = target_port(port, [view]) if port is not None else None
        elif named:
            number = view.port_number(named)
        else:
            number = at(endpoint, "targetPort")
            number = view.port_number(number) if isinstance(number, str) else number or at(endpoint, "portNumber")
        if isinstance(number, int):
            yield subject, view, number, _path(text(endpoint, "path"))
