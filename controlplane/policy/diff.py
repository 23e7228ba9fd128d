"""``ringfence policy diff``: which calls are permitted or denied by one policy and not by the other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from controlplane.policy.old_new import named_world
from controlplane.policy.options import Moment, refuse
from ringfence.kit.clock import SystemClock
from ringfence.policy.analysis.cells.segments import TooManyClassesError
from ringfence.policy.analysis.changes import Comparing, compare
from ringfence.policy.analysis.explained import printable
from ringfence.policy.analysis.told_changes import comparison_document, told_comparison

DIFFERS: Final = 1
_EPILOG: Final = """\b
Example:
  ringfence policy diff policies candidate --mesh mesh.yaml
  ringfence policy diff git:main:policies policies --mesh mesh.yaml --json
"""


@click.command(name="diff", epilog=_EPILOG)
@click.argument("old")
@click.argument("new")
@click.option(
    "--mesh",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The mesh file of both. [default: the one in or beside each]",
)
@click.option("--reasons", is_flag=True, help="Tell, too, what is denied for another reason.")
@click.option("--time", type=Moment(), metavar="TIME", help="The moment to compare at (RFC 3339). [default: now]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(*, old: str, new: str, mesh: Path | None, reasons: bool, time: float | None, as_json: bool) -> None:
    """Which calls become permitted or denied from OLD to NEW, with an example and the rules responsible for each.

    OLD and NEW are files or folders of policy, mesh files, or git:REV:PATH. It is complete: a call that no line speaks
    of is judged alike by both. Exit status: 0 no call is judged otherwise, 1 some are, 2 bad input.
    """
    before, after = named_world(old, mesh), named_world(new, mesh)
    comparing = Comparing(now=time if time is not None else SystemClock().now(), reasons=reasons)
    try:
        comparison = compare(before, after, comparing)
    except TooManyClassesError as error:
        refuse([str(error)])
    if as_json:
        click.echo(json.dumps(comparison_document(comparison), indent=2))
    else:
        for line in told_comparison(comparison):
            click.echo(printable(line))
    if comparison.changes:
        sys.exit(DIFFERS)
