"""Conditions as binding looks at them: those of documents were checked where they were read. Pure."""

from __future__ import annotations

from functools import lru_cache

from ringfence.policy.conditions import Condition, ConditionError, Conditions

_KEPT = 4_096


def reads_call(text: str) -> bool:
    """Whether a condition reads what only a request has; not so where it is none."""
    found = compiled(text) if text else None
    return isinstance(found, Condition) and found.reads_call


def reads_token(text: str) -> bool:
    """Whether a condition reads what a token says; not so where it is none."""
    found = compiled(text) if text else None
    return isinstance(found, Condition) and any(name.startswith("token.") for name in found.reads)


@lru_cache(_KEPT)
def compiled(text: str) -> Condition | ConditionError:
    """The condition, or what is wrong with it; a file that is read again costs no second look."""
    try:
        return Conditions().compile(text)
    except ConditionError as error:
        return error
