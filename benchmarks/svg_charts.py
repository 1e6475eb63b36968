"""Charts as SVG, readable on light and dark pages: points over two axes, some with whiskers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from benchmarks.harness import Spread
from benchmarks.report import number

_WIDTH, _HEIGHT = 860, 384
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 80, 46
#: Where the names of the series stand, between the title and the label of the y axis.
_LEGEND = 44
_COLOURS = ("c1", "c2", "c3")
_LIGHT = (
    "text{font:12px sans-serif;fill:#24292f}.ground{fill:#ffffff}.grid{stroke:#d0d7de}"
    ".line{fill:none;stroke-width:2}.whisker{stroke-width:2}"
    ".goal{stroke:#24292f;stroke-dasharray:4 4}.spread{stroke:#24292f;stroke-width:2}"
    ".met{fill:#2f7d4f}.missed{fill:#b3402e}"
    ".c1{stroke:#0969da;fill:#0969da}"
    ".c2{stroke:#bc4c00;fill:#bc4c00}.c3{stroke:#8250df;fill:#8250df}"
)
_DARK = (
    "text{fill:#e6edf3}.ground{fill:#0d1117}.grid{stroke:#30363d}"
    ".goal,.spread{stroke:#e6edf3}.met{fill:#3fa66b}.missed{fill:#e5634d}"
    ".c1{stroke:#58a6ff;fill:#58a6ff}"
    ".c2{stroke:#f0883e;fill:#f0883e}.c3{stroke:#bc8cff;fill:#bc8cff}"
)
_STYLE = f"<style>{_LIGHT}@media(prefers-color-scheme:dark){{{_DARK}}}.line{{fill:none}}</style>"


@dataclass(frozen=True, slots=True)
class Axis:
    """From ``low`` to ``high``; ``ticks`` are values with what is written beside them."""

    label: str
    low: float
    high: float
    ticks: Mapping[float, str]
    log: bool = False

    @classmethod
    def linear(cls, label: str, high: float) -> Axis:
        """From 0 to a round value that is not less than ``high``."""
        step = 10.0 ** math.floor(math.log10(max(high, 1e-9)))
        step = next(step * part for part in (0.2, 0.5, 1, 2) if high / (step * part) <= 6)
        count = math.ceil(high / step)
        ticks = {step * each: number(step * each) for each in range(count + 1)}
        return cls(label, 0.0, step * count, ticks)

    @classmethod
    def of_names(cls, label: str, names: Sequence[str]) -> Axis:
        """One place for each name: 0, 1, 2 …"""
        return cls(label, -0.5, len(names) - 0.5, dict(enumerate(names)))

    @classmethod
    def by_powers(cls, label: str, values: Sequence[float]) -> Axis:
        """As far from 10 to 100 as from 100 to 1,000, with a tick at each of ``values``."""
        ticks = {value: number(value) for value in values}
        return cls(label, min(values) / 1.5, max(values) * 1.5, ticks, log=True)

    def share(self, value: float) -> float:
        """Where ``value`` lies: 0 at the beginning, 1 at the end."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Series:
    """Points, as x and y; a y with quartiles has a whisker. ``dash``: drawn as limits are."""

    name: str
    points: Sequence[tuple[float, Spread]]
    joined: bool = True
    dash: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Series over two axes; ``limit`` is an x at which a line stands, with its name."""

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    limit: tuple[float, str] | None = field(default=None)

    def svg(self) -> str:
        """The chart as a file."""
        return framed(_WIDTH, _HEIGHT, [*self._frame(), *self._limit(), *self._drawn()])

    def _x(self, value: float) -> float:
        return _LEFT + self.x.share(value) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - self.y.share(value) * (_HEIGHT - _TOP - _BOTTOM)

    def _frame(self) -> Iterator[str]:
        bottom = _HEIGHT - _BOTTOM
        yield text(12, 20, self.title, weight="bold")
        yield text(12, _TOP - 8, self.y.label)
        yield text(_WIDTH - _RIGHT, _HEIGHT - 8, self.x.label, anchor="end")
        for value, name in self.y.ticks.items():
            yield line("grid", _LEFT, self._y(value), _WIDTH - _RIGHT, self._y(value))
            yield text(_LEFT - 8, self._y(value) + 4, name, anchor="end")
        for value, name in self.x.ticks.items():
            yield line("grid", self._x(value), bottom, self._x(value), bottom + 5)
            yield text(self._x(value), bottom + 20, name, anchor="middle")

    def _limit(self) -> Iterator[str]:
        if self.limit is not None:
            at = self._x(self.limit[0])
            yield line("goal", at, _TOP, at, _HEIGHT - _BOTTOM)
            yield text(at - 6, _TOP + 12, self.limit[1], anchor="end")

    def _drawn(self) -> Iterator[str]:
        beside = float(_WIDTH - _RIGHT)
        for place, each in reversed(list(enumerate(self.series))):
            colour = "goal" if each.dash else _COLOURS[place % len(_COLOURS)]
            yield text(beside, _LEGEND, each.name, anchor="end")
            beside -= 6.7 * len(each.name) + 8
            yield line(f"{colour} whisker", beside - 18, _LEGEND - 4, beside, _LEGEND - 4)
            beside -= 34
            yield from self._points(each, colour)

    def _points(self, series: Series, colour: str) -> Iterator[str]:
        places = [(self._x(x), self._y(spread.median)) for x, spread in series.points]
        if series.joined:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            yield f'<polyline class="{colour} line" points="{path}"/>'
        for (x, y), (_, spread) in zip(places, series.points, strict=True):
            if series.dash:
                yield line("goal", x - 14, y, x + 14, y)
                continue
            if spread.high > spread.low:
                yield line(f"{colour} whisker", x, self._y(spread.low), x, self._y(spread.high))
            told = f"{series.name}: {number(spread.median)}"
            yield (
                f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4">'
                f"<title>{escape(told)}</title></circle>"
            )


def framed(width: int, height: int, parts: Sequence[str]) -> str:
    """A whole file: its style, its ground and ``parts``."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
            _STYLE,
            f'<rect class="ground" width="{width}" height="{height}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    """Words that begin, end or have their ``middle`` at ``x``."""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {where} style="font-weight:{weight}">{escape(words)}</text>'


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line of one of the style's classes."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
