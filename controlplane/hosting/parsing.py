"""A platform's documents read each by itself, and what each refers to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from controlplane.intake.judging import DOCUMENT_KINDS, Document
from ringfence.platform import WrittenDocument
from ringfence.policy.envelope import read_kinds
from ringfence.policy.problems import Problem, errors, shown
from ringfence.policy.written import (
    AllowlistDocument,
    CallerSetDocument,
    CallerSetReference,
    DenylistDocument,
    EgressDocument,
    Origin,
    Placed,
    PostureDocument,
    RoleBindingDocument,
    RoleDocument,
    TokenIssuerDocument,
    Words,
    WrittenCallers,
)
from ringfence.routing.documents import RouteDocument

DOCUMENT_LIMIT_BYTES: Final = 1_500_000  # what an API server takes of one object


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A document's name, ``<kind>/<namespace>/<name>``, in its parts."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, text: str) -> Name:
        """The parts of ``text``; what is missing is empty."""
        kind, _, rest = text.partition("/")
        namespace, _, name = rest.partition("/")
        return cls(kind=kind, namespace=namespace, name=name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parsed:
    """One version of one document, read; ``document`` is None where something is wrong in it by itself.

    ``origins``: whom it names as callers. ``roles``, ``caller_sets``, ``issuers``: full names of what it refers to.
    """

    written: WrittenDocument
    name: Name
    document: Document | None
    problems: tuple[Problem, ...] = ()
    origins: tuple[Origin, ...] = ()
    roles: frozenset[str] = frozenset()
    caller_sets: frozenset[str] = frozenset()
    issuers: frozenset[str] = frozenset()


def parse(written: WrittenDocument) -> Parsed:
    """Read one document. It must be what its name says, so that nobody's document speaks as another's."""
    name = Name.of(written.name)
    if len(written.content) > DOCUMENT_LIMIT_BYTES:
        message = f"document has {len(written.content)} bytes"
        return _wrong(written, name, [_head(written, message, f"at most {DOCUMENT_LIMIT_BYTES}: split it")])
    documents, problems = read_kinds(written.content, written.name, DOCUMENT_KINDS)
    if errors(problems):
        return _wrong(written, name, problems)
    if len(documents) != 1:
        return _wrong(written, name, [_head(written, f"{len(documents)} documents in one", "write exactly one")])
    (document,) = documents
    kind, full_name = named(document)
    if (kind, full_name) != (name.kind, f"{name.namespace}/{name.name}"):
        message = f"document says that it is {kind} {shown(full_name)}"
        return _wrong(written, name, [_head(written, message, "write it under its own name")])
    callers = tuple(dict.fromkeys(item.value.origin for item in _callers(document)))
    words = tuple(_words(document))
    return Parsed(
        written=written,
        name=name,
        document=document,
        problems=tuple(problems),
        origins=callers,
        roles=frozenset(_roles(document)),
        caller_sets=frozenset(one.caller_set for one in callers if isinstance(one, CallerSetReference)),
        issuers=frozenset(issuer.value for one in words for issuer in one.issuers),
    )


def named(document: Document) -> tuple[str, str]:
    """A document's kind and its full name."""
    if isinstance(document, RouteDocument):
        return _KINDS[RouteDocument], document.route.name
    return _KINDS[type(document)], document.header.full_name


_KINDS: Final[Mapping[type, str]] = {
    AllowlistDocument: "Allowlist",
    DenylistDocument: "Denylist",
    RoleDocument: "Role",
    CallerSetDocument: "CallerSet",
    RoleBindingDocument: "RoleBinding",
    PostureDocument: "Posture",
    TokenIssuerDocument: "TokenIssuer",
    EgressDocument: "Egress",
    RouteDocument: "Route",
}


def _head(written: WrittenDocument, message: str, mend: str) -> Problem:
    return Problem(written.name, 1, 1, message, mend)


def _wrong(written: WrittenDocument, name: Name, problems: Iterable[Problem]) -> Parsed:
    return Parsed(written=written, name=name, document=None, problems=tuple(problems))


def _callers(document: Document) -> Iterator[Placed[WrittenCallers]]:
    match document:
        case AllowlistDocument() | DenylistDocument():
            for rule in document.rules:
                yield from rule.callers
        case RoleBindingDocument() | CallerSetDocument():
            yield from document.callers
        case _:
            return


def _roles(document: Document) -> Iterator[str]:
    match document:
        case AllowlistDocument() | DenylistDocument():
            yield from (role.value for rule in document.rules for role in rule.roles)
        case RoleBindingDocument():
            yield from (role.value for role in document.roles)
        case _:
            return


def _words(document: Document) -> Iterator[Words]:
    match document:
        case AllowlistDocument() | DenylistDocument():
            yield from (rule.words for rule in document.rules)
        case RoleDocument():
            yield from (permission.words for permission in document.permissions)
        case _:
            return
