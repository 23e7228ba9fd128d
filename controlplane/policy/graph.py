"""``ringfence policy graph``: who may call whom."""

from __future__ import annotations

import json
from typing import Final

import click

from controlplane.policy.options import Asked, Moment, asks
from ringfence.kit.clock import SystemClock
from ringfence.policy.analysis.drawing import DRAWN, Format, as_document
from ringfence.policy.analysis.graph import graph_of

_EPILOG: Final = """\b
Example:
  ringfence policy graph --running
  ringfence policy graph --mesh mesh.yaml --format dot | dot -Tsvg > mesh.svg
"""


@click.command(name="graph", epilog=_EPILOG)
@asks
@click.option(
    "--format", "shown_as", type=click.Choice([form.value for form in Format]), default="text", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--shadow", is_flag=True, help="Of the policy that is judged in shadow, where a service has one.")
@click.option("--time", type=Moment(), metavar="TIME", help="When services are observed (RFC 3339). [default: now]")
def command(*, asked: Asked, shown_as: str, as_json: bool, shadow: bool, time: float | None) -> None:
    """Show who may call whom: services, callers from outside, and what rules grant on each way.

    What a denylist refuses wholly is left out; what it refuses in part is marked. Exit status: 0, or 2 for bad input.
    """
    world = asked.world()
    if shadow:
        world = world.in_shadow()
    graph = graph_of(world, time if time is not None else SystemClock().now())
    form = Format.JSON if as_json else Format(shown_as)
    if form is Format.JSON:
        click.echo(json.dumps(as_document(graph), indent=2))
        return
    for line in DRAWN[form](graph):
        click.echo(line)
