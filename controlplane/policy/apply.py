"""``ringfence policy apply`` and ``rollback``: a change of the running mesh's policy, and the way back."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from controlplane.policy.given import GivenError, read_given
from controlplane.policy.reaching import asked, fail, found_socket, mesh_options
from ringfence.policy.durations import DurationError, parse_duration

_WAIT_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.2
_TRIAL_LOOK_SECONDS: Final = 1.0
_TELL_SECONDS: Final = 10.0
_SHADOW_LIMIT_SECONDS: Final = 7 * 86_400.0
_WRITE_SECONDS: Final = 120.0


class Duration(click.ParamType[float]):
    """Seconds from ``30s``, ``10m`` or ``1h30m``."""

    name = "duration"

    def __init__(self, low: float, high: float) -> None:
        self._bounds = (low, high)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value), *self._bounds)
        except DurationError as error:
            self.fail(str(error), param, ctx)


@click.command(
    epilog="""\b
Examples:
  ringfence policy apply policies/orders.yaml --shadow-first 10m
  ringfence policy apply policies --prune --message "close the ledger"
  ringfence policy apply policies --check
"""
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="PATH…")
@click.option("--prune", is_flag=True, help="Take out of the policy folder what is not given.")
@click.option(
    "--shadow-first",
    "shadow_seconds",
    type=Duration(1.0, _SHADOW_LIMIT_SECONDS),
    metavar="TIME",
    help="Judge the mesh's calls by the change for that long first; give it up if calls that pass would be refused.",
)
@click.option(
    "--tolerate",
    type=click.IntRange(0, 10**9),
    default=0,
    metavar="CALLS",
    help="Apply after --shadow-first though so many calls would be refused. [default: 0]",
)
@click.option("--check", is_flag=True, help="Say what would change and what is wrong; change nothing.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the trial in shadow, nor for sidecars to enforce it.")
@click.option("--message", default="", metavar="TEXT", help="Why; kept in the history.")
@mesh_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def apply(
    *,
    paths: tuple[Path, ...],
    prune: bool,
    shadow_seconds: float | None,
    tolerate: int,
    check: bool,
    no_wait: bool,
    message: str,
    admin_socket: Path | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Put policy files into force on a running mesh: judged as a whole, then written into its policy folder.

    A file goes into the folder under its own name, those of a folder by their paths below it; files that are not given
    stay, unless --prune. With an error in any of them nothing is changed (exit status 2). Ends when every connected
    sidecar enforces it; exit status 1 when the trial in shadow gave it up, or a sidecar does not enforce it.
    """
    place = found_socket(admin_socket, state)
    try:
        files, origins = read_given(paths)
    except GivenError as error:
        fail([str(error)], status=2)
    body = {
        "files": files,
        "prune": prune,
        "shadow_seconds": int(shadow_seconds or 0),
        "tolerate": tolerate,
        "check": check,
        "message": message,
    }
    standing = asked(place, "POST", "/policy/apply", body, seconds=_WRITE_SECONDS, origins=origins)
    if standing["state"] == "shadow" and not no_wait:
        standing = _wait_for_trial(place, standing)
    _finish(place, standing, wait=not no_wait, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  ringfence policy rollback
  ringfence policy rollback 12 --message "the new rules broke billing"
"""
)
@click.argument("record", type=click.IntRange(1, 10**9), required=False)
@click.option("--check", is_flag=True, help="Say what would change; change nothing.")
@click.option("--no-wait", is_flag=True, help="Do not wait for sidecars to enforce it.")
@click.option("--message", default="", metavar="TEXT", help="Why; kept in the history.")
@mesh_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def rollback(
    *,
    record: int | None,
    check: bool,
    no_wait: bool,
    message: str,
    admin_socket: Path | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Make the policy folder what it was in RECORD of `ringfence policy history`; without one, before the last change.

    It is a change like any other: judged as a whole, since the mesh may have changed meanwhile, and kept as a new
    record.
    """
    place = found_socket(admin_socket, state)
    body = {"record": record or 0, "check": check, "message": message}
    standing = asked(place, "POST", "/policy/rollback", body, seconds=_WRITE_SECONDS)
    _finish(place, standing, wait=not no_wait, as_json=as_json)


def _finish(place: Path, standing: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    late: list[str] = []
    if standing["state"] == "applied" and wait:
        late = _wait_for_sidecars(place)
        standing = {**standing, "not_enforced_by": late}
    if as_json:
        click.echo(json.dumps(standing, indent=2))
    else:
        for line in standing_lines(standing):
            click.echo(line)
        for line in late:
            click.echo(f"not enforced by {line}", err=True)
    sys.exit(1 if late or standing["state"] == "given_up" else 0)


def _wait_for_trial(place: Path, standing: dict[str, Any]) -> dict[str, Any]:
    """Follow the trial to its end. Ctrl-C stops following, not the trial."""
    click.echo(f"judged in shadow until {_clock(standing['ends_at'])}; Ctrl-C leaves it running", err=True)
    told = time.monotonic()
    try:
        while standing["state"] == "shadow":
            time.sleep(_TRIAL_LOOK_SECONDS)
            standing = asked(place, "GET", "/policy/rollout")
            if standing["state"] == "shadow" and time.monotonic() - told >= _TELL_SECONDS:
                told = time.monotonic()
                click.echo(_evidence_line(standing["evidence"]), err=True)
    except KeyboardInterrupt:
        click.echo("the trial goes on: ringfence policy rollout shows it, --stop gives it up", err=True)
        sys.exit(1)
    if standing["state"] == "none":
        fail(["the control plane was restarted meanwhile; the change is not applied (apply it again)"], status=1)
    return standing


def _wait_for_sidecars(place: Path) -> list[str]:
    """Until every connected sidecar enforces what it was sent; who does not in time, and why."""
    ends_at = time.monotonic() + _WAIT_SECONDS
    while True:
        late = [
            f"{workload['service']} ({sidecar['standing']}{': ' + sidecar['error'] if sidecar['error'] else ''})"
            for workload in asked(place, "GET", "/status")["workloads"]
            for sidecar in workload["sidecars"]
            if sidecar["standing"] not in ("current", "disconnected")
        ]
        if not late or time.monotonic() > ends_at:
            return late
        time.sleep(_LOOK_SECONDS)


def standing_lines(standing: Mapping[str, Any]) -> list[str]:
    """A change and how it goes, for people."""
    change = standing["change"]
    files = [
        f"  {sign} {name}" for sign, key in (("+", "added"), ("~", "altered"), ("-", "removed")) for name in change[key]
    ]
    heads = {
        "unchanged": "nothing to change: the policy folder holds it already",
        "checked": "would be applied:",
        "shadow": f"judged in shadow until {_clock(standing['ends_at'] or 0)}:",
        "applied": f"applied as record {standing['record']}, revision {standing['revision']}:",
        "given_up": f"given up: {standing['detail']}:",
    }
    lines = [heads[standing["state"]], *files]
    evidence = standing["evidence"]
    if standing["ends_at"]:
        lines.append(_evidence_line(evidence))
        lines.extend(f"  {example}" for example in evidence["examples"])
    lines.extend(standing.get("warnings", ()))
    return lines


def _evidence_line(evidence: Mapping[str, Any]) -> str:
    if not evidence["judged"]:
        return "no call was judged in shadow yet"
    return (
        f"{evidence['judged']} calls judged in shadow: {evidence['would_be_denied']} that pass would be refused, "
        f"{evidence['would_be_permitted']} that are refused would pass"
    )


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
