"""The results for people and for programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.demo.calls import CallResult

_HEADS = ("", "from", "to", "protocol", "request", "expected", "observed", "ms")


def table(results: Sequence[CallResult]) -> str:
    """A line a call, and under each refused one who refused it and why; ends without a line break."""
    rows = [
        (
            "ok" if result.as_expected else "!!",
            result.source,
            result.target,
            result.protocol,
            result.request,
            result.expected,
            result.observed.outcome,
            f"{result.milliseconds:.1f}",
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in (_HEADS, *rows)) for column in range(len(_HEADS))]
    lines = [_line(_HEADS, widths), _line(tuple("-" * width for width in widths), widths)]
    for row, result in zip(rows, results, strict=True):
        lines.append(_line(row, widths))
        lines.extend(_why(result))
    return "\n".join(lines)


def verdict(results: Sequence[CallResult]) -> str:
    """One line that sums a round up."""
    reasons = {r.observed.reason for r in results if r.as_expected and r.observed.outcome.startswith("refused: ")}
    permitted = sum(r.observed.outcome.startswith("permitted: ") for r in results)
    different = sum(not r.as_expected for r in results)
    counted = f"{len(results)} calls, {permitted} permitted, {len(reasons)} different reasons of refusal"
    return f"{counted}, {'all as expected' if not different else f'{different} NOT as expected'}"


def document(results: Sequence[CallResult], facts: Mapping[str, object]) -> dict[str, object]:
    """For ``--json``: ``ok``, ``calls``, and the ``facts`` of the mesh that they were made in."""
    return {"ok": all(r.as_expected for r in results), "calls": [r.facts() for r in results], **facts}


def _why(result: CallResult) -> list[str]:
    observed = result.observed
    if observed.outcome.startswith("refused: "):
        return [f"      {observed.told_by}: {observed.story}"]
    return []


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
