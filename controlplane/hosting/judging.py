"""From a reading of a platform to a configuration: nothing is refused as a whole. Pure, but for keys of token issuers.

What was found before is handed in and taken over where nothing that it depends on has changed: a reading that differs
in one document or one workload costs little more than what it differs in.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from controlplane.hosting.identities import Identities
from controlplane.hosting.parsing import Name, Parsed, parse
from controlplane.hosting.spaces import DENYLIST, Space, Written, bind_space
from controlplane.intake.configuration import Configuration
from controlplane.intake.judging import services_of
from controlplane.mesh.document import MeshDocument
from controlplane.tokens.needs import IssuerNeeds
from ringfence.mesh import Mesh
from ringfence.platform import Reading, WrittenDocument
from ringfence.policy.analysis.world import Effect
from ringfence.policy.bind import Surroundings
from ringfence.policy.bound import BoundPolicy
from ringfence.policy.closing import close
from ringfence.policy.problems import Place, Problem
from ringfence.policy.services import MeshService
from ringfence.policy.written import CallerSetDocument, PolicyDocument, RoleDocument, TokenIssuerDocument
from ringfence.routing.bind import PortRoute
from ringfence.routing.documents import RouteDocument

DOCUMENT_LIMIT: Final = 20_000
"""Of one platform; what is beyond is left out, of the namespaces that have most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """One reading judged, and what the next one may take over. ``spaces``: by namespace; ``good``: by name, the
    versions that stand in for later ones that are wrong."""

    configuration: Configuration
    written: Mapping[str, Parsed] = field(default_factory=dict)
    spaces: Mapping[str, Space] = field(default_factory=dict)
    good: Mapping[str, Parsed] = field(default_factory=dict)
    services: Mapping[str, MeshService] = field(default_factory=dict)
    over: tuple[str, ...] = ()
    """Names of documents that are too many to be read."""

    def problems(self, name: str) -> tuple[Problem, ...]:
        """All that is to be said of a document."""
        space = self.spaces.get(Name.of(name).namespace)
        return space.problems.get(name, ()) if space is not None else ()

    def in_force(self, name: str) -> Parsed | None:
        """The version of a document that is."""
        space = self.spaces.get(Name.of(name).namespace)
        return space.in_force.get(name) if space is not None else None


class ReadingJudge:
    """Judges readings of one platform; holds nothing, so that a question can be asked beside an answer."""

    def __init__(self, *, source: str) -> None:
        """``source``: what the mesh is said to be read from."""
        self._source = source

    def judge(
        self, reading: Reading, before: Judged | None, now: float, good: Mapping[str, WrittenDocument] | None = None
    ) -> Judged:
        """``good``: versions that were in force in an earlier life, for documents that ``before`` does not know."""
        document = MeshDocument(mesh=reading.mesh, file=self._source, places={})
        written, over = _parsed(reading.documents, before, reading.mesh.root_namespace)
        held = _held(written, before, good or {})
        services = _kept_services(reading.mesh, before)
        work = _Work(
            document=document,
            services=services,
            identities=Identities(services),
            now=now,
            documents={name: Written(wanted=one, held=held.get(name)) for name, one in written.items()},
            before=before.spaces if before is not None else {},
        )
        spaces = work.spaces()
        in_force = {name: one for space in spaces.values() for name, one in space.in_force.items()}
        return Judged(
            configuration=_configuration(
                document, spaces, services, [*work.root_closed, *(name for name in over if is_denylist(name))]
            ),
            written=written,
            spaces=spaces,
            good=in_force,
            services=services,
            over=tuple(over),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One reading while it is judged."""

    document: MeshDocument
    services: Mapping[str, MeshService]
    identities: Identities
    now: float
    documents: Mapping[str, Written]
    before: Mapping[str, Space]
    root_closed: list[str] = field(default_factory=list)

    def spaces(self) -> dict[str, Space]:
        """Every namespace bound, the root namespace first, as its documents hold in all others."""
        root = self.document.mesh.root_namespace
        by_namespace: dict[str, dict[str, Written]] = {root: {}}
        for name, one in self.documents.items():
            by_namespace.setdefault(one.wanted.name.namespace, {})[name] = one
        for service in self.services:
            by_namespace.setdefault(service.partition("/")[0], {})
        library = _Library(self.documents.values())
        above = self._space(root, by_namespace.pop(root), (), library)
        self.root_closed.extend(above.closed)
        ruling = tuple(
            one for name, one in sorted(above.in_force.items()) if not isinstance(one.document, RouteDocument)
        )
        found = {root: above}
        for namespace, own in by_namespace.items():
            found[namespace] = self._space(namespace, own, ruling, library)
        return found

    def _space(self, namespace: str, own: Mapping[str, Written], ruling: Sequence[Parsed], library: _Library) -> Space:
        root = self.document.mesh.root_namespace
        # Documents of the root namespace are judged against the whole mesh, and hold in each namespace as judged.
        services = self.services if namespace == root else self.identities.of_namespace(namespace)
        versions = [one for pair in own.values() for one in (pair.wanted, pair.held) if one is not None]
        # What rules everywhere refers to documents as well, which must be found wherever it is bound.
        known = {*own, *(one.written.name for one in ruling)}
        beside = [*ruling, *library.beside([*versions, *ruling], known)]
        origins = tuple(dict.fromkeys(origin for one in (*versions, *beside) for origin in one.origins))
        key: Hashable = (
            tuple((name, own[name].wanted, own[name].held) for name in sorted(own)),
            tuple(beside),
            tuple(sorted(services.items(), key=lambda item: item[0])) if namespace != root else _outline(services),
            self.identities.answers(origins),
        )
        held = self.before.get(namespace)
        if held is not None and held.key == key:
            return held
        surroundings = Surroundings(
            services=services,
            callers={**services, **self.identities.services_behind(origins)},
            lenient=True,
            trust_domain=self.document.mesh.trust_domain,
            root_namespace=root,
            now=self.now,
        )
        return bind_space(key, own, beside, surroundings, self.document)


class _Library:
    """Documents that those of other namespaces refer to."""

    def __init__(self, documents: Iterable[Written]) -> None:
        self._roles: dict[str, Parsed] = {}
        self._caller_sets: dict[str, Parsed] = {}
        self._issuers: dict[str, Parsed] = {}
        for pair in documents:
            # Of one that is wrong by itself the version that stands in; what else is wrong with it is for its own.
            one = pair.wanted if pair.wanted.document is not None else pair.held
            if one is None:
                continue
            full_name = f"{one.name.namespace}/{one.name.name}"
            match one.document:
                case RoleDocument():
                    self._roles[full_name] = one
                case CallerSetDocument():
                    self._caller_sets[full_name] = one
                case TokenIssuerDocument():
                    self._issuers[full_name] = one

    def beside(self, documents: Iterable[Parsed], known: set[str]) -> list[Parsed]:
        """What ``documents`` refer to, and what that refers to in turn, that is not ``known`` already, in the order of
        names."""
        found: dict[str, Parsed] = {}
        waiting = list(documents)
        while waiting:
            one = waiting.pop()
            for names, held in (
                (one.roles, self._roles),
                (one.caller_sets, self._caller_sets),
                (one.issuers, self._issuers),
            ):
                for name in names:
                    other = held.get(name)
                    if other is not None and other.written.name not in known and other.written.name not in found:
                        found[other.written.name] = other
                        waiting.append(other)
        return [found[name] for name in sorted(found)]


def is_denylist(name: str) -> bool:
    """Whether a document of that name is one, by its name alone."""
    return Name.of(name).kind == DENYLIST


def _parsed(
    documents: Iterable[WrittenDocument], before: Judged | None, root_namespace: str
) -> tuple[dict[str, Parsed], list[str]]:
    """Each document read, what is as it was not again; and the names of those that are too many to be read."""
    held = before.written if before is not None else {}
    found: dict[str, Parsed] = {}
    over: list[str] = []
    for one in _fair(documents, root_namespace):
        if len(found) >= DOCUMENT_LIMIT:
            over.append(one.name)
            continue
        known = held.get(one.name)
        found[one.name] = known if known is not None and known.written.content == one.content else parse(one)
    return found, over


def _fair(documents: Iterable[WrittenDocument], root_namespace: str) -> list[WrittenDocument]:
    """In which order there is room for them: those of the root namespace first, then from each namespace one after
    another, denylists before the rest, so that whoever writes thousands crowds out his own."""
    ranks: dict[str, int] = {}
    found: list[tuple[bool, int, WrittenDocument]] = []
    for one in sorted(documents, key=lambda document: (not is_denylist(document.name), document.name)):
        namespace = Name.of(one.name).namespace
        ranks[namespace] = rank = ranks.get(namespace, 0) + 1
        found.append((namespace != root_namespace, rank, one))
    return [one for _, _, one in sorted(found, key=lambda ranked: ranked[:2])]


def _held(
    written: Mapping[str, Parsed], before: Judged | None, good: Mapping[str, WrittenDocument]
) -> dict[str, Parsed]:
    """The versions that may stand in for those written now."""
    known = before.good if before is not None else {}
    found: dict[str, Parsed] = {}
    for name, one in written.items():
        held = known.get(name)
        if held is None and name in good and (before is None or name not in before.written):
            held = parse(good[name])
        # What is written now stands in for nothing, so that the keys of spaces stay as they are.
        if held is not None and held.document is not None and held is not one:
            found[name] = held
    return found


def _kept_services(mesh: Mesh, before: Judged | None) -> dict[str, MeshService]:
    """The services as documents are bound to them; those that say the same are the very same values."""
    held = before.services if before is not None else {}
    found: dict[str, MeshService] = {}
    for name, service in services_of(mesh).items():
        known = held.get(name)
        found[name] = known if known is not None and known == service else service
    return found


def _outline(services: Mapping[str, MeshService]) -> Hashable:
    """What documents of the whole mesh depend on: labels and ports, but not who stands behind a service."""
    return frozenset(
        (
            *(name, frozenset(one.ports.items()), one.permissive, one.labels, one.has_sidecar),
            *(frozenset(one.leads.items()), frozenset(part.labels for part in one.apart)),
        )
        for name, one in services.items()
    )


def _configuration(
    document: MeshDocument,
    spaces: Mapping[str, Space],
    services: Mapping[str, MeshService],
    closed: Sequence[str],
) -> Configuration:
    root = document.mesh.root_namespace
    policies: dict[str, BoundPolicy] = {}
    routes: dict[str, Mapping[int, PortRoute]] = {}
    places: dict[tuple[Effect, str], Place] = {}
    documents: list[PolicyDocument] = []
    warnings: list[Problem] = []
    needs = IssuerNeeds(rules=document.mesh.token_issuers)
    by_namespace: dict[str, list[str]] = {}
    for service in services:
        by_namespace.setdefault(service.partition("/")[0], []).append(service)
    for namespace, space in spaces.items():
        there = by_namespace.get(namespace, [])
        bound = {name: space.binding.policies[name] for name in there if name in space.binding.policies}
        shut = [name for name in closed if Name.of(name).namespace in (root, namespace)]
        lost = [Name.of(name) for name in (*shut, *(space.closed if namespace != root else ()))]
        policies |= close(bound, there, [(one.namespace, one.name) for one in lost])
        routes |= space.routes
        places |= {(Effect(effect), name): place for (effect, name), place in space.binding.places.items()}
        for one in space.in_force.values():
            if one.document is not None and not isinstance(one.document, RouteDocument):
                documents.append(one.document)
        needs = replace(
            needs,
            inline={**needs.inline, **space.needs.inline},
            urls={**needs.urls, **space.needs.urls},
            secrets={**needs.secrets, **space.needs.secrets},
        )
        warnings.extend(problem for found in space.problems.values() for problem in found)
    return Configuration(
        document=document,
        policies=policies,
        routes=routes,
        places=places,
        documents=tuple(documents),
        warnings=tuple(sorted(warnings)),
        issuer_needs=needs,
    )
