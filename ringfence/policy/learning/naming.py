"""Names for learned rules: the caller, and what it does. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ringfence.spiffe import SpiffeId, TrustDomain

LIMIT_CHARACTERS: Final = 63
_FOREIGN: Final = re.compile(r"[^a-z0-9]+")
_METHODS_NAMED: Final = 3


def caller_name(caller: SpiffeId | None, namespace: str, trust_domain: TrustDomain) -> str:
    """A caller as one word, as short as it can be told from others of the mesh."""
    if caller is None:
        return "unauthenticated"
    if caller.trust_domain != trust_domain:
        return _word(f"{caller.trust_domain.name} {' '.join(caller.segments)}")
    if caller.namespace is not None and caller.service_account is not None:
        account = caller.service_account
        return _word(account if caller.namespace == namespace else f"{caller.namespace} {account}")
    return _word(" ".join(caller.segments))


def action_name(kind: str, methods: Iterable[str]) -> str:
    """What a rule lets its caller do, as one word."""
    if kind == "tcp":
        return "connects"
    if kind == "grpc":
        return "calls"
    named = sorted(methods)
    return "-".join(word.lower() for word in named) if len(named) <= _METHODS_NAMED else "requests"


def unique(name: str, taken: set[str]) -> str:
    """``name``, cut and numbered so that no other rule has it; it is taken then."""
    found = name[:LIMIT_CHARACTERS].strip("-")
    number = 1
    while found in taken:
        number += 1
        end = f"-{number}"
        found = name[: LIMIT_CHARACTERS - len(end)].strip("-") + end
    taken.add(found)
    return found


def _word(text: str) -> str:
    return _FOREIGN.sub("-", text.lower()).strip("-") or "caller"
