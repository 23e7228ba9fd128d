"""Binds policy documents to the services they protect, and finds what cannot be enforced there. Pure.

A rule that speaks of HTTP on a port that carries opaque TCP would never permit anything, and one for a port that the
service does not have neither; both are errors here rather than silence later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ringfence.policy.model import Allowlist, Rule
from ringfence.policy.plain import PlainAllowlist, RulePlaces
from ringfence.policy.problems import Place, Problem, choose_from, nearest, shown

OPAQUE = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePorts:
    """The ports of one service, each with how its bytes are read: ``tcp`` for opaque, else a form of HTTP.

    ``permissive``: those of them that also take callers without an identity. ``has_sidecar``: whether anybody enforces
    there what policy says.
    """

    ports: Mapping[int, str]
    permissive: frozenset[int] = frozenset()
    has_sidecar: bool = True


def bind(
    documents: Iterable[PlainAllowlist], services: Mapping[str, ServicePorts]
) -> tuple[dict[str, tuple[Allowlist, ...]], list[Problem]]:
    """The allowlists of each service that has any, and all problems between documents and services.

    ``services`` goes by full name, ``<namespace>/<name>``. The order of ``documents`` does not matter. When there is
    any problem nothing is bound.
    """
    problems: list[Problem] = []
    bound: dict[str, list[Allowlist]] = {}
    # The first by file and line keeps its name, whatever order the files were read in.
    first: dict[str, Place] = {}
    for document in sorted(documents, key=lambda document: document.name_place):
        allowlist = document.allowlist
        if allowlist.name and allowlist.namespace:
            held = first.setdefault(allowlist.full_name, document.name_place)
            if held is not document.name_place:
                message = f"duplicate allowlist {shown(allowlist.full_name)}"
                problems.append(document.name_place.problem(message, f"first given at {held}: rename one"))
        service = services.get(document.service_full_name)
        if service is not None and not service.has_sidecar:
            message = f"{document.service_full_name} has no sidecar, so that nobody would enforce this allowlist"
            mend = "remove it, as the service judges its callers itself, or give the service a sidecar"
            problems.append(document.service_place.problem(message, mend))
        elif service is not None:
            for rule, places in zip(allowlist.rules, document.places, strict=True):
                problems.extend(_check_rule(rule, places, document.service_full_name, service))
            bound.setdefault(document.service_full_name, []).append(allowlist)
        elif document.service and allowlist.namespace:
            place = document.service_place
            problems.append(unknown_service("an allowlist", allowlist.namespace, document.service, place, services))
    if problems:
        return {}, sorted(problems)
    return {
        name: tuple(sorted(allowlists, key=lambda allowlist: allowlist.full_name)) for name, allowlists in bound.items()
    }, []


def unknown_service(
    what: str, namespace: str, service: str, place: Place, services: Mapping[str, ServicePorts]
) -> Problem:
    """The problem of a document (``what``, with its article) for a service that its namespace does not have."""
    message = f"namespace {namespace} has no service {shown(service)}"
    elsewhere = sorted(name for name in services if name.endswith(f"/{service}"))
    here = sorted(name.removeprefix(f"{namespace}/") for name in services if name.startswith(f"{namespace}/"))
    if elsewhere and nearest(service, here) is None:
        mend = f"{elsewhere[0]} exists: {what} stands in the namespace of the service"
    else:
        mend = choose_from(service, here) or "no service of the mesh is in that namespace"
    return place.problem(message, mend)


def _check_rule(rule: Rule, places: RulePlaces, service_name: str, service: ServicePorts) -> Iterable[Problem]:
    speaks_http = bool(rule.methods or rule.paths)
    for port, place in zip(rule.ports, places.ports, strict=True):
        protocol = service.ports.get(port)
        if protocol is None:
            known = ", ".join(str(number) for number in sorted(service.ports)) or "none: it has no ports"
            yield place.problem(f"{service_name} has no port {port}", f"its ports: {known}")
        elif speaks_http and protocol == OPAQUE:
            message = f"rule {rule.name} speaks of HTTP, but port {port} of {service_name} carries opaque TCP"
            yield place.problem(message, "remove the port, or remove methods and paths from the rule")
    if speaks_http and not rule.ports and set(service.ports.values()) <= {OPAQUE}:
        message = f"rule {rule.name} speaks of HTTP, but no port of {service_name} is read as HTTP"
        yield (places.http or places.name).problem(message, "remove methods and paths from the rule")
    if places.unauthenticated is not None:
        # Ports that the service does not have were told above.
        addressed = service.ports.keys() & rule.ports if rule.ports else service.ports.keys()
        if not addressed & service.permissive and (addressed or not rule.ports):
            which = "port that it names" if rule.ports else f"port of {service_name}"
            message = f"rule {rule.name} permits unauthenticated callers, but no {which} is permissive"
            mend = "give a port mode: permissive in the mesh file, or remove the caller"
            yield places.unauthenticated.problem(message, mend)
