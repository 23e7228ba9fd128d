"""Policy documents as written: read and checked each by itself, with places, but not resolved. Pure; next ``bind``.

What only the rest of the mesh can tell stays a name here: services, labels, caller sets, roles, token issuers and
selectors. A name that may lead into another namespace is a full name already, ``<namespace>/<name>``, as the reader
puts the document's own namespace before a bare one. What needs nobody else is a value of ``model``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from ringfence.policy.labels import Labels
from ringfence.policy.model import EgressRule, GrpcMethod, HeaderMatch, Named, TokenIssuer, TokenMatch
from ringfence.policy.problems import Place

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Placed(Generic[T]):
    """A value and where it stands; equal when the values are."""

    value: T
    place: Place = field(compare=False)


class Mode(StrEnum):
    """Whether a document is in force, or is only judged beside what is."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a document is called; ``name`` and ``namespace`` are "" where they were wrong."""

    namespace: str
    name: str
    place: Place

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSelector:
    """One service of the document's namespace."""

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceSelector:
    """Every service of the document's namespace that has all of ``labels``."""

    labels: Labels = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSelector:
    """Every service of the mesh that has all of ``labels``; only documents of the root namespace may say it."""

    labels: Labels = ()


Selector = ServiceSelector | NamespaceSelector | MeshSelector


def labels_of(selector: Selector) -> Labels:
    """By which a selector chooses; none where it does not."""
    return () if isinstance(selector, ServiceSelector) else selector.labels


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReference:
    """The identity of one service, by its full name."""

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledServices:
    """The identities of the services of ``namespace`` that have all of ``labels`` (at least one)."""

    namespace: str
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSetReference:
    """Whom a caller set names, by its full name."""

    caller_set: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Anyone:
    """Every caller, with or without an identity; only denylists say it."""


Origin = Named | ServiceReference | LabelledServices | CallerSetReference | Anyone


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCallers:
    """One item of ``from``; ``cidrs`` (canonical) narrow it, and are empty where it is open."""

    origin: Origin
    cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a rule or a permission says of calls, beside who calls; an empty part is open.

    The values are those of ``model.Rule``. ``token.issuers`` are full names of ``TokenIssuer``s; ``issuers`` has them
    once more with their places.
    """

    ports: tuple[Placed[int], ...] = ()
    methods: tuple[Placed[str], ...] = ()
    paths: tuple[Placed[str], ...] = ()
    hosts: tuple[Placed[str], ...] = ()
    headers: tuple[Placed[HeaderMatch], ...] = ()
    grpc: tuple[Placed[GrpcMethod], ...] = ()
    token: Placed[TokenMatch] | None = None
    issuers: tuple[Placed[str], ...] = ()
    when: Placed[str] | None = None

    @property
    def http(self) -> Place | None:
        """Where the first of the words stands that only HTTP gives a meaning; None when there is none."""
        return next(self._http_places(), None)

    def _http_places(self) -> Iterator[Place]:
        for words in (self.methods, self.paths, self.hosts, self.headers, self.grpc):
            yield from (word.place for word in words)
        if self.token is not None:
            yield self.token.place


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRule:
    """A rule; ``place`` is that of its name. With ``roles`` (full names) its words but token and when are empty:
    the roles say what is permitted."""

    name: str
    place: Place
    callers: tuple[Placed[WrittenCallers], ...]
    words: Words
    roles: tuple[Placed[str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowlistDocument:
    """An allowlist; rules in which something is wrong are left out, never cut."""

    header: Header
    selector: Placed[Selector]
    mode: Mode
    rules: tuple[WrittenRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenylistDocument:
    """A denylist; its rules have no token."""

    header: Header
    selector: Placed[Selector]
    mode: Mode
    rules: tuple[WrittenRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """One permission of a role; ``place`` is that of its name."""

    name: str
    place: Place
    words: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleDocument:
    """A named set of permissions, for nobody yet."""

    header: Header
    permissions: tuple[Permission, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSetDocument:
    """A named set of callers; none of them is a caller set or anyone."""

    header: Header
    callers: tuple[Placed[WrittenCallers], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleBindingDocument:
    """Gives roles (full names) to callers, at the services selected."""

    header: Header
    selector: Placed[Selector]
    mode: Mode
    roles: tuple[Placed[str], ...]
    callers: tuple[Placed[WrittenCallers], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostureDocument:
    """The services selected are only observed, until ``until`` (Unix seconds)."""

    header: Header
    selector: Placed[Selector]
    until: Placed[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssuerDocument:
    """A token issuer as written, for the services selected.

    ``issuer`` lacks what is not in the document: its ``keys`` are there when they are inline, else ``jwks_url`` says
    where to fetch them; the secret of its ``introspection`` is read from ``secret_file``.
    """

    header: Header
    selector: Placed[Selector]
    issuer: TokenIssuer
    jwks_url: Placed[str] | None = None
    secret_file: Placed[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressDocument:
    """What the apps of the services selected may reach outside the mesh; rules bear their full names."""

    header: Header
    selector: Placed[Selector]
    rules: tuple[Placed[EgressRule], ...]


PolicyDocument = (
    AllowlistDocument
    | DenylistDocument
    | RoleDocument
    | CallerSetDocument
    | RoleBindingDocument
    | PostureDocument
    | TokenIssuerDocument
    | EgressDocument
)
