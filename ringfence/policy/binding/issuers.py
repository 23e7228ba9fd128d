"""Whose tokens each service believes, and whether rules that ask for one can ever be satisfied. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ringfence.policy.binding.catalog import Catalog
from ringfence.policy.binding.conditions import reads_token
from ringfence.policy.binding.lists import FlatList
from ringfence.policy.binding.selection import Selection
from ringfence.policy.bounds import ISSUER_LIMIT
from ringfence.policy.model import TokenIssuer
from ringfence.policy.problems import Problem
from ringfence.policy.services import unknown_name
from ringfence.policy.written import TokenIssuerDocument

Issuers = Mapping[str, tuple[TokenIssuer, ...]]
"""By full name of the service, in the order of their names."""


def bind_issuers(catalog: Catalog, selection: Selection, root_namespace: str, problems: list[Problem]) -> Issuers:
    """The issuers of each service that has any. Those of the root namespace come first, so that nobody makes one of
    them, on which a denylist of the mesh may rest, the one that is too much."""
    found: dict[str, list[TokenIssuer]] = {}

    def rank(one: tuple[str, TokenIssuerDocument]) -> tuple[bool, str]:
        return one[1].header.namespace != root_namespace, one[0]

    for name, document in sorted(catalog.issuers.items(), key=rank):
        for service in selection.select(document.header, document.selector, "token issuer"):
            held = found.setdefault(service, [])
            held.append(document.issuer)
            if len(held) == ISSUER_LIMIT + 1:
                message = f"{service} would have more than {ISSUER_LIMIT} token issuers with {name}"
                problems.append(document.selector.place.problem(message, "select fewer services"))
    return {service: tuple(sorted(issuers, key=lambda one: one.name)) for service, issuers in found.items()}


def check_token_rules(
    flat: FlatList, services: Iterable[str], issuers: Issuers, known: Mapping[str, object]
) -> Iterable[Problem]:
    """Rules of ``flat``, in force at ``services``, that ask for a token that no issuer of one of these makes."""
    names = tuple(services)
    for rule in flat.rules:
        when = rule.words.when
        if when is not None and reads_token(when.value):
            bare = next((name for name in names if not issuers.get(name)), None)
            if bare is not None:
                message = f"rule {rule.rule.name} reads a token in when, but no token issuer is in force at {bare}"
                yield when.place.warning(message, "select the service in a TokenIssuer, or name no token")
        if rule.words.token is None or rule.rule.token is None:
            continue
        missing = [issuer for issuer in rule.words.issuers if issuer.value not in known]
        yield from (unknown_name("token issuer", issuer.value, issuer.place, known) for issuer in missing)
        if missing:
            continue
        wanted = rule.rule.token.issuers
        without = [name for name in names if not _has(issuers.get(name, ()), wanted)]
        if without:
            more = f" and {len(without) - 1} more services" if len(without) > 1 else ""
            which = f"none of {', '.join(wanted)} is" if wanted else "no token issuer is"
            message = f"rule {rule.rule.name} asks for a token, but {which} in force at {without[0]}{more}"[:600]
            yield rule.words.token.place.problem(message, "select the service in a TokenIssuer, or remove token")


def _has(issuers: tuple[TokenIssuer, ...], wanted: tuple[str, ...]) -> bool:
    return any(not wanted or issuer.name in wanted for issuer in issuers)
