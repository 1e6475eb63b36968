"""Draws what was measured as SVG: each ratio beside its goal, with the quartiles as a whisker."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.harness import Line, Outcome
from benchmarks.report import number

_WIDTH, _NAMES, _ROW = 860, 330, 26
_STYLE = (
    "<style>text{font:12px sans-serif;fill:#24292f}.met{fill:#2f7d4f}.missed{fill:#b3402e}"
    ".goal{stroke:#24292f;stroke-dasharray:3 3}.spread{stroke:#24292f;stroke-width:2}"
    ".ground{fill:#ffffff}</style>"
)


def draw(outcomes: Iterable[Outcome], folder: Path) -> None:
    """Writes ``goals.svg`` into ``folder``: how far every figure is on the good side of its goal.

    A value is drawn as the share of its goal that it reaches, on a logarithmic scale: right of the
    line is better, whether the goal is a least or a most.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bars = [(outcome, line) for outcome in outcomes for line in outcome.lines]
    if bars:
        (folder / "goals.svg").write_text(_goals(bars), encoding="utf-8")


def _goals(bars: list[tuple[Outcome, Line]]) -> str:
    reached = [
        (
            _share(line, line.value.low),
            _share(line, line.value.median),
            _share(line, line.value.high),
        )
        for _, line in bars
    ]
    extent = max(1.0, *(abs(math.log2(each)) for three in reached for each in three))
    height = _ROW * (len(bars) + 2)
    middle = _NAMES + (_WIDTH - _NAMES - 20) / 2
    scale = (_WIDTH - _NAMES - 40) / 2 / extent

    def place(share: float) -> float:
        return middle + math.log2(share) * scale

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
        _STYLE,
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>',
        f'<line class="goal" x1="{middle:.1f}" x2="{middle:.1f}" y1="{_ROW}" y2="{height - 6}"/>',
        f'<text x="{middle:.1f}" y="18" text-anchor="middle">goal</text>',
    ]
    for place_of, ((outcome, line), (low, median, high)) in enumerate(
        zip(bars, reached, strict=True)
    ):
        y = _ROW * (place_of + 1) + 6
        left, right = sorted((middle, place(median)))
        name = " · ".join(filter(None, (outcome.name, line.contender, line.figure)))
        told = f"{number(line.value.median)} (goal {line.goal})"
        parts += [
            f'<text x="8" y="{y + 13}">{escape(name[:48])}</text>',
            f'<rect class="{"met" if line.met else "missed"}" x="{left:.1f}" y="{y}" '
            f'width="{max(right - left, 1):.1f}" height="16"><title>{escape(told)}</title></rect>',
            f'<line class="spread" x1="{place(low):.1f}" x2="{place(high):.1f}" '
            f'y1="{y + 8}" y2="{y + 8}"/>',
            f'<text x="{_label(middle, median):.1f}" y="{y + 13}" '
            f'text-anchor="{"end" if median >= 1 else "start"}">{escape(told)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _share(line: Line, value: float) -> float:
    value, limit = max(value, 1e-9), max(line.limit, 1e-9)
    return value / limit if line.at_least else limit / value


def _label(middle: float, share: float) -> float:
    return middle - 8 if share >= 1 else middle + 8
