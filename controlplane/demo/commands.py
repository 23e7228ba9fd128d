"""``ringfence demo``: the shop of ``examples/shop``, run whole, called rightly and wrongly, and judged."""

from __future__ import annotations

import sys

import click

_HELP = """Run the example shop as a mesh of real processes on this machine, and call it.

Some calls its allowlists permit; others must be refused, each for its own reason. Every outcome is observed, and the
table shows it beside what was expected.

Everything lives in a temporary folder. A port of the shop that is taken is replaced by a free one.

\b
Example:
  ringfence demo                 until Ctrl-C, with steady traffic
  ringfence demo --once          one round of calls, then the end
  ringfence demo --once --json   the same as one JSON object

Exit status: 0 if every call came out as expected, 1 if one did not or the mesh did not start.
"""


@click.command(help=_HELP)
@click.option("--once", is_flag=True, help="One round of calls, then stop everything and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output instead of the table.")
def demo(once: bool, as_json: bool) -> None:
    from controlplane.demo.app import run_demo

    sys.exit(run_demo(once=once, as_json=as_json))
