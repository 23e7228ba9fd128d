"""``Invariant`` documents: what must hold of a mesh's calls, whatever its policy says. Pure; next stop ``proving``.

    apiVersion: ringfence.io/v1alpha1
    kind: Invariant
    metadata: {name: ledger-is-behind-orders, namespace: shop}
    spec:
      service: ledger                       # as in an Allowlist: service, labels or scope; scope: mesh in any namespace
      noPath:                               # nobody of these gets there, not by way of other services either
        from: [{namespace: edge}]
        exceptThrough: [orders]             # but by way of one of these
    ---
    metadata: {name: pii-needs-a-token}
    spec: {scope: mesh, labels: {data: pii}, requires: {token: any}}     # or authenticated: true, or what a token says

``denied: {from: …, to: …}`` says that no such call is permitted, ``permitted`` that each is, and ``only: {from: …}``
that nobody else is permitted anything. ``from`` and ``to`` are those of rules; without ``from`` it is everybody, and
what is left out of ``to`` is open. Beside ``requires``, and ``to`` beside ``only``, say which calls it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringfence.policy.analysis.claims import (
    Claim,
    Denied,
    Invariant,
    NoPath,
    Only,
    Permitted,
    Requires,
)
from ringfence.policy.analysis.world import World
from ringfence.policy.binding.callers import CallerResolver
from ringfence.policy.envelope import Envelope, read_kinds
from ringfence.policy.lists import read_list
from ringfence.policy.model import AuthenticatedCallers, Callers, Rule, TokenMatch, UnauthenticatedCallers
from ringfence.policy.problems import Problem
from ringfence.policy.reading.calls import read_calls
from ringfence.policy.reading.context import Context, read_reference
from ringfence.policy.reading.origins import PLAIN_FORMS, read_origins
from ringfence.policy.reading.selectors import read_selector
from ringfence.policy.reading.tokens import read_token
from ringfence.policy.services import MeshService, Services, has_labels, unknown_name, unknown_service
from ringfence.policy.written import Header, MeshSelector, NamespaceSelector, Placed, Selector, ServiceSelector, Words
from ringfence.policy.yamlnodes import MappingReader
from ringfence.policy.yamltree import ScalarNode

KIND: Final = "Invariant"
FORMS: Final = ("noPath", "denied", "permitted", "requires", "only")
EVERYBODY: Final[tuple[Callers, ...]] = (AuthenticatedCallers(), UnauthenticatedCallers())
_ANY_TOKEN: Final = "any"
_ORIGINS: Final = (*PLAIN_FORMS, "anyone")


def read_invariants(text: str | bytes, file: str, world: World) -> tuple[list[Invariant], list[Problem]]:
    """The invariants of one file, with the names in them resolved in ``world``, and all that is wrong with it."""

    def read(envelope: Envelope, problems: list[Problem]) -> Invariant | None:
        return _Reader(envelope, problems, world).read()

    found, problems = read_kinds(text, file, {KIND: read})
    return [one for one in found if one is not None], problems


@dataclass(frozen=True, slots=True)
class _Scope:
    """Which calls a part of a document is about."""

    callers: tuple[Callers, ...]
    words: Words

    @property
    def rule(self) -> Rule:
        words = self.words
        return Rule(
            name="scope",
            callers=self.callers,
            ports=tuple(one.value for one in words.ports),
            methods=tuple(one.value for one in words.methods),
            paths=tuple(one.value for one in words.paths),
            hosts=tuple(one.value for one in words.hosts),
            headers=tuple(one.value for one in words.headers),
            grpc=tuple(one.value for one in words.grpc),
        )


class _Reader:
    """Reads one document."""

    def __init__(self, envelope: Envelope, problems: list[Problem], world: World) -> None:
        header = Header(namespace=envelope.namespace, name=envelope.name, place=envelope.name_place)
        self._header = header
        self._spec = envelope.spec
        self._context = Context(header, problems)
        self._world = world
        self._services = mesh_services(world)
        self._ports: set[int] = set()
        # What binding warns of in a policy is no slip here: a namespace of which nobody is yet may be forbidden.
        self._told: list[Problem] = []
        self._resolver = CallerResolver(self._services, {}, world.trust_domain, self._told)

    @property
    def _problems(self) -> list[Problem]:
        return self._context.problems

    def read(self) -> Invariant | None:
        """The invariant; None where anything is wrong with it."""
        before = len(self._problems)
        services = self._selected(read_selector(self._spec, self._problems))
        form = self._spec.one_of(*FORMS)
        self._spec.known(*FORMS)
        self._ports = {port for name in services if name in self._services for port in self._services[name].ports}
        claim = self._read_claim(form) if form is not None else None
        self._problems.extend(problem for problem in self._told if problem.is_error)
        if claim is None or len(self._problems) != before:
            return None
        return Invariant(name=self._header.full_name, place=self._header.place, services=services, claim=claim)

    def _read_claim(self, form: str) -> Claim | None:
        reader = self._spec.mapping(form)
        claim: Claim | None = None
        if form == "noPath":
            claim = NoPath(callers=self._callers(reader, required=True), through=self._through(reader))
        elif form == "only":
            callers = self._callers(reader, required=True)
            claim = Only(scope=_Scope(EVERYBODY, self._words(reader)).rule, callers=callers)
        else:
            scope = _Scope(self._callers(reader), self._words(reader)).rule
            if form == "requires":
                claim = self._read_requires(reader, scope)
            else:
                claim = Denied(scope=scope) if form == "denied" else Permitted(scope=scope)
        reader.finish()
        return claim

    def _read_requires(self, reader: MappingReader, scope: Rule) -> Claim | None:
        form = reader.one_of("token", "authenticated")
        reader.known("token", "authenticated")
        if form == "authenticated":
            if not reader.boolean("authenticated"):
                reader.problem("authenticated must be true, not false", "remove the invariant", key="authenticated")
            return Requires(scope=scope, callers=(AuthenticatedCallers(),), token=None)
        if form is None:
            return None
        value = reader.value("token")
        if value is not None and isinstance(value.node, ScalarNode):
            if value.node.text != _ANY_TOKEN:
                value.problem("token is neither any nor a mapping", "write token: any, or what it must say")
            return Requires(scope=scope, callers=EVERYBODY, token=TokenMatch())
        token, issuers = read_token(reader, self._context)
        known = {one.name for service in self._world.services for one in service.token_issuers}
        for issuer in issuers:
            if issuer.value not in known:
                names = dict.fromkeys(known)
                self._problems.append(unknown_name("token issuer", issuer.value, issuer.place, names))
        return Requires(scope=scope, callers=EVERYBODY, token=token.value if token is not None else None)

    def _callers(self, reader: MappingReader, *, required: bool = False) -> tuple[Callers, ...]:
        if "from" not in reader and not required:
            reader.known("from")
            return EVERYBODY
        return self._resolver.resolve(read_origins(reader, "from", _ORIGINS, self._context))

    def _words(self, reader: MappingReader) -> Words:
        to = reader.mapping("to", default=None)
        if to.present and not list(to):
            reader.problem("to is empty", "remove it to leave all open, or add ports, methods or paths", key="to")
        words = read_calls(to, self._context)
        for port in words.ports:
            if self._ports and port.value not in self._ports:
                mend = f"its ports: {', '.join(map(str, sorted(self._ports)))}"
                self._problems.append(port.place.problem(f"no service here has port {port.value}", mend))
        to.finish()
        return words

    def _through(self, reader: MappingReader) -> tuple[str, ...]:
        found = read_list(
            reader,
            "exceptThrough",
            lambda item: read_reference(item, "service", self._context),
            self._problems,
            "remove it where there is no way, or name a service",
        )
        for name, place in found:
            if name not in self._services:
                self._problems.append(unknown_name("service", name, place, self._services))
        return tuple(name for name, _ in found)

    def _selected(self, selector: Placed[Selector]) -> tuple[str, ...]:
        """The services; none is a problem, as an invariant about nothing always holds."""
        namespace = self._header.namespace
        names = sorted(self._services)
        match selector.value:
            case ServiceSelector(service=service):
                full_name = f"{namespace}/{service}"
                if service and namespace and full_name not in self._services:
                    self._problems.append(
                        unknown_service("an invariant", namespace, service, selector.place, self._services)
                    )
                return (full_name,)
            case NamespaceSelector(labels=labels):
                found = [name for name in names if name.startswith(f"{namespace}/")]
            case MeshSelector(labels=labels):
                found = names
        selected = tuple(name for name in found if has_labels(self._services[name], labels))
        if not selected and namespace:
            message = "selects nothing, and of nothing everything holds"
            self._problems.append(selector.place.problem(message, "name services or labels that the mesh has"))
        return selected


def mesh_services(world: World) -> Services:
    """The services of a world as documents are bound to them."""
    return {
        service.full_name: MeshService(
            ports={port.port: port.protocol for port in service.ports},
            permissive=frozenset(port.port for port in service.ports if port.permissive),
            has_sidecar=service.has_sidecar,
            spiffe_id=service.spiffe_id,
            labels=service.labels,
            other_ids=service.other_ids,
        )
        for service in world.services
    }
