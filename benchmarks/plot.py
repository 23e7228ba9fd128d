"""A bar chart as SVG text: ours beside theirs, level by level. Pure; written here, since this is all that is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 760, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 10, 46, 44
_COLOURS = ("#2563eb", "#9ca3af")
_FONT = 'font-family="sans-serif" font-size="12"'
_LOG_FROM = 30.0
"""A chart whose largest value is so many times its smallest has a logarithmic axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """``values``: ours and theirs at each of ``labels``; all above 0. ``names``: of the two sides."""

    title: str
    labels: Sequence[str]
    values: Sequence[tuple[float, float]]
    names: tuple[str, str]


def chart(bars: Bars) -> str:
    """The chart; ValueError when there is nothing to draw."""
    every = [value for pair in bars.values for value in pair]
    if not every or min(every) <= 0:
        raise ValueError(f"nothing to draw: {bars.title}")
    logarithmic = max(every) / min(every) > _LOG_FROM
    ticks = _log_ticks(min(every), max(every)) if logarithmic else _ticks(max(every))

    def height(value: float) -> float:
        low, high = ticks[0], ticks[-1]
        share = math.log(value / low) / math.log(high / low) if logarithmic else value / high
        return share * (_HEIGHT - _TOP - _BOTTOM)

    floor = _HEIGHT - _BOTTOM
    title = bars.title + (" (logarithmic)" if logarithmic else "")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="18" {_FONT} font-weight="bold">{escape(title)}</text>',
    ]
    for number, name in enumerate(bars.names):
        x = _LEFT + number * 220
        parts.append(f'<rect x="{x}" y="26" width="10" height="10" fill="{_COLOURS[number]}"/>')
        parts.append(f'<text x="{x + 15}" y="36" {_FONT}>{escape(name)}</text>')
    for tick in ticks:
        y = floor - height(tick)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" {_FONT} text-anchor="end">{tick:,.10g}</text>')
    step = (_WIDTH - _LEFT - _RIGHT) / len(bars.labels)
    width = min(step * 0.36, 40)
    for place, (label, pair) in enumerate(zip(bars.labels, bars.values, strict=True)):
        middle = _LEFT + (place + 0.5) * step
        for number, value in enumerate(pair):
            tall = max(height(value), 1.0)
            at = middle + (number - 1) * width
            parts.append(
                f'<rect x="{at:.1f}" y="{floor - tall:.1f}" width="{width:.1f}" height="{tall:.1f}" '
                f'fill="{_COLOURS[number]}"/>'
            )
        size = 12 if len(label) * 7 < step else 9
        lines = label.split(", ") if len(label) * 7 >= step else [label]
        for row, line in enumerate(lines):
            y = floor + 16 + 12 * row
            parts.append(
                f'<text x="{middle:.1f}" y="{y}" font-family="sans-serif" font-size="{size}" '
                f'text-anchor="middle">{escape(line)}</text>'
            )
    return "\n".join([*parts, "</svg>", ""])


def _ticks(highest: float) -> list[float]:
    """Round numbers from 0 to at least ``highest``."""
    rough = highest / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [number * step for number in range(math.ceil(highest / step) + 1)]


def _log_ticks(lowest: float, highest: float) -> list[float]:
    low, high = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]
