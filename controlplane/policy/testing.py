"""``ringfence policy test``: do calls get the verdicts that their author expects, and is every rule spoken to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from controlplane.policy.options import Asked, asks, refuse
from ringfence.kit.clock import SystemClock
from ringfence.kit.watch import ContentReader
from ringfence.policy.analysis.cases import TestCase, read_cases
from ringfence.policy.analysis.explained import (
    call_document,
    place_document,
    printable,
    rule_document,
)
from ringfence.policy.analysis.trying import Outcome, Trial, try_cases
from ringfence.policy.problems import Problem
from ringfence.policy.yamltree import LIMIT_BYTES

FAILED: Final = 1
_LINES_TOLD: Final = 200
_EPILOG: Final = """\b
Example:
  ringfence policy test policy-tests.yaml --mesh mesh.yaml
  ringfence policy test tests/*.yaml --mesh mesh.yaml --policy candidate --require-coverage 90 --json
"""


@click.command(name="test", epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@asks
@click.option("--shadow", is_flag=True, help="Try the policy that is judged in shadow, where a service has one.")
@click.option(
    "--require-coverage",
    type=click.IntRange(0, 100),
    default=0,
    metavar="PERCENT",
    help="Fail when fewer of all rules are exercised. [default: 0]",
)
@click.option("--verbose", is_flag=True, help="Show the cases that passed, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    *,
    files: tuple[Path, ...],
    asked: Asked,
    shadow: bool,
    require_coverage: int,
    verbose: bool,
    as_json: bool,
) -> None:
    """Try the calls of PolicyTest documents, and compare each verdict with the expected one.

    The mesh file is --mesh, or mesh.yaml beside a --policy, beside the first FILE, or here. Exit status: 0 all passed,
    1 a case failed or too few rules are exercised, 2 bad input.
    """
    cases = _read(files)
    world = asked.beside(files[0].parent).world()
    if shadow:
        world = world.in_shadow()
    trial, problems = try_cases(cases, world)
    if problems:
        refuse(problems)
    covered = trial.covers(require_coverage)
    if as_json:
        click.echo(json.dumps(_document(trial, covered), indent=2))
    else:
        for line in _told(trial, verbose, "" if covered else f", fewer than {require_coverage} %"):
            click.echo(printable(line))
    if trial.failed or not covered:
        sys.exit(FAILED)


def _read(files: tuple[Path, ...]) -> list[TestCase]:
    clock = SystemClock()
    reader, now = ContentReader(clock=clock, limit_bytes=LIMIT_BYTES), clock.now()
    cases: list[TestCase] = []
    problems: list[Problem] = []
    for path in dict.fromkeys(files):
        file = reader.read(path)
        if file.error:
            problems.append(Problem(str(path), 1, 1, f"cannot be read: {file.error}"))
            continue
        found, told = read_cases(file.content, str(path), now)
        cases += found
        problems += told
        if not found and not told:
            problems.append(Problem(str(path), 1, 1, "there is no case", "add a document of kind PolicyTest"))
    if problems:
        refuse(problems)
    return cases


def _told(trial: Trial, verbose: bool, too_few: str) -> Iterator[str]:
    for outcome in trial.outcomes:
        if not outcome.passed:
            yield f"FAILED  {outcome.case.name} ({outcome.case.place}): {_difference(outcome)}"
        elif verbose:
            yield f"passed  {outcome.case.name}"
    passed = len(trial.outcomes) - trial.failed
    yield f"{len(trial.outcomes)} cases: {passed} passed, {trial.failed} failed"
    total = len(trial.exercises)
    percent = trial.exercised * 100 // total if total else 100
    yield f"{total} rules: {trial.exercised} exercised ({percent} %){too_few}"
    missed = [one for one in trial.exercises if not one.is_exercised]
    for exercise in missed[:_LINES_TOLD]:
        where = f" ({exercise.place})" if exercise.place is not None else ""
        yield f"  no case speaks to {exercise.named.full_name}{where}"
    if len(missed) > _LINES_TOLD:
        yield f"  and {len(missed) - _LINES_TOLD} more"


def _difference(outcome: Outcome) -> str:
    wanted = outcome.case.expect
    expected = ", ".join(one for one in (wanted.verdict, wanted.reason, wanted.rule) if one is not None)
    got = ", ".join(one for one in (outcome.verdict, outcome.reason, outcome.rule) if one is not None)
    return f"expected {expected}; got {got}"


def _document(trial: Trial, covered: bool) -> dict[str, object]:
    return {
        "passed": len(trial.outcomes) - trial.failed,
        "failed": trial.failed,
        "cases": [
            {
                "name": outcome.case.name,
                "place": place_document(outcome.case.place),
                "passed": outcome.passed,
                "call": call_document(outcome.call),
                "expected": {
                    "verdict": outcome.case.expect.verdict,
                    "reason": outcome.case.expect.reason,
                    "rule": outcome.case.expect.rule,
                },
                "got": {"verdict": outcome.verdict, "reason": outcome.reason, "rule": outcome.rule},
            }
            for outcome in trial.outcomes
        ],
        "coverage": {
            "rules": len(trial.exercises),
            "exercised": trial.exercised,
            "enough": covered,
            "unexercised": [rule_document(one.named, one.place) for one in trial.exercises if not one.is_exercised],
        },
    }
