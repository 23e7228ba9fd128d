"""``ringfence policy status``: which documents each sidecar enforces, and why one does not enforce what it should."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from controlplane.operate.policy_table import policy_lines
from controlplane.policy.observed import observed, observed_lines
from controlplane.policy.reaching import asked, found_socket, mesh_options

UNSETTLED: Final = 1
_EPILOG: Final = """\b
Example:
  ringfence policy status --state .ringfence/shop
  ringfence policy status --json | jq '.workloads[].sidecars[].policy.documents'
"""


@click.command(name="status", epilog=_EPILOG)
@mesh_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(*, admin_socket: Path | None, state: Path | None, as_json: bool) -> None:
    """Show for each sidecar the revision and the documents that it enforces, their modes, and its posture with its end;
    of services that are only observed, how many callers default deny would have refused in the last day.

    Exit status: 0 all is enforced, or being told; 1 a sidecar refused or does not answer, the files were refused, or no
    control plane answers; 2 bad input.
    """
    socket = found_socket(admin_socket, state)
    document = asked(socket, "GET", "/policy")
    document["observed"] = observed(socket, document)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        for line in (*policy_lines(document), *observed_lines(document)):
            click.echo(line)
    if not document["settled"]:
        sys.exit(UNSETTLED)
