"""Policy as values, after the documents were read and checked. Pure."""

from __future__ import annotations

from dataclasses import dataclass

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


Callers = SpiffeIdPattern | NamespaceCallers | TrustDomainCallers | UnauthenticatedCallers


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Permits a call when a caller matches and port, method and path match; an empty tuple leaves that part open.

    ``methods`` and ``paths`` are HTTP words: a rule that has either never permits opaque TCP.
    """

    name: str
    callers: tuple[Callers, ...]
    ports: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowlist:
    """A named list of rules that protects one workload; its full name is ``<namespace>/<name>``."""

    namespace: str
    name: str
    rules: tuple[Rule, ...]

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"
