"""``ringfence policy history`` and ``rollout``: what was changed, when and by whom; and the change under way."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from controlplane.operate.status_table import table_lines
from controlplane.policy.apply import standing_lines
from controlplane.policy.reaching import asked, found_socket, mesh_options

_HEAD = ("RECORD", "AT", "HOW", "BY", "REVISION", "FILES", "MESSAGE")
_CAUSES = {"start": "first seen", "files": "files edited", "apply": "apply", "rollback": "rollback"}


@click.command(
    epilog="""\b
Examples:
  ringfence policy history
  ringfence policy history 12 --json | jq -r '.files["orders.yaml"]'
"""
)
@click.argument("record", type=click.IntRange(1, 10**9), required=False)
@mesh_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def history(*, record: int | None, admin_socket: Path | None, state: Path | None, as_json: bool) -> None:
    """Show the states that the policy folder was in force with, the newest first; with RECORD, one with its files.

    The control plane keeps the last 50. Who changed files by hand the folder cannot tell; who applied a change the
    kernel can.
    """
    place = found_socket(admin_socket, state)
    document = asked(place, "GET", f"/policy/history/{record}" if record else "/policy/history")
    if as_json:
        click.echo(json.dumps(document, indent=2))
    elif record:
        for name, text in sorted(document["files"].items()):
            click.echo(f"# {name}")
            click.echo(text)
    else:
        for line in table_lines([_HEAD, *(_row(one) for one in reversed(document["records"]))]):
            click.echo(line)


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    how = _CAUSES.get(record["cause"], record["cause"])
    if record["back_to"]:
        how += f" to {record['back_to']}"
    at = datetime.fromtimestamp(record["at"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    files = str(len(record["file_names"]))
    return str(record["record"]), at, how, record["by"] or "-", str(record["revision"]), files, record["message"]


@click.command(
    epilog="""\b
Examples:
  ringfence policy rollout
  ringfence policy rollout --stop
"""
)
@click.option("--stop", is_flag=True, help="Give up the change that is judged in shadow.")
@mesh_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def rollout(*, stop: bool, admin_socket: Path | None, state: Path | None, as_json: bool) -> None:
    """Show the change of policy that is under way, or the last one, and what calls said of it in shadow."""
    place = found_socket(admin_socket, state)
    if stop:
        stopped = bool(asked(place, "DELETE", "/policy/rollout")["stopped"])
        if as_json:
            click.echo(json.dumps({"stopped": stopped}))
        else:
            click.echo("given up" if stopped else "no change is under way")
        sys.exit(0 if stopped else 1)
    standing = asked(place, "GET", "/policy/rollout")
    if as_json:
        click.echo(json.dumps(standing, indent=2))
    elif standing["state"] == "none":
        click.echo("no change was made by command since the control plane started")
    else:
        for line in standing_lines(standing):
            click.echo(line)
