"""``ringfence policy diff``: which calls are permitted or denied by one policy and not by the other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from controlplane.policy.flow_source import FlowWords, asks_of_flows, flows_asked
from controlplane.policy.old_new import RUNNING, named_world
from controlplane.policy.options import Moment, refuse
from ringfence.kit.clock import SystemClock
from ringfence.policy.analysis.cells.segments import CellsError
from ringfence.policy.analysis.changes import Comparing, compare
from ringfence.policy.analysis.explained import printable
from ringfence.policy.analysis.told_changes import comparison_document, told_comparison
from ringfence.policy.learning.told import traffic_document, traffic_lines
from ringfence.policy.learning.traffic import changed_traffic

DIFFERS: Final = 1
_EPILOG: Final = """\b
Example:
  ringfence policy diff policies candidate --mesh mesh.yaml
  ringfence policy diff git:main:policies policies --mesh mesh.yaml --json
  ringfence policy diff running candidate --mesh mesh.yaml --since 7d
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
@asks_of_flows(since="all that is kept", where=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    *, old: str, new: str, mesh: Path | None, reasons: bool, time: float | None, as_json: bool, **said: Any
) -> None:
    """Which calls become permitted or denied from OLD to NEW, with an example and the rules responsible for each.

    OLD and NEW are files or folders of policy, mesh files, git:REV:PATH, or `running`: what a control plane has in
    force. It is complete: a call that no line speaks of is judged alike by both. With --since or --flows it also tells
    how many calls that were really made would be judged otherwise.

    Exit status: 0 no call is judged otherwise, 1 some are, 2 bad input.
    """
    words = FlowWords(**said)
    before, after = (named_world(name, mesh, words.admin_socket, words.state) for name in (old, new))
    comparing = Comparing(now=time if time is not None else SystemClock().now(), reasons=reasons)
    try:
        comparison = compare(before, after, comparing)
    except CellsError as error:
        refuse([str(error)])
    traffic = None
    asked_of = words.admin_socket is not None or words.state is not None
    if words.since is not None or words.flows is not None or (asked_of and RUNNING not in (old, new)):
        flows = flows_asked(words).file.flows
        traffic = changed_traffic(flows, before, after, now=comparing.now)
    if as_json:
        document = comparison_document(comparison, before, after)
        if traffic is not None:
            document["traffic"] = traffic_document(traffic)
        click.echo(json.dumps(document, indent=2))
    else:
        for line in (
            *told_comparison(comparison, before, after),
            *(traffic_lines(traffic) if traffic is not None else ()),
        ):
            click.echo(printable(line))
    if comparison.changes:
        sys.exit(DIFFERS)
