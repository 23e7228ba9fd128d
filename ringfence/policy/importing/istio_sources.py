"""``source`` of Istio's rules: principals, namespaces, service accounts, addresses and tokens. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ringfence.policy.importing.draft import Draft
from ringfence.policy.importing.imported import CannotSayError, Words, either, quoted
from ringfence.policy.importing.matching import has_star, matched
from ringfence.policy.problems import Place, shown
from ringfence.policy.yamlnodes import MappingReader

OWN: Final = "cluster.local"
_IDENTITIES: Final = ("principals", "serviceAccounts", "namespaces")
_ADDRESSES: Final = ("notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What names lead to: the mesh's trust domain ("" if not told), and TokenIssuers by their ``iss``."""

    trust_domain: str
    issuers: Mapping[str, str]


def read_source(source: MappingReader, namespace: str, names: Names, draft: Draft) -> None:
    """Put what a source says into ``draft``. Raises CannotSayError, ValueError."""
    given = [field for field in _IDENTITIES if field in source]
    for field in given:
        values = list(source.texts(field))
        callers = _callers(field, values, namespace, names, draft.denies) if len(given) == 1 else None
        if callers is not None:
            draft.callers = callers
        else:
            draft.callers = [{"authenticated": True}]
            draft.when.append(_condition(field, values, namespace, names))
    for field in _IDENTITIES:
        negated = f"not{field[:1].upper()}{field[1:]}"
        if negated in source:
            draft.when.append(f"!({_condition(field, list(source.texts(negated)), namespace, names)})")
    if "ipBlocks" in source:
        draft.cidrs += networks(list(source.texts("ipBlocks")), source.place("ipBlocks"))
    for field in _ADDRESSES:
        if field in source:
            what = "which the direct peer may claim" if "emote" in field else "and conditions know no networks"
            raise CannotSayError(source.place(field), f"{field} speaks of addresses, {what}")
    if "requestPrincipals" in source:
        draft.when.append(token_condition(list(source.texts("requestPrincipals")), names, source.place()))
    if "notRequestPrincipals" in source:
        draft.when.append(f"!({token_condition(list(source.texts('notRequestPrincipals')), names, source.place())})")
    source.finish()


def spiffe_id(principal: str, names: Names) -> str:
    """``cluster.local`` is Istio's word for the mesh's own trust domain, whatever that is."""
    domain, slash, rest = principal.partition("/")
    if domain == OWN and slash and names.trust_domain:
        domain = names.trust_domain
    return f"spiffe://{domain}{slash}{rest}"


def networks(values: list[str], place: Place) -> list[str]:
    """CIDRs in canonical form; an address alone is a network of one. Raises CannotSayError."""
    found = []
    for value in values:
        try:
            found.append(str(ipaddress.ip_network(value, strict=False)))
        except ValueError as error:
            raise CannotSayError(place, f"{shown(value)} is no network") from error
    return list(dict.fromkeys(found))


def token_condition(values: list[str], names: Names, place: Place) -> str:
    """Whether there is a token of one of these principals, ``<issuer>/<subject>``. Raises CannotSayError."""
    conditions = []
    for value in values:
        issuer, slash, subject = value.rpartition("/")
        if value == "*":
            conditions.append("token != null")
            continue
        if not slash or has_star(issuer) or (has_star(subject) and subject != "*"):
            raise CannotSayError(place, f"{shown(value)} names tokens by a part of their issuer or subject")
        known = names.issuers.get(issuer)
        if known is None:
            raise CannotSayError(place, f"no RequestAuthentication here is of issuer {shown(issuer)}")
        condition = f"token.issuer == {quoted(known)}"
        conditions.append(condition if subject == "*" else f"({condition} && token.subject == {quoted(subject)})")
    return conditions[0] if conditions == ["token != null"] else f"(token != null && {either(conditions)})"


def _callers(field: str, values: list[str], namespace: str, names: Names, denies: bool) -> list[Words] | None:
    """Our callers for exactly these; None where only a condition can say them."""
    callers: list[Words] = []
    for value in values:
        if field == "namespaces":
            # Ours are of the mesh's own trust domain alone: fewer, which may only be permitted.
            if denies or has_star(value):
                return None
            callers.append({"namespace": value})
        elif field == "serviceAccounts":
            if not names.trust_domain:
                return None
            callers.append({"spiffeId": spiffe_id(f"{OWN}/ns/{_account(value, namespace)}", names)})
        elif value == "*":
            callers.append({"authenticated": True})
        elif "*" not in value.removesuffix("/sa/*"):
            callers.append({"spiffeId": spiffe_id(value, names)})
        else:
            return None
    return callers


def _account(value: str, namespace: str) -> str:
    there, slash, account = value.partition("/")
    return f"{there}/sa/{account}" if slash else f"{namespace}/sa/{value}"


def _condition(field: str, values: list[str], namespace: str, names: Names) -> str:
    if field == "namespaces":
        return matched("source.namespace", values)
    if field == "principals":
        if values == ["*"]:
            return "source.authenticated"
        return matched("source.spiffe_id", [_starred(value, names) for value in values])
    if any("*" in value for value in values):
        raise ValueError("a star within a service account")
    accounts = [f"/ns/{_account(value, namespace)}" for value in values]
    return matched("source.spiffe_id", [f"*{account}" for account in accounts])


def _starred(value: str, names: Names) -> str:
    return value if value.startswith("*") else spiffe_id(value, names)
