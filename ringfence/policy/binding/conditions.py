"""Conditions that do not compile, are no truth or could cost too much, told at their place. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from ringfence.policy.binding.catalog import Catalog
from ringfence.policy.binding.lists import FlatList
from ringfence.policy.conditions import Condition, ConditionError, Conditions
from ringfence.policy.problems import Problem
from ringfence.policy.written import Placed

_KEPT = 4_096


def check_conditions(catalog: Catalog, lists: Iterable[FlatList]) -> Iterator[Problem]:
    """What is wrong with a condition, in roles that nobody uses as well; each place once."""
    written = [one.words.when for role in catalog.roles.values() for one in role.permissions]
    written += [one.words.when for flat in lists for one in flat.rules]
    seen: set[Placed[str]] = set()
    for when in written:
        if when is None or when in seen:
            continue
        seen.add(when)
        found = compiled(when.value)
        if isinstance(found, ConditionError):
            yield when.place.problem(str(found))


def reads_call(text: str) -> bool:
    """Whether a condition reads what only a request has; not so where it is none."""
    found = compiled(text) if text else None
    return isinstance(found, Condition) and found.reads_call


@lru_cache(_KEPT)
def compiled(text: str) -> Condition | ConditionError:
    """The condition, or what is wrong with it; a file that is read again costs no second look."""
    try:
        return Conditions().compile(text)
    except ConditionError as error:
        return error
