"""Who stands behind the names of callers, asked of one mesh for many documents. Pure.

What documents become depends on the mesh only by the answers given here and by the services that they protect. So a
document whose answers are the same as before need not be bound again, however much of the mesh changed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from ringfence.policy.model import NamespaceCallers, SpiffeIdPattern
from ringfence.policy.services import ApartIndex, MeshService, Services, has_labels
from ringfence.policy.written import LabelledServices, Origin, ServiceReference


class Identities:
    """The callers of one mesh."""

    __slots__ = ("_answers", "_apart", "_by_namespace", "_services")

    def __init__(self, services: Services) -> None:
        self._services = services
        self._apart = ApartIndex(services)
        self._answers: dict[Origin, Hashable] = {}
        by_namespace: dict[str, dict[str, MeshService]] = {}
        for name, service in services.items():
            by_namespace.setdefault(name.partition("/")[0], {})[name] = service
        self._by_namespace: Mapping[str, Mapping[str, MeshService]] = by_namespace

    def of_namespace(self, namespace: str) -> Services:
        """The services of a namespace."""
        return self._by_namespace.get(namespace, {})

    def answers(self, origins: Iterable[Origin]) -> tuple[Hashable, ...]:
        """Who stands behind each; equal answers mean that the origins name the same callers."""
        return tuple(self._answer(origin) for origin in origins)

    def services_behind(self, origins: Iterable[Origin]) -> Services:
        """Those services that origins name, which is all that is needed to resolve them."""
        found: dict[str, MeshService] = {}
        for origin in origins:
            match origin:
                case ServiceReference(service=name):
                    if name in self._services:
                        found[name] = self._services[name]
                    else:  # for what the author may have meant
                        found.update(self.of_namespace(name.partition("/")[0]))
                case LabelledServices(namespace=namespace, labels=labels):
                    for name, service in self.of_namespace(namespace).items():
                        if has_labels(service, labels) or self._apart.some(name, labels):
                            found[name] = service
                case NamespaceCallers(namespace=namespace):
                    found.update(self.of_namespace(namespace))
                case SpiffeIdPattern(segments=segments) if len(segments) > 1:
                    found.update(self.of_namespace(segments[1]))
                case _:
                    continue
        return found

    def _answer(self, origin: Origin) -> Hashable:
        if origin not in self._answers:
            self._answers[origin] = self._found(origin)
        return self._answers[origin]

    def _found(self, origin: Origin) -> Hashable:
        match origin:
            case ServiceReference(service=name):
                service = self._services.get(name)
                return service.identities if service is not None else None
            case LabelledServices(namespace=namespace, labels=labels):
                services = self.of_namespace(namespace)
                return tuple(
                    (True, one.identities) if has_labels(one, labels) else (False, self._apart.identities(name, labels))
                    for name, one in sorted(services.items(), key=lambda item: item[0])
                    if has_labels(one, labels) or self._apart.some(name, labels)
                )
            case NamespaceCallers(namespace=namespace):
                return namespace in self._by_namespace
            case SpiffeIdPattern(segments=segments) if len(segments) > 1:
                there = self.of_namespace(segments[1]).values()
                return any(one.segments == segments for service in there for one in service.identities)
            case _:
                return None
