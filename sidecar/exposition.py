"""Metric families and the Prometheus text format 0.0.4 that they are scraped in. Pure.

prometheus-client's own families cannot be had without its servers: the package imports http.server, wsgiref, urllib and
email as a whole, which is 3 MB of every sidecar. It is the oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Kind(StrEnum):
    """What a family's numbers mean."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Across(StrEnum):
    """What a gauge of several processes is together."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: ``name`` with its suffix, label names and values in pairs, the number."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


@dataclass(slots=True, kw_only=True)
class Family:
    """Samples of one metric; ``name`` is without the suffix that counters get."""

    name: str
    help: str
    kind: Kind
    labels: Sequence[str] = ()
    across: Across = Across.SUM
    samples: list[Sample] = field(default_factory=list)

    def add(self, values: Sequence[str], value: float) -> None:
        """A counter's or a gauge's number for these label values."""
        name = f"{self.name}_total" if self.kind is Kind.COUNTER else self.name
        self.samples.append(Sample(name, self._paired(values), value))

    def add_histogram(
        self, values: Sequence[str], bounds: Sequence[float], counts: Sequence[int], total: float
    ) -> None:
        """A histogram for these label values: upper ``bounds``, how many fell into each and above them, their sum."""
        labels, below = self._paired(values), 0
        for bound, count in zip((*bounds, float("inf")), counts, strict=True):
            below += count
            self.samples.append(Sample(f"{self.name}_bucket", (*labels, ("le", _number(bound))), below))
        self.samples.append(Sample(f"{self.name}_count", labels, below))
        self.samples.append(Sample(f"{self.name}_sum", labels, total))

    def _paired(self, values: Sequence[str]) -> tuple[tuple[str, str], ...]:
        return tuple(zip(self.labels, values, strict=True))


def exposition(families: Iterable[Family]) -> bytes:
    """All families as text."""
    lines: list[str] = []
    for family in families:
        name = f"{family.name}_total" if family.kind is Kind.COUNTER else family.name
        help_text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        lines += (f"# HELP {name} {help_text}", f"# TYPE {name} {family.kind}")
        lines += map(_line, family.samples)
    return "".join(f"{line}\n" for line in lines).encode()


def _line(sample: Sample) -> str:
    if not sample.labels:
        return f"{sample.name} {_number(sample.value)}"
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(sample.labels))
    return f"{sample.name}{{{labels}}} {_number(sample.value)}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(float(value))
