"""A comparison as a person and as a program read it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ringfence.policy.analysis.changes import Became, Change, Comparison, reason_word, rule_of
from ringfence.policy.analysis.explained import decision_document, place_document
from ringfence.policy.analysis.told_cells import (
    cell_document,
    told_call,
    told_callers,
    told_conditions,
    told_words,
)
from ringfence.policy.analysis.world import Effect, World
from ringfence.policy.decision import Decision
from ringfence.policy.problems import Place
from ringfence.policy.reasons import DenyReason

_SIGNS = {Became.PERMITTED: "+", Became.DENIED: "-", Became.REASON: "~"}
_SHOWN_CELLS = 5


@dataclass(frozen=True, slots=True)
class ChangeGroup:
    """Changes of one service and the same callers, for which the same rules are responsible."""

    changes: tuple[Change, ...]

    @property
    def first(self) -> Change:
        return self.changes[0]


def grouped(changes: Sequence[Change]) -> list[ChangeGroup]:
    """Changes that an author would explain in one sentence, together; what becomes permitted comes first."""
    groups: dict[object, list[Change]] = {}
    for change in changes:
        rules = [(reason_word(decision), rule_of(decision)) for decision in change.cell.decisions]
        key = (change.service, change.became, change.cell.callers, *rules)
        groups.setdefault(key, []).append(change)
    order = list(Became)
    found = [ChangeGroup(tuple(group)) for group in groups.values()]
    return sorted(found, key=lambda group: (group.first.service, order.index(group.first.became)))


def told_comparison(comparison: Comparison, old: World | None = None, new: World | None = None) -> Iterator[str]:
    """The comparison as lines; one line where nothing differs. From ``old`` and ``new`` come the places of rules."""
    groups = grouped(comparison.changes)
    service = ""
    for group in groups:
        if group.first.service != service:
            service = group.first.service
            yield service
        yield from _told_group(group, old, new)
    differing = len(comparison.looked_at)
    examined = f"{comparison.cells} classes of calls to {differing} service{'s' * (differing != 1)} of another policy"
    yield from (f"note: {note}" for note in comparison.notes)
    if not groups:
        yield f"no call is judged otherwise ({examined})"
        return
    yield ", ".join([*_counted(groups), f"out of {examined}"])


def _counted(groups: Sequence[ChangeGroup]) -> Iterator[str]:
    told = {Became.PERMITTED: "permitted", Became.DENIED: "denied", Became.REASON: "denied for another reason"}
    for became, word in told.items():
        count = sum(group.first.became is became for group in groups)
        if count:
            yield f"{count} {'groups of calls become' if count > 1 else 'group of calls becomes'} {word}"


def _told_group(group: ChangeGroup, old: World | None, new: World | None) -> Iterator[str]:
    first = group.first
    yield f"  {_SIGNS[first.became]} {first.became}: {told_callers(first.cell.callers)}"
    for change in group.changes[:_SHOWN_CELLS]:
        conditions = told_conditions(change.cell.conditions)
        hangs = f", if {conditions}" if conditions else ""
        yield f"      {told_words(change.cell.words)}{hangs}"
    if len(group.changes) > _SHOWN_CELLS:
        yield f"      and {len(group.changes) - _SHOWN_CELLS} more (--json tells all)"
    doubt = "" if first.certain else " (no call was found for which the conditions come to that)"
    yield f"      for example: {told_call(first.cell.call)}{doubt}"
    yield f"      before: {told_decision(first.old, old)}"
    yield f"      after:  {told_decision(first.new, new)}"


def told_decision(decision: Decision, world: World | None) -> str:
    """A verdict with the rule responsible, and where that stands."""
    rule, place, reason = rule_of(decision), rule_place(decision, world), reason_word(decision)
    if decision.permitted and not reason:
        return f"permitted by {rule}" + (f" ({place})" if place is not None else "")
    word = "by" if reason == DenyReason.DENYLISTED else "nearest"
    near = f" ({word} {rule}{f', {place}' if place is not None else ''})" if rule else ""
    return ("permitted while observed, would be denied: " if decision.permitted else "denied: ") + reason + near


def rule_place(decision: Decision, world: World | None) -> Place | None:
    """Where the rule stands that is responsible."""
    effect = Effect.DENY if reason_word(decision) == DenyReason.DENYLISTED else Effect.ALLOW
    return world.places.get((effect, rule_of(decision))) if world is not None else None


def comparison_document(
    comparison: Comparison, old: World | None = None, new: World | None = None
) -> dict[str, object]:
    """The comparison for a program, every change of it."""
    return {
        "differs": bool(comparison.changes),
        "services": list(comparison.looked_at),
        "cells": comparison.cells,
        "notes": list(comparison.notes),
        "changes": [
            {
                "service": change.service,
                "became": change.became.value,
                **cell_document(change.cell),
                "certain": change.certain,
                "before": judged_document(change.old, old),
                "after": judged_document(change.new, new),
            }
            for change in comparison.changes
        ],
    }


def judged_document(decision: Decision, world: World | None) -> dict[str, object]:
    """A verdict for a program, with the place of the rule responsible."""
    return {**decision_document(decision), "place": place_document(rule_place(decision, world))}
