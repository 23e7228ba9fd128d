"""Whom ``from`` means: names of services, labels and caller sets become identities. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from ringfence.policy.callers import format_spiffe_id_pattern
from ringfence.policy.model import (
    AuthenticatedCallers,
    Callers,
    Named,
    NamespaceCallers,
    NarrowedCallers,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.problems import Absences, Place, Problem, nearest
from ringfence.policy.services import ApartIndex, Services, has_labels, unknown_name
from ringfence.policy.written import (
    Anyone,
    CallerSetDocument,
    CallerSetReference,
    LabelledServices,
    Placed,
    ServiceReference,
    WrittenCallers,
)
from ringfence.spiffe import SpiffeId, TrustDomain

_PATTERN_LIMIT = 256  # wildcard patterns that are held against every service; more are taken as they are


class CallerResolver:
    """Resolves items of ``from``; what is wrong with one is told once, wherever else it is used."""

    def __init__(
        self,
        services: Services,
        caller_sets: dict[str, CallerSetDocument],
        trust_domain: TrustDomain | None,
        problems: list[Problem],
        *,
        lenient: bool = False,
        partly: bool = False,
    ) -> None:
        """``lenient``: a service that is not there may come, and until then its name means nobody. ``partly``: labels
        mean those workloads, too, that have them where not all of their service do; for what denies."""
        self._apart = ApartIndex(services) if partly else None
        self._services = services
        self._caller_sets = caller_sets
        self._trust_domain = trust_domain
        self._problems = problems
        self._absences = Absences(problems, lenient=lenient)
        self._lenient = lenient
        self._identities = {
            (spiffe_id.trust_domain, spiffe_id.segments): name
            for name, one in services.items()
            for spiffe_id in one.identities
        }
        self._namespaces = {segments[1] for _, segments in self._identities if len(segments) == 4}
        self._patterns = 0
        self._sets: dict[str, tuple[Callers, ...]] = {}
        self._broken_sets: set[str] = set()
        self.whole = True
        """Whether nothing was wrong in what was resolved last."""

    def resolve(self, items: Iterable[Placed[WrittenCallers]]) -> tuple[Callers, ...]:
        """All callers that ``items`` name, each once, in their order."""
        self.whole = True
        found: dict[Callers, None] = {}
        for item in items:
            found.update(dict.fromkeys(self._one(item)))
        return tuple(found)

    def check_sets(self) -> None:
        """Tell what is wrong in caller sets that nobody uses, too."""
        for name in self._caller_sets:
            self._set(name)

    def _one(self, item: Placed[WrittenCallers]) -> tuple[Callers, ...]:
        origin, cidrs, place = item.value.origin, item.value.cidrs, item.place
        match origin:
            case ServiceReference(service=service):
                named: Iterable[Named] = self._service(service, place)
            case LabelledServices():
                named = self._labelled(origin, place)
            case CallerSetReference(caller_set=name):
                return self._narrowed_set(name, cidrs, place)
            case Anyone():
                named = (AuthenticatedCallers(), UnauthenticatedCallers())
            case _:
                self._check_matches(origin, place)
                named = (origin,)
        return tuple(NarrowedCallers(callers=one, cidrs=cidrs) if cidrs else one for one in named)

    def _wrong(self, problem: Problem) -> None:
        self.whole = False
        self._problems.append(problem)

    def _absent(self, problem: Problem) -> None:
        self.whole = False
        self._absences.append(problem)

    def _service(self, full_name: str, place: Place) -> Iterator[Named]:
        service = self._services.get(full_name)
        if service is None:
            self._absent(unknown_name("service", full_name, place, self._services))
            return
        yield from _patterns(service.identities)

    def _labelled(self, wanted: LabelledServices, place: Place) -> list[Named]:
        found: list[Named] = []
        for name in sorted(self._services):
            if not name.startswith(f"{wanted.namespace}/"):
                continue
            service = self._services[name]
            if has_labels(service, wanted.labels):
                found += _patterns(service.identities)
            elif self._apart is not None:
                found += _patterns(self._apart.identities(name, wanted.labels))
        if not found:
            text = ", ".join(f"{name}: {value}" for name, value in wanted.labels)
            message = f"matches nobody: no service of namespace {wanted.namespace} has the labels {{{text}}}"[:400]
            self._absent(place.problem(message, "give a service these labels in the mesh file, or name others"))
        return found

    def _narrowed_set(self, name: str, cidrs: tuple[str, ...], place: Place) -> tuple[Callers, ...]:
        if name not in self._caller_sets:
            self._wrong(unknown_name("caller set", name, place, self._caller_sets))
            return ()
        callers = self._set(name)
        if not cidrs:
            return callers
        found = tuple(narrowed for one in callers if (narrowed := _narrow(one, cidrs)) is not None)
        if callers and not found:
            message = f"matches nobody: the callers of {name} come from none of these networks"
            self._wrong(place.problem(message, "name networks that the caller set has, too"))
        return found

    def _set(self, name: str) -> tuple[Callers, ...]:
        if name not in self._sets:
            self._sets[name] = ()  # what names itself names nobody more
            before = self.whole
            self._sets[name] = self.resolve(self._caller_sets[name].callers)
            if not self.whole:
                self._broken_sets.add(name)
            self.whole = before
        self.whole = self.whole and name not in self._broken_sets
        return self._sets[name]

    def _check_matches(self, origin: Named, place: Place) -> None:
        """Warn of an identity of this mesh that no service has: it may come, but today it permits nobody."""
        if isinstance(origin, NamespaceCallers) and self._identities and origin.namespace not in self._namespaces:
            near = nearest(origin.namespace, sorted(self._namespaces))
            mend = f"did you mean {near}?" if near else "name a namespace of the mesh"
            message = f"matches nobody: no service of the mesh is in namespace {origin.namespace}"
            self._problems.append(place.warning(message, mend))
        if isinstance(origin, SpiffeIdPattern | TrustDomainCallers) and self._trust_domain is not None:
            self._check_trust_domain(origin.trust_domain, place)
        if not isinstance(origin, SpiffeIdPattern) or origin.trust_domain != self._trust_domain:
            return
        if (origin.trust_domain, origin.segments) in self._identities:
            return
        if "*" in origin.segments:
            self._patterns += 1
            if (
                self._lenient
                or self._patterns > _PATTERN_LIMIT
                or any(_matches(origin, one) for _, one in self._identities)
            ):
                return
        text = format_spiffe_id_pattern(origin)
        known = [f"spiffe://{domain}/{'/'.join(segments)}" for domain, segments in sorted(self._identities, key=str)]
        near = nearest(text, known)
        mend = f"did you mean {near}?" if near else "name an identity of the mesh"
        self._problems.append(place.warning(f"matches nobody: no service of the mesh is {text}"[:400], mend))

    def _check_trust_domain(self, trust_domain: TrustDomain, place: Place) -> None:
        if trust_domain != self._trust_domain:
            message = f"matches nobody: no caller of trust domain {trust_domain} gets past the handshake"
            mend = f"name callers of {self._trust_domain}: bundles of other trust domains cannot be given yet"
            self._problems.append(place.warning(message, mend))


def _patterns(identities: Iterable[SpiffeId]) -> Iterator[SpiffeIdPattern]:
    for one in identities:
        yield SpiffeIdPattern(trust_domain=one.trust_domain, segments=one.segments)


def _matches(pattern: SpiffeIdPattern, segments: tuple[str, ...]) -> bool:
    return len(pattern.segments) == len(segments) and all(
        wanted in ("*", found) for wanted, found in zip(pattern.segments, segments, strict=True)
    )


def _narrow(callers: Callers, cidrs: tuple[str, ...]) -> Callers | None:
    """Those of ``callers`` who come from ``cidrs``; None where nobody can."""
    if not isinstance(callers, NarrowedCallers):
        return NarrowedCallers(callers=callers, cidrs=cidrs)
    both = {common: None for one in callers.cidrs for other in cidrs if (common := _common(one, other)) is not None}
    return NarrowedCallers(callers=callers.callers, cidrs=tuple(both)) if both else None


def _common(one: str, other: str) -> str | None:
    """The part that two networks share: of two that do, one is within the other."""
    if within(one, other):
        return one
    return other if within(other, one) else None


def within(inner: str, outer: str) -> bool:
    """Whether every address of ``inner`` is one of ``outer``; both canonical."""
    small, large = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    if isinstance(small, ipaddress.IPv4Network) and isinstance(large, ipaddress.IPv4Network):
        return small.subnet_of(large)
    if isinstance(small, ipaddress.IPv6Network) and isinstance(large, ipaddress.IPv6Network):
        return small.subnet_of(large)
    return False
