"""Whether memory stayed flat. Pure.

Judged are the last two quarters of a run: the median of the last against that of the one before, which a single peak
does not move, and the straight line through both for a figure to quote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, median

FLAT_GROWTH = 0.02
"""The share by which the last quarter may lie above the third and still count as flat: a heap is not still."""
LEAST_SAMPLES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How one process's resident set went; MiB, and MiB a minute over the second half."""

    name: str
    begin: float
    half: float
    end: float
    peak: float
    slope_per_minute: float
    growth: float

    @property
    def flat(self) -> bool:
        return self.growth <= FLAT_GROWTH


def course(name: str, samples: Sequence[tuple[float, float]]) -> Course:
    """The course of ``samples``, (monotonic seconds, MiB) in their order; ValueError when there are too few."""
    if len(samples) < LEAST_SAMPLES:
        raise ValueError(f"{len(samples)} samples of {name} tell nothing")
    second = samples[len(samples) // 2 :]
    third, fourth = second[: len(second) // 2], second[len(second) // 2 :]
    before, after = (median(size for _, size in quarter) for quarter in (third, fourth))
    line = linear_regression([at / 60 for at, _ in second], [size for _, size in second])
    return Course(
        name=name,
        begin=samples[0][1],
        half=second[0][1],
        end=samples[-1][1],
        peak=max(size for _, size in samples),
        slope_per_minute=line.slope,
        growth=after / before - 1,
    )
