"""Policy as values, after the documents were read and checked. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringfence.spiffe import TrustDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiffeIdPattern:
    """A SPIFFE ID, exact or with whole path segments ``*``; each ``*`` stands for exactly one segment."""

    trust_domain: TrustDomain
    segments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceCallers:
    """Every identity ``ns/<namespace>/sa/<any>`` of the mesh's own trust domain."""

    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDomainCallers:
    """Every identity of one trust domain."""

    trust_domain: TrustDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class UnauthenticatedCallers:
    """Every caller that shows no identity, which only permissive ports let in; nobody who shows one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedCallers:
    """Every caller with a verified identity, of whatever trust domain."""


Named = SpiffeIdPattern | NamespaceCallers | TrustDomainCallers | AuthenticatedCallers | UnauthenticatedCallers


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrowedCallers:
    """Those of ``callers`` whose direct peer's address lies in one of ``cidrs`` (canonical, at least one).

    An address is no identity: it only ever narrows one. One that is not known lies in none of them; but a denylist
    speaks of it all the same.
    """

    callers: Named
    cidrs: tuple[str, ...]


Callers = Named | NarrowedCallers


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    """A request header, ``name`` in lower case.

    With ``values``: the header is there exactly once and its value is one of them. Without: it is there (``present``)
    or it is not. A header that is there twice never has a value: two readers would read it as two things. In a denylist
    it has each of its values, so that a second one is no way round it.
    """

    name: str
    values: tuple[str, ...] = ()
    present: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcMethod:
    """A method of a gRPC service (``package.Service``, as in ``:path``); ``method`` None: each of it."""

    service: str
    method: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMatch:
    """What a request's verified token must say; an empty part is open, but a token there must be.

    ``issuers``: names of ``TokenIssuer``s, any of which vouches; empty: any that the workload knows. ``scopes``: each
    of them. ``claims``: each claim has one of its values, or a list with one of them in it; a name with dots leads into
    nested objects. ``acr``: any; ``amr``: each. ``max_age_seconds``: since ``auth_time``.
    """

    issuers: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    claims: tuple[tuple[str, tuple[str, ...]], ...] = ()
    acr: tuple[str, ...] = ()
    amr: tuple[str, ...] = ()
    max_age_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Speaks of a call when a caller matches and all that follows does; an empty part is open.

    ``methods``, ``paths``, ``hosts``, ``headers``, ``grpc`` and ``token`` are HTTP words: a rule that has one of them
    never speaks of opaque TCP. ``paths`` and ``grpc`` are alternatives to each other: one of either suffices.
    ``hosts``: lower case, without port; ``*.`` before a name stands for one or more labels; a denylist's speak of a
    request without a host, too, of a host with dots at its end as of one without, and of a path with parameters in its
    last segment as of one without. ``when``: a CEL expression; one that cannot be evaluated is false, in a denylist
    true.
    """

    name: str
    callers: tuple[Callers, ...]
    ports: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()
    grpc: tuple[GrpcMethod, ...] = ()
    token: TokenMatch | None = None
    when: str = ""

    @property
    def speaks_http(self) -> bool:
        """Whether it has words that only HTTP gives a meaning; what ``when`` reads is not looked at."""
        return bool(self.methods or self.paths or self.hosts or self.headers or self.grpc or self.token is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowlist:
    """A named list of rules that protects one workload; its full name is ``<namespace>/<name>``."""

    namespace: str
    name: str
    rules: tuple[Rule, ...]

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Denylist:
    """A named list of rules that refuse what they speak of, whatever an allowlist permits."""

    namespace: str
    name: str
    rules: tuple[Rule, ...]

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """All that decides about the calls of one workload, but for its ports and its trust domain.

    ``observe_until``: Unix seconds; until then what no rule permits passes as ``would_deny``; None: default deny.
    """

    allowlists: tuple[Allowlist, ...] = ()
    denylists: tuple[Denylist, ...] = ()
    observe_until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspection:
    """RFC 7662: opaque tokens are shown to ``url`` by the sidecar; ``secret`` is the client's, never shown."""

    url: str
    client_id: str
    secret: str = field(repr=False)
    cache_seconds: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssuer:
    """Whose tokens a workload believes; ``name`` is ``<namespace>/<name>``.

    ``keys``: the JWK set as JSON text, public keys only, that the control plane read inline or fetched; empty: it never
    had any, so every token of the issuer is refused. ``header``/``cookie``: where the token stands, one of the two.
    ``claim_headers``: (header, claim): what the app is told of a verified token, after such headers of the caller's own
    were taken out. ``introspection``: None for JWTs.
    """

    name: str
    issuer: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...] = ("RS256", "ES256", "PS256", "EdDSA")
    keys: str = ""
    header: str = "authorization"
    cookie: str = ""
    claim_headers: tuple[tuple[str, str], ...] = ()
    leeway_seconds: int = 30
    introspection: Introspection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressRule:
    """A destination outside the mesh that the app may reach: its address is in one of ``cidrs``, or it is asked for by
    one of ``hosts``; and its port is one of ``ports``, or there are none.

    ``hosts`` are lower-case DNS names, ``*.`` before one stands for one or more labels; ``cidrs`` are canonical. At
    least one of the two is not empty.
    """

    name: str
    hosts: tuple[str, ...] = ()
    cidrs: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
