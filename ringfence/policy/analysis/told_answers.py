"""Answers to invariants as a person and as a program read them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ringfence.policy.analysis.explained import call_document, place_document
from ringfence.policy.analysis.proving import Answer, Hop
from ringfence.policy.analysis.told_cells import told_call, told_conditions
from ringfence.policy.analysis.told_changes import judged_document, told_decision
from ringfence.policy.analysis.world import World


def told_answers(answers: Sequence[Answer], world: World) -> Iterator[str]:
    """The answers as lines."""
    for answer in answers:
        yield from _told(answer, world)
    failed = sum(not answer.holds for answer in answers)
    plural = "s" * (len(answers) != 1)
    yield f"{len(answers)} invariant{plural}: {len(answers) - failed} proved, {failed} violated"
    if any(answer.cells for answer in answers):
        yield "proved means: for every call, whatever conditions (when) come to"


def _told(answer: Answer, world: World) -> Iterator[str]:
    invariant = answer.invariant
    where = f"{invariant.name} ({invariant.place})"
    if answer.holds:
        yield f"proved    {where}: {answer.cells} classes of calls looked at"
        return
    yield f"VIOLATED  {where}: {answer.why}"
    for hop in answer.counterexample:
        yield f"    {told_call(hop.call)}"
        conditions = told_conditions(hop.conditions)
        yield f"      {_told_hop(hop, world)}{f', if {conditions}' if conditions else ''}"


def _told_hop(hop: Hop, world: World) -> str:
    if hop.decision is None:
        return f"{hop.call.service} has no sidecar, so nobody enforces policy there"
    return told_decision(hop.decision, world)


def answers_document(answers: Sequence[Answer], world: World) -> dict[str, object]:
    """The answers for a program."""
    return {
        "holds": all(answer.holds for answer in answers),
        "invariants": [
            {
                "name": answer.invariant.name,
                "place": place_document(answer.invariant.place),
                "services": list(answer.invariant.services),
                "holds": answer.holds,
                "cells": answer.cells,
                "why": answer.why or None,
                "counterexample": [_hop_document(hop, world) for hop in answer.counterexample],
            }
            for answer in answers
        ],
    }


def _hop_document(hop: Hop, world: World) -> dict[str, object]:
    return {
        "call": call_document(hop.call),
        "decision": judged_document(hop.decision, world) if hop.decision is not None else None,
        "if": [{"when": one.text, "is": one.value} for one in hop.conditions],
    }
