"""The metrics of several processes as those of one: to bytes and back, and added up. Pure.

Counters and histograms add; a gauge is what its family declares. What a worker that ended had counted is kept as
``Retired``, so that no counter falls when a worker dies; its series are bounded as those of a process are, so that no
row of deaths grows the parent.

A death also changes the order in which is added, and sums of fractions (seconds) depend on it: (0.3 + 0.2) + 0.1 is
less than (0.2 + 0.1) + 0.3, and a scraper takes a counter that falls by so little for one that began anew. So what
each addition rounds away is added up, too, and is in the sum that is shown: the true one, rounded once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Final

from sidecar.exposition import Across, Family, Kind, Sample
from sidecar.metrics import BUCKETS_SECONDS, OVERFLOW, SERIES_LIMIT
from sidecar.workers.messages import MessageError

# A series of a histogram has a sample for each bucket, for all above them, for their number and for their sum.
_SAMPLES_LIMIT: Final = {
    Kind.COUNTER: SERIES_LIMIT,
    Kind.HISTOGRAM: SERIES_LIMIT * (len(BUCKETS_SECONDS) + 3),
}
_Key = tuple[str, tuple[tuple[str, str], ...]]
_COMBINE: Final[dict[Across, Callable[[float, float], float]]] = {
    Across.SUM: lambda one, other: one + other,
    Across.MAX: max,
    Across.MIN: min,
}


def to_bytes(families: Iterable[Family]) -> bytes:
    """Families as JSON in which each text stands once: SPIFFE IDs are long, and are in the labels of every sample."""
    texts: dict[str, int] = {}

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    told = [
        [
            family.name,
            family.help,
            str(family.kind),
            str(family.across),
            list(family.labels),
            [
                [number(sample.name), sample.value, *(number(text) for pair in sample.labels for text in pair)]
                for sample in family.samples
            ],
        ]
        for family in families
    ]
    return json.dumps([list(texts), told], separators=(",", ":")).encode("ascii")


def from_bytes(blob: bytes) -> list[Family]:
    """The families in what ``to_bytes`` made; MessageError for anything else."""
    try:
        texts, told = json.loads(blob)
        return [
            Family(
                name=name,
                help=help_text,
                kind=Kind(kind),
                across=Across(across),
                labels=tuple(labels),
                samples=[
                    Sample(
                        texts[name_at],
                        tuple(zip((texts[at] for at in pairs[::2]), (texts[at] for at in pairs[1::2]), strict=True)),
                        value,
                    )
                    for name_at, value, *pairs in samples
                ],
            )
            for name, help_text, kind, across, labels, samples in told
        ]
    except (ValueError, TypeError, IndexError, RecursionError) as error:
        raise MessageError(f"no metric families: {type(error).__name__}") from error


def added(reports: Iterable[Iterable[Family]]) -> list[Family]:
    """One family for each name in any of the reports, in the order in which they are met."""
    sums: dict[str, _Sum] = {}
    for report in reports:
        for family in report:
            found = sums.get(family.name)
            if found is None:
                found = sums[family.name] = _Sum(family)
            found.add(family)
    return [one.family() for one in sums.values()]


class Retired:
    """What the workers that are gone had counted."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}

    def add(self, report: Iterable[Family]) -> None:
        """A worker is gone, and this is the last that it told."""
        for family in report:
            if family.kind is Kind.GAUGE:
                continue
            found = self._sums.get(family.name)
            if found is None:
                found = self._sums[family.name] = _Sum(family)
            found.add(family, limit=_SAMPLES_LIMIT[family.kind])

    def families(self) -> list[Family]:
        """To be added to others: what was rounded away in a sample is another sample of the same labels."""
        return [one.parts() for one in self._sums.values()]


class _Sum:
    """One family, being added up."""

    __slots__ = ("_combine", "_like", "_rounded_away", "_samples")

    def __init__(self, like: Family) -> None:
        self._like = like
        self._samples: dict[_Key, float] = {}
        self._rounded_away: dict[_Key, float] = {}
        """Of sums that may not fall."""
        self._combine = _COMBINE[like.across if like.kind is Kind.GAUGE else Across.SUM]

    def add(self, family: Family, *, limit: int | None = None) -> None:
        samples = self._samples
        for sample in family.samples:
            key = (sample.name, sample.labels)
            before = samples.get(key)
            if before is None and limit is not None and len(samples) >= limit:
                key = (sample.name, tuple((name, _folded(name, value)) for name, value in sample.labels))
                before = samples.get(key)
            if before is None:
                samples[key] = sample.value
                continue
            now = samples[key] = self._combine(before, sample.value)
            if family.kind is not Kind.GAUGE and (lost := _rounded_away(before, sample.value, now)):
                self._rounded_away[key] = self._rounded_away.get(key, 0.0) + lost

    def family(self) -> Family:
        """The family with each sum."""
        lost = self._rounded_away
        return self._with([Sample(*key, value + lost.get(key, 0.0)) for key, value in self._samples.items()])

    def parts(self) -> Family:
        """The family with what adds up to the sums."""
        return self._with(
            [Sample(*key, value) for some in (self._samples, self._rounded_away) for key, value in some.items()]
        )

    def _with(self, samples: list[Sample]) -> Family:
        like = self._like
        return Family(
            name=like.name, help=like.help, kind=like.kind, labels=like.labels, across=like.across, samples=samples
        )


def _rounded_away(one: float, other: float, total: float) -> float:
    """What ``one + other`` is more than ``total``, exactly (Neumaier's)."""
    if abs(one) < abs(other):
        one, other = other, one
    return (one - total) + other


def _folded(label: str, value: str) -> str:
    return value if label == "le" else OVERFLOW
