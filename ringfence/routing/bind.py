"""Binds Route documents to the ports of services, and finds what cannot hold there. Pure.

A route names a service of its own namespace and no other, so the owner of a namespace routes nobody else's hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ringfence.policy.problems import Absences, Place, Problem, errors, shown
from ringfence.policy.services import OPAQUE, MeshService, Services, unknown_service
from ringfence.routing.documents import RouteDocument
from ringfence.routing.model import RateLimit, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRoute:
    """What a document says of one port: to callers, and to the workload itself."""

    route: Route
    limits: tuple[RateLimit, ...] = ()


Routes = Mapping[str, Mapping[int, PortRoute]]
"""Full service name -> port -> what holds there."""


def bind_routes(
    documents: Iterable[RouteDocument], services: Services, *, lenient: bool = False
) -> tuple[dict[str, dict[int, PortRoute]], list[Problem]]:
    """The routes of each service that has any, and all problems between documents and services.

    The order of ``documents`` does not matter. With any error nothing is bound.
    ``lenient``: a service, or a port, that is not there may come by itself, and is a warning until then.
    """
    problems: list[Problem] = []
    absences = Absences(problems, lenient=lenient)
    bound: dict[str, dict[int, PortRoute]] = {}
    names: dict[str, Place] = {}
    taken: dict[tuple[str, int], RouteDocument] = {}
    # The first by file and line keeps its name and its ports, whatever order the files were read in.
    for document in sorted(documents, key=lambda document: document.name_place):
        held = names.setdefault(document.route.name, document.name_place)
        if held is not document.name_place and document.namespace and not document.route.name.endswith("/"):
            message = f"duplicate route {shown(document.route.name)}"
            problems.append(document.name_place.problem(message, f"first given at {held}: rename one"))
        service = services.get(document.service_full_name)
        if service is None:
            if document.service and document.namespace:
                place = document.service_place
                absences.append(unknown_service("a route", document.namespace, document.service, place, services))
            continue
        if document.limits and not service.has_sidecar:
            message = f"{document.service_full_name} has no sidecar, so that nobody would keep these limits"
            problems.append(document.service_place.problem(message, "remove limits, or give the service a sidecar"))
        if document.route.max_age_seconds is not None and not service.has_sidecar:
            name = document.service_full_name
            message = f"{name} has no sidecar, so there are no mesh connections to it whose age could be bounded"
            problems.append(document.service_place.problem(message, "remove maxAge, or give the service a sidecar"))
        for port, place in _ports(document, service, absences):
            first = taken.setdefault((document.service_full_name, port), document)
            if first is not document:
                message = f"port {port} of {document.service_full_name} has the route {first.route.name} already"
                mend = f"at {first.name_place}: merge the two, or name different ports"
                problems.append(place.problem(message, mend))
            ports = bound.setdefault(document.service_full_name, {})
            ports[port] = PortRoute(route=document.route, limits=document.limits)
    return (bound if not errors(problems) else {}), sorted(problems)


def _ports(document: RouteDocument, service: MeshService, absences: Absences) -> Iterable[tuple[int, Place]]:
    """The ports of the service that the document is for, each with where it says so."""
    name = document.service_full_name
    for port, place in document.ports:
        if port not in service.ports:
            known = ", ".join(str(number) for number in sorted(service.ports)) or "none: it has no ports"
            behind = " or ".join(map(str, service.leads.get(port, ())))
            mend = f"callers dial {port}, but its workloads listen on {behind}: write that" if behind else ""
            absences.append(place.problem(f"{name} has no port {port}", mend or f"its ports: {known}"))
    named = document.ports or tuple((port, document.service_place) for port in sorted(service.ports))
    meant = [(port, place) for port, place in named if port in service.ports]
    opaque = [port for port, _ in meant if service.ports[port] == OPAQUE]
    if opaque:
        absences.extend(
            place.problem(
                f"{what} speaks of requests, but port {opaque[0]} of {name} carries opaque TCP",
                "remove it, or name only HTTP ports in ports",
            )
            for what, place in document.http
        )
    # A sidecar takes no words about requests for a port that carries opaque bytes.
    return [(port, place) for port, place in meant if port not in opaque or not document.http]
