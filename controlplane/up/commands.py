"""``ringfence up``: the whole mesh of one machine, from one file, supervised until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

_HELP = """Run the whole mesh of one machine: its control plane, a sidecar beside each service and, where the mesh file
has a `run`, the apps.

Everything is checked before anything starts: the mesh file and its policies, the programs, the ports. Children that end
are named and started again. Ctrl-C stops the apps, then the sidecars, then the control plane; a second Ctrl-C kills
them. Changed policies are in force at once; services that are added are started at the next `up`.

State is kept in .ringfence/<mesh> beside the mesh file. What opens the CA's keys is kept apart from them, in
~/.config/ringfence.

\b
Example:
  ringfence up -f mesh.yaml
  ringfence up -f mesh.yaml --json 2>mesh.log
"""


@click.command(help=_HELP)
@click.option(
    "-f",
    "--file",
    "mesh_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("mesh.yaml"),
    show_default=True,
    metavar="FILE",
    help="The mesh file.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="State folder.  [default: .ringfence/<mesh> beside the mesh file]",
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="What opens the CA's keys.  [default: a file of its own in ~/.config/ringfence, made at the first start]",
)
@click.option("--json", "as_json", is_flag=True, help="When ready, print one JSON object on standard output.")
def up(mesh_file: Path, state: Path | None, passphrase_file: Path | None, as_json: bool) -> None:
    from controlplane.up.preparing import BadMeshError, CannotStartError, prepared
    from controlplane.up.running import RunningMesh, StartError
    from controlplane.up.session import run_until_stopped
    from controlplane.up.summary import facts, summary

    started = time.monotonic()
    try:
        with prepared(mesh_file, os.environ, state=state, passphrase_file=passphrase_file) as launch:

            def show(running: RunningMesh) -> None:
                told = facts(running, time.monotonic() - started)
                click.echo(json.dumps(told) if as_json else summary(told))

            asyncio.run(run_until_stopped(launch, show))
    except BadMeshError as error:
        _fail(error.lines, 2)
    except CannotStartError as error:
        _fail(error.lines, 1)
    except StartError as error:
        _fail([str(error)], 1)
    except OSError as error:
        _fail([f"{error.filename or mesh_file}: {error.strerror or error}"], 1)


def _fail(lines: Sequence[str], status: int) -> None:
    for line in lines:
        click.echo(line, err=True)
    sys.exit(status)
