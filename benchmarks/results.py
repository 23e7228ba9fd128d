"""Figures of a run: pairs measured within a round, rows of ratios, and the two faces of a report. Pure.

A ratio is the median over the rounds of ours divided by theirs within one round: what the machine does to both at one
time cancels out. ``ours`` and ``theirs`` are medians of their own, so their quotient may differ from ``ratio``.

Where a bar is a number and not a peer (a second to start in), the number stands in the peer's place (``against_bar``),
so that every row reads alike: ``ratio`` is ours over theirs, and the bar is on the ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One metric, measured on both sides within one round; any unit, the same on both."""

    ours: float
    theirs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a ratio must reach: at most ``limit``, or at least that where more is better."""

    limit: float
    at_least: bool = False

    def met_by(self, ratio: float) -> bool:
        return ratio >= self.limit if self.at_least else ratio <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a report; ``spread`` is the lowest and the highest ratio of a round.

    ``bar``, ``at_least`` and ``met`` are None where the ratio has to reach nothing; ``at_least`` tells that more is
    better, and so that the bar is met from below.
    """

    work: str
    level: str
    metric: str
    ours: float
    peer: str
    theirs: float
    ratio: float
    spread: tuple[float, float]
    rounds: int
    bar: float | None
    at_least: bool | None
    met: bool | None


def compare(work: str, level: str, metric: str, peer: str, pairs: Sequence[Pair], bar: Bar | None = None) -> Row:
    """The row for ``pairs``, one pair a round; ValueError when there is none, or when theirs is zero in one."""
    if not pairs:
        raise ValueError(f"no round measured {metric} at {level}")
    if any(pair.theirs <= 0 for pair in pairs):
        raise ValueError(f"{peer} measured nothing for {metric} at {level}")
    ratios = [pair.ours / pair.theirs for pair in pairs]
    ratio = median(ratios)
    return Row(
        work=work,
        level=level,
        metric=metric,
        ours=median(pair.ours for pair in pairs),
        peer=peer,
        theirs=median(pair.theirs for pair in pairs),
        ratio=ratio,
        spread=(min(ratios), max(ratios)),
        rounds=len(pairs),
        bar=bar.limit if bar else None,
        at_least=bar.at_least if bar else None,
        met=bar.met_by(ratio) if bar else None,
    )


def against_bar(
    work: str,
    level: str,
    metric: str,
    values: Sequence[float],
    limit: float,
    *,
    at_least: bool = False,
    share: float | None = None,
    judged: bool = True,
) -> Row:
    """The row for ``values``, one a round, whose bar is the number ``limit``.

    What must reach it is their median, or the percentile ``share`` of them; not ``judged``: it stands there only to be
    compared with. ValueError when there is no value.
    """
    if not values:
        raise ValueError(f"no round measured {metric} at {level}")
    ours = median(values) if share is None else percentile(sorted(values), share)
    bar = Bar(limit=1.0, at_least=at_least)
    return Row(
        work=work,
        level=level,
        metric=metric,
        ours=ours,
        peer="its bar",
        theirs=limit,
        ratio=ours / limit,
        spread=(min(values) / limit, max(values) / limit),
        rounds=len(values),
        bar=bar.limit if judged else None,
        at_least=at_least if judged else None,
        met=bar.met_by(ours / limit) if judged else None,
    )


def percentile(ordered: Sequence[N], share: float) -> N:
    """The smallest value that at least ``share`` per cent of the ``ordered`` values do not exceed (nearest rank)."""
    rank = -(-len(ordered) * share // 100)
    return ordered[max(int(rank), 1) - 1]


def all_met(rows: Sequence[Row]) -> bool:
    """True when every row that has a bar meets it, and there is at least one row."""
    return bool(rows) and all(row.met is not False for row in rows)


def as_json(
    machine: dict[str, object], rows: Sequence[Row], failed: Mapping[str, str] | None = None
) -> dict[str, object]:
    """The report as plain JSON values: ``{"machine": {…}, "rows": [{…}, …], "failed": {work: why}, "met": bool}``.

    ``failed``: the works that have no figure; with one of them nothing is met.
    """
    return {
        "machine": machine,
        "rows": [
            {
                "work": row.work,
                "level": row.level,
                "metric": row.metric,
                "ours": _rounded(row.ours),
                "peer": row.peer,
                "theirs": _rounded(row.theirs),
                "ratio": _rounded(row.ratio),
                "spread": [_rounded(row.spread[0]), _rounded(row.spread[1])],
                "rounds": row.rounds,
                "bar": row.bar,
                "at_least": row.at_least,
                "met": row.met,
            }
            for row in rows
        ],
        "failed": dict(failed or {}),
        "met": all_met(rows) and not failed,
    }


def renewed(earlier: dict[str, Any], report: dict[str, Any], works: Sequence[str]) -> dict[str, Any]:
    """``earlier`` with the rows of ``report`` in place of those of the same works, in the order of ``works``.

    ``machine`` is the earlier one; ``again`` in it says of each work that was measured by itself what the load average
    was before. ValueError where the two were not measured on the same kind of machine.
    """
    machine, now = earlier["machine"], report["machine"]
    for key in ("cpu", "cores", "python"):
        if machine[key] != now[key]:
            raise ValueError(f"{key} is {now[key]!r}, and was {machine[key]!r}: measure the whole again")
    again = {row["work"] for row in report["rows"]}
    failed = {work: why for work, why in earlier["failed"].items() if work not in again} | report["failed"]
    rows = [row for row in earlier["rows"] if row["work"] not in again] + report["rows"]
    rows.sort(key=lambda row: works.index(row["work"]))
    loads = {work: now["load_average"] for work in works if work in again}
    return {
        "machine": {**machine, "again": {**machine.get("again", {}), **loads}},
        "rows": rows,
        "failed": failed,
        "met": all(row["met"] is not False for row in rows) and not failed,
    }


def as_table(rows: Sequence[Row]) -> str:
    """The report for people: one line a row, grouped by work, peer and metric in the order of their first row."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.work, row.metric, row.peer), []).append(row)
    lines: list[str] = []
    for (work, metric, peer), group in groups.items():
        cells = [("", "ours", "theirs", "ratio", "spread", "bar", "")]
        for row in group:
            spread = f"{row.spread[0]:.2f}–{row.spread[1]:.2f}" if row.rounds > 1 else ""
            bar = "" if row.bar is None else f"{'≥' if row.at_least else '≤'} {row.bar:.2f}"
            verdict = {None: "", True: "met", False: "MISSED"}[row.met]
            cells.append((row.level, _shown(row.ours), _shown(row.theirs), f"{row.ratio:.2f}", spread, bar, verdict))
        lines += [f"{work}: {metric}, ours against {peer}", *aligned(cells), ""]
    return "\n".join(lines)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of equal columns: the first flush left, the others flush right."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]


def _rounded(value: float) -> float:
    """Four significant digits: more than any of these figures repeats to."""
    return float(f"{value:.4g}")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 10 else f"{value:.1f}"
