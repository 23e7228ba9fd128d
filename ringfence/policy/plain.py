"""Of documents as written, what ``bind`` takes today: allowlists of one service that name their callers themselves.

All else is a problem here, never dropped: a document that nobody enforces must not look as if somebody did. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ringfence.policy.model import (
    Allowlist,
    AuthenticatedCallers,
    Callers,
    NarrowedCallers,
    Rule,
    UnauthenticatedCallers,
)
from ringfence.policy.problems import Place, Problem
from ringfence.policy.written import (
    AllowlistDocument,
    Anyone,
    CallerSetReference,
    LabelledServices,
    Mode,
    Placed,
    PolicyDocument,
    ServiceReference,
    ServiceSelector,
    WrittenCallers,
    WrittenRule,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePlaces:
    """Where the parts of a rule stand: its name, each of its ports, and, if it has them, its first HTTP word and its
    ``unauthenticated``."""

    name: Place
    ports: tuple[Place, ...]
    http: Place | None
    unauthenticated: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainAllowlist:
    """An allowlist, ``places`` one for each rule; ``service`` is a name in the allowlist's namespace."""

    allowlist: Allowlist
    service: str
    name_place: Place
    service_place: Place
    places: tuple[RulePlaces, ...]

    @property
    def service_full_name(self) -> str:
        """``<namespace>/<service>``."""
        return f"{self.allowlist.namespace}/{self.service}"


def plain_allowlists(documents: Iterable[PolicyDocument]) -> tuple[list[PlainAllowlist], list[Problem]]:
    """The allowlists among ``documents``, and a problem for all that says more."""
    found: list[PlainAllowlist] = []
    problems: list[Problem] = []
    for document in documents:
        told = list(_not_plain(document))
        problems.extend(told)
        if not told and isinstance(document, AllowlistDocument):
            found.append(_plain(document))
    return found, problems


def _not_plain(document: PolicyDocument) -> Iterator[Problem]:
    if not isinstance(document, AllowlistDocument):
        yield document.header.place.problem("documents of this kind cannot be enforced yet", "remove it")
        return
    if not isinstance(document.selector.value, ServiceSelector):
        yield document.selector.place.problem("only service can be enforced yet", "write one document a service")
    if document.mode is not Mode.ENFORCE:
        yield document.header.place.problem("mode shadow cannot be judged yet", "remove the document")
    for rule in document.rules:
        yield from _not_plain_rule(rule)


def _not_plain_rule(rule: WrittenRule) -> Iterator[Problem]:
    for callers in rule.callers:
        plain = _callers(callers.value)
        if plain is None or isinstance(plain, NarrowedCallers | AuthenticatedCallers):
            mend = "write spiffeId, namespace, trustDomain or unauthenticated, without cidrs"
            yield callers.place.problem("this caller cannot be enforced yet", mend)
    words = rule.words
    further: dict[str, tuple[Placed[Any], ...]] = {
        "roles": rule.roles,
        "hosts": words.hosts,
        "headers": words.headers,
        "grpc": words.grpc,
        "token": (words.token,) if words.token is not None else (),
        "when": (words.when,) if words.when is not None else (),
    }
    for word, parts in further.items():
        if parts:
            yield parts[0].place.problem(f"{word} cannot be enforced yet", "use ports, methods and paths")


def _plain(document: AllowlistDocument) -> PlainAllowlist:
    selector = document.selector.value
    return PlainAllowlist(
        allowlist=Allowlist(
            namespace=document.header.namespace,
            name=document.header.name,
            rules=tuple(_rule(rule) for rule in document.rules),
        ),
        service=selector.service if isinstance(selector, ServiceSelector) else "",
        name_place=document.header.place,
        service_place=document.selector.place,
        places=tuple(_places(rule) for rule in document.rules),
    )


def _callers(callers: WrittenCallers) -> Callers | None:
    origin = callers.origin
    if isinstance(origin, ServiceReference | LabelledServices | CallerSetReference | Anyone):
        return None
    return NarrowedCallers(callers=origin, cidrs=callers.cidrs) if callers.cidrs else origin


def _rule(rule: WrittenRule) -> Rule:
    words = rule.words
    callers = tuple(_callers(one.value) for one in rule.callers)
    return Rule(
        name=rule.name,
        callers=tuple(one for one in callers if one is not None),
        ports=tuple(part.value for part in words.ports),
        methods=tuple(part.value for part in words.methods),
        paths=tuple(part.value for part in words.paths),
        hosts=tuple(part.value for part in words.hosts),
        headers=tuple(part.value for part in words.headers),
        grpc=tuple(part.value for part in words.grpc),
        token=words.token.value if words.token is not None else None,
        when=words.when.value if words.when is not None else "",
    )


def _places(rule: WrittenRule) -> RulePlaces:
    unauthenticated = (c.place for c in rule.callers if isinstance(c.value.origin, UnauthenticatedCallers))
    return RulePlaces(
        name=rule.place,
        ports=tuple(port.place for port in rule.words.ports),
        http=rule.words.http,
        unauthenticated=next(unauthenticated, None),
    )
