"""``when`` of Istio's rules: one attribute of the call each. Pure."""

from __future__ import annotations

import re
from typing import Final

from ringfence.policy.importing.draft import Draft
from ringfence.policy.importing.imported import CannotSayError, either, quoted
from ringfence.policy.importing.istio_calls import ports_of, say_ports
from ringfence.policy.importing.istio_sources import Names, networks, spiffe_id, token_condition
from ringfence.policy.importing.matching import has_star, matched
from ringfence.policy.problems import shown
from ringfence.policy.yamlnodes import MappingReader

_HEADER: Final = re.compile(r"request\.headers\[([A-Za-z0-9_-]+)\]")
_CLAIM: Final = re.compile(r"request\.auth\.claims((?:\[[^\[\]]+\])+)")
_PLAIN: Final = {"source.namespace": "source.namespace", "source.principal": "source.spiffe_id"}
_CLAIMS: Final = {"request.auth.audiences": "aud", "request.auth.presenter": "azp"}


def read_condition(item: MappingReader, names: Names, draft: Draft) -> None:
    """Put one condition into ``draft``. Raises CannotSayError, ValueError."""
    key = item.text("key")
    for field in ("values", "notValues"):
        if field in item:
            _say(item, field, key, names, draft)
    if "values" not in item and "notValues" not in item:
        raise CannotSayError(item.place(), f"{shown(key)} has no values")
    item.finish()


def _say(item: MappingReader, field: str, key: str, names: Names, draft: Draft) -> None:
    values, place = list(item.texts(field)), item.place(field)
    wanted = field == "values"
    if key == "source.ip" and wanted and not draft.cidrs:
        draft.cidrs = networks(values, place)
        return
    if key == "destination.port":
        if wanted:
            say_ports(item, field, values, draft)
        else:
            draft.when.append(f"!(destination.port in [{', '.join(map(str, ports_of(item, field, values)))}])")
        return
    header = _HEADER.fullmatch(key)
    if header is not None and wanted and "headers" not in draft.to and not any("*" in value for value in values):
        draft.to["headers"] = [{"name": header[1].lower(), "values": values}]
        return
    condition = _condition(item, key, values, names)
    if condition is None:
        raise CannotSayError(item.place("key"), f"{shown(key)} is nothing that rules here may ask for")
    draft.when.append(condition if wanted else f"!({condition})")


def _condition(item: MappingReader, key: str, values: list[str], names: Names) -> str | None:
    if key == "source.principal":
        starred = [value if value.startswith("*") else spiffe_id(value, names) for value in values]
        return matched("source.spiffe_id", starred)
    if key in _PLAIN:
        return matched(_PLAIN[key], values)
    if key == "request.auth.principal":
        return token_condition(values, names, item.place("key"))
    header = _HEADER.fullmatch(key)
    if header is not None:
        name = quoted(header[1].lower())
        return f"({name} in request.headers && {matched(f'request.headers[{name}]', values)})"
    claim = _CLAIM.fullmatch(key)
    path = re.findall(r"\[([^\[\]]+)\]", claim[1]) if claim is not None else [_CLAIMS[key]] if key in _CLAIMS else []
    return _claim_condition(path, values) if path else None


def _claim_condition(path: list[str], values: list[str]) -> str:
    """A claim is a text or a list of them; one that is not there, or something else, is none of the values."""
    if any(has_star(value) for value in values):
        raise ValueError("a star in a value of a claim")
    where, guards = "token.claims", ["token != null"]
    for name in path:
        guards.append(f"{quoted(name)} in {where}")
        where = f"{where}[{quoted(name)}]"
    found = [f"{where} == {quoted(value)} || (type({where}) == list && {quoted(value)} in {where})" for value in values]
    return f"({' && '.join(guards)} && {either([f'({one})' for one in found])})"
