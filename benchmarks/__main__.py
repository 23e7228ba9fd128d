"""``python -m benchmarks``: picks works, runs or profiles them, prints the table, writes the JSON."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from pathlib import Path

import click

from benchmarks import (
    connections,
    growth,
    http1,
    http2,
    issuance,
    k8s,
    latency,
    machine,
    policy,
    revision,
    start,
    tcp,
    tunnels,
)
from benchmarks.results import Row, all_met, as_json, as_table, renewed
from benchmarks.works import QUICK, BenchmarkError, Plan, Work

WORKS = {
    work.name: work
    for work in (
        http1.WORK,
        http2.WORK,
        tcp.WORK,
        connections.WORK,
        latency.WORK,
        start.WORK,
        policy.WORK,
        revision.WORK,
        issuance.WORK,
        growth.CLIENTS_WORK,
        growth.BODIES_WORK,
        growth.RULES_WORK,
        tunnels.WORK,
        k8s.WORK,
    )
}


def _levels(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        levels = tuple(int(part) for part in value.split(","))
    except ValueError:
        levels = ()
    if not levels or min(levels) < 1:
        raise click.BadParameter(f"{value!r} is no list of numbers (such as 1,8,32,128)")
    return levels


@click.command(
    epilog="Example: python -m benchmarks http1 --quick --json http1.json",
    help="Measure the mesh beside its peers, on loopback: "
    + "; ".join(f"{w.name}: {w.summary}" for w in WORKS.values()),
)
@click.argument("names", nargs=-1, metavar="[WORK]...", type=click.Choice(sorted(WORKS)))
@click.option("--quick", is_flag=True, help="Three short rounds: under two minutes a work.")
@click.option("--rounds", type=click.IntRange(1, 100), help="Turns of each peer (default 5, quick 3).")
@click.option("--levels", callback=_levels, metavar="N,N,…", help="Only these levels of the work.")
@click.option(
    "--json",
    "json_file",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Write the report as JSON; without FILE to standard output, instead of the table.",
)
@click.option(
    "--renew", is_flag=True, help="Of a report that --json FILE holds already, replace the rows of these works alone."
)
@click.option("--profile", is_flag=True, help="Instead of measuring, show where each microsecond of our sidecars goes.")
def main(
    names: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    levels: tuple[int, ...] | None,
    json_file: str | None,
    renew: bool,
    profile: bool,
) -> None:
    """Exit status 0 when every bar is met, 3 when one is missed, 1 when a work has no figure."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if renew and (not json_file or not Path(json_file).is_file()):
        raise click.BadParameter("it needs --json FILE with the report of a run before", param_hint="--renew")
    plan = QUICK if quick else Plan()
    plan = dataclasses.replace(plan, rounds=rounds or plan.rounds, levels=levels)
    chosen = [WORKS[name] for name in names] or [work for work in WORKS.values() if not work.apart]
    if profile:
        sys.exit(_print_profiles(chosen, plan))
    described = machine.describe()  # before, since the machine's load is in it
    rows: list[Row] = []
    failed: dict[str, str] = {}
    for work in chosen:
        try:
            rows += work.run(plan, _say)
        except BenchmarkError as error:  # what the others measure is worth having all the same
            failed[work.name] = str(error)
            click.echo(f"error: {work.name}: {error}", err=True)
    report = as_json(described, rows, failed)
    if renew and json_file:
        try:
            report = renewed(json.loads(Path(json_file).read_text()), report, list(WORKS))
        except ValueError as error:
            click.echo(f"error: {json_file} stays as it is: {error}", err=True)
            json_file = None
            failed["--renew"] = str(error)
    _report(report, rows, json_file)
    sys.exit(1 if failed else 0 if all_met(rows) else 3)


def _say(line: str) -> None:
    click.echo(f"… {line}", err=True)


def _print_profiles(works: list[Work], plan: Plan) -> int:
    """The exit status: 1 if one of ``works`` has no profile."""
    status = 0
    for work in works:
        try:
            if work.profile is None:
                raise BenchmarkError("it has no profile")
            click.echo(work.profile(plan, _say))
        except BenchmarkError as error:
            click.echo(f"error: {work.name}: {error}", err=True)
            status = 1
    return status


def _report(report: dict[str, object], rows: list[Row], json_file: str | None) -> None:
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    if json_file == "-":
        click.echo(text, nl=False)
        return
    if json_file:
        Path(json_file).write_text(text)
    click.echo(as_table(rows))
    if rows:
        click.echo("every bar is met" if all_met(rows) else "a bar was missed")


if __name__ == "__main__":
    main()
