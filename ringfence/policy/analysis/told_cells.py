"""Calls and cells as a person and as a program read them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.cells.callers import Identity
from ringfence.policy.analysis.cells.cell import Cell, Condition, Word
from ringfence.policy.analysis.explained import call_document
from ringfence.policy.analysis.spelled import spelled_identity
from ringfence.policy.facts import Token, VerifiedToken

_SHOWN_VALUES = 6


def told_call(call: Call) -> str:
    """One call on a line: ``spiffe://… calls shop/orders:8080 GET /orders/1 with header x: 1``."""
    what = "opaque TCP" if call.opaque else f"{call.method} {call.path}"
    parts = [f"{spelled_identity(call.caller)} calls {call.service}:{call.port} {what}"]
    if call.host:
        parts.append(f"host {call.host}")
    parts += [f"header {name}: {value}" for name, value in call.headers]
    if call.token is not None:
        parts.append(_told_token(call.token))
    if call.address:
        parts.append(f"from {call.address}")
    return ", ".join(parts)


def _told_token(token: Token) -> str:
    if not isinstance(token, VerifiedToken):
        return "an invalid token"
    claims = " ".join(f"{name}={value}" for name, value in token.claims.items() if name != "auth_time")
    return f"a token of {token.issuer}{f' with {claims}' if claims else ''}"


def told_words(words: Iterable[Word]) -> str:
    """What a cell's calls have in common: ``port 8080, method GET or POST``."""
    return ", ".join(f"{word.kind} {_listed(word.values, ' or ')}" for word in words)


def told_callers(callers: Sequence[Identity]) -> str:
    """Whose calls they are."""
    return _listed([identity.label for identity in callers], ", ")


def told_conditions(conditions: Iterable[Condition]) -> str:
    """What they hang on; empty where on nothing."""
    return " and ".join(f"{one.text!a} is {'true' if one.value else 'false'}" for one in conditions)


def _listed(values: Sequence[str], joined: str) -> str:
    shown = joined.join(values[:_SHOWN_VALUES])
    return shown if len(values) <= _SHOWN_VALUES else f"{shown} and {len(values) - _SHOWN_VALUES} more"


def cell_document(cell: Cell) -> dict[str, object]:
    """What calls a cell has, for a program."""
    return {
        "callers": [
            {"id": str(one.spiffe_id) if one.spiffe_id is not None else None, "label": one.label}
            for one in cell.callers
        ],
        "words": {word.kind: list(word.values) for word in cell.words},
        "if": [{"when": one.text, "is": one.value} for one in cell.conditions],
        "example": call_document(cell.call),
    }
