"""``python -m benchmarks.soak``: runs a soak and prints what it has shown."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import click

from benchmarks.soak.run import Plan, as_json, as_text, soak
from benchmarks.works import BenchmarkError


@click.command(
    epilog="Example: python -m benchmarks.soak --minutes 10 --json soak.json",
    help="Call two sidecars by 128 connections of mixed protocols while SVIDs are renewed and the policy changes.",
)
@click.option("--minutes", type=click.FloatRange(0.2, 24 * 60), default=10.0, show_default=True)
@click.option("--change", "change_seconds", type=click.FloatRange(1.0), default=10.0, show_default=True, metavar="S")
@click.option("--lifetime", "lifetime_seconds", type=click.IntRange(5), default=60, show_default=True, metavar="S")
@click.option(
    "--pause",
    "pause_milliseconds",
    type=click.FloatRange(0.0),
    default=100.0,
    show_default=True,
    metavar="MS",
    help="Between two calls of one connection, on average.",
)
@click.option(
    "--json",
    "json_file",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Write the report as JSON; without FILE to standard output, instead of the text.",
)
def main(
    minutes: float, change_seconds: float, lifetime_seconds: int, pause_milliseconds: float, json_file: str | None
) -> None:
    """Exit status 0 when all was as it must be, 3 when not, 1 when there is no result."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = Plan(
        seconds=minutes * 60,
        change_seconds=change_seconds,
        lifetime_seconds=lifetime_seconds,
        pause_seconds=pause_milliseconds / 1000,
    )
    try:
        outcome = soak(plan, lambda line: click.echo(f"… {line}", err=True))
    except BenchmarkError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    report = json.dumps(as_json(outcome), indent=1, ensure_ascii=False)
    if json_file == "-":
        click.echo(report)
    else:
        if json_file:
            Path(json_file).write_text(report + "\n")
        click.echo(as_text(outcome))
    sys.exit(3 if outcome.problems else 0)


if __name__ == "__main__":
    main()
