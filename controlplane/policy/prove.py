"""``ringfence policy prove``: do invariants hold of every call, or by which call do they not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from controlplane.policy.options import Asked, Moment, asks, refuse
from ringfence.kit.clock import SystemClock
from ringfence.kit.watch import ContentReader
from ringfence.policy.analysis.cells.segments import CellsError
from ringfence.policy.analysis.claims import Invariant
from ringfence.policy.analysis.explained import printable
from ringfence.policy.analysis.invariants import read_invariants
from ringfence.policy.analysis.proving import Assuming, prove_all
from ringfence.policy.analysis.told_answers import answers_document, told_answers
from ringfence.policy.analysis.world import World
from ringfence.policy.problems import Problem
from ringfence.policy.yamltree import LIMIT_BYTES

VIOLATED: Final = 1
_EPILOG: Final = """\b
Example:
  ringfence policy prove invariants.yaml --mesh mesh.yaml
  ringfence policy prove invariants.yaml --mesh mesh.yaml --policy candidate --json
"""


@click.command(name="prove", epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@asks
@click.option(
    "--enforced",
    is_flag=True,
    help="Look at services that are only observed as if that had ended. [default: what passes there is permitted]",
)
@click.option("--time", type=Moment(), metavar="TIME", help="The moment to look at (RFC 3339). [default: now]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(*, files: tuple[Path, ...], asked: Asked, enforced: bool, time: float | None, as_json: bool) -> None:
    """Prove the invariants of Invariant documents, or show for each a call, or a way of calls, that violates it.

    The mesh file is --mesh, or mesh.yaml beside a --policy, beside the first FILE, or here. Exit status: 0 all hold,
    1 one is violated, 2 bad input.
    """
    world = asked.beside(files[0].parent).world()
    invariants = _read(files, world)
    now = time if time is not None else SystemClock().now()
    try:
        answers = prove_all(world, invariants, Assuming(now=now, enforced=enforced))
    except CellsError as error:
        refuse([str(error)])
    if as_json:
        click.echo(json.dumps(answers_document(answers, world), indent=2))
    else:
        for line in told_answers(answers, world):
            click.echo(printable(line))
    if not all(answer.holds for answer in answers):
        sys.exit(VIOLATED)


def _read(files: tuple[Path, ...], world: World) -> list[Invariant]:
    reader = ContentReader(clock=SystemClock(), limit_bytes=LIMIT_BYTES)
    invariants: list[Invariant] = []
    problems: list[Problem] = []
    names: dict[str, Invariant] = {}
    for path in dict.fromkeys(files):
        file = reader.read(path)
        if file.error:
            problems.append(Problem(str(path), 1, 1, f"cannot be read: {file.error}"))
            continue
        found, told = read_invariants(file.content, str(path), world)
        problems += told
        if not found and not told:
            problems.append(Problem(str(path), 1, 1, "there is no invariant", "add a document of kind Invariant"))
        for one in found:
            first = names.setdefault(one.name, one)
            if first is not one:
                message, mend = f"duplicate invariant {one.name}", f"first given at {first.place}: rename one"
                problems.append(one.place.problem(message, mend))
        invariants += found
    if problems:
        refuse(problems)
    return invariants
