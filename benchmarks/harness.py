"""Runs contenders in turns and tells their ratio, its spread and how quiet the machine was.

A row is an async generator that sets its scene and yields one :class:`Contest`::

    @row(1, "requests-consul", "GET /servers, 20 of 1,000", unit="requests/s",
         goals=(Goal(10, at_least=True),))
    async def requests(scale: Scale) -> AsyncGenerator[Contest, None]:
        async with a_facade() as facade, a_consul() as consul:
            yield Contest([Contender("facade", facade.rate)], beside=Contender("consul", ...))

Each round runs every contender once, the next round in the opposite order, so that what slows the
machine slows all of them. A round gives one ratio for each contender; what is told is the median of
these ratios and their quartiles. Before every run a fixed loop is timed: its spread is the noise.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import pkgutil
import statistics
import time
import traceback
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeAlias

from benchmarks.machine import busy, utc_now

log = logging.getLogger(__name__)

#: What one run measures: one figure, or several by their names.
Measured: TypeAlias = float | Mapping[str, float]

_ROUNDS, _QUICK_ROUNDS = 7, 2


class Unavailable(Exception):
    """A row cannot be run here; ``str()`` says what is missing and where to get it."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured; ``quick`` is for trying out and for the smoke test."""

    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        """``full``, or ``quick`` in a quick run."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is held against.

    It is a bound of ``ours / beside``: at most ``limit``, with ``at_least`` not less than it.
    ``plus`` (in the row's unit) is taken off ours before. ``absolute``: of the figure itself.
    ``figure`` names the one that is meant where a run measures several; ``unit`` is its unit where
    it is not the row's. The median of the rounds is judged, with ``worst`` the worst round.
    """

    limit: float
    at_least: bool = False
    figure: str = ""
    plus: float = 0.0
    absolute: bool = False
    unit: str = ""
    worst: bool = False

    def judged(self, values: Sequence[float]) -> float:
        """The one of ``values`` that decides whether the goal is met."""
        if self.worst:
            return min(values) if self.at_least else max(values)
        return statistics.median(values)

    def met(self, value: float) -> bool:
        """Whether ``value`` is within the bound."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        plus = f" plus {self.plus:g}" if self.plus else ""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{plus}"


@dataclass(frozen=True, slots=True)
class Contender:
    """One of those that are compared; ``run`` measures it once.

    With ``has_goal`` false its figures are told and not judged.
    """

    name: str
    run: Callable[[], Awaitable[Measured]]
    has_goal: bool = True


@dataclass(slots=True)
class Contest:
    """Who is compared with whom, ``None`` where the goals are absolute.

    ``facts`` are told below the table: what must be known to believe the figures.
    """

    contenders: Sequence[Contender]
    beside: Contender | None = None
    rounds: int | None = None
    facts: dict[str, str] = field(default_factory=dict)


#: Sets the scene, yields one contest, and clears up when it is over.
Scene: TypeAlias = Callable[[Scale], AsyncGenerator[Contest, None]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``number`` orders them and ``what`` is for people."""

    number: int
    name: str
    what: str
    unit: str
    goals: tuple[Goal, ...]
    scene: Scene


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one or more values."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True, slots=True)
class Line:
    """What came out for one contender and one goal.

    ``value`` is the ratio, ``plus`` being taken off ours, or the figure where the goal is absolute.
    ``judged`` is its median, or its ``worst`` where the goal is of every round. ``close``: the goal
    lies between the quartiles, or between them and the worst, so that another run may say
    otherwise. Where the contender has no goal, ``goal`` is empty and ``met`` is ``None``.
    """

    contender: str
    figure: str
    unit: str
    goal: str
    limit: float
    at_least: bool
    plus: float
    ours: Spread
    beside: Spread | None
    value: Spread
    judged: float
    worst: bool
    met: bool | None
    close: bool


@dataclass(slots=True)
class Outcome:
    """All of one row, measured ``at`` that time. ``noise`` is the spread of the fixed loop, in
    milliseconds."""

    number: int
    name: str
    what: str
    beside: str
    at: str = ""
    seconds: float = 0.0
    problem: str = ""
    noise: Spread | None = None
    lines: list[Line] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    runs: dict[str, list[dict[str, float]]] = field(default_factory=dict)


ROWS: list[Row] = []


def row(
    number: int, name: str, what: str, *, unit: str, goals: tuple[Goal, ...]
) -> Callable[[Scene], Scene]:
    """Registers a scene as a row of the table; ``unit`` is what its figures are in."""

    def register(scene: Scene) -> Scene:
        ROWS.append(Row(number, name, what, unit, goals, scene))
        return scene

    return register


def load_rows() -> list[Row]:
    """All rows, in order: of every module in ``benchmarks/rows``."""
    from benchmarks import rows

    for module in pkgutil.iter_modules(rows.__path__):
        importlib.import_module(f"{rows.__name__}.{module.name}")
    return sorted(ROWS, key=lambda each: (each.number, each.name))


async def run_row(each: Row, scale: Scale, said: Callable[[str], None] = lambda _: None) -> Outcome:
    """Measures one row; a row that cannot be run tells it in ``problem``."""
    outcome = Outcome(each.number, each.name, each.what, "–", at=utc_now())
    began = time.monotonic()
    try:
        async with aclosing(each.scene(scale)) as scene:
            contest = await anext(scene)
            if contest.beside is not None:
                outcome.beside = contest.beside.name
            noise = await _compete(contest, scale, outcome, said)
            outcome.noise = Spread.of([value * 1000 for value in noise])
            outcome.lines = list(_lines(each, contest, outcome.runs))
            outcome.facts = contest.facts
    except Unavailable as error:
        outcome.problem = str(error)
    except Exception as error:  # the guard that keeps the other rows coming
        log.exception("%s failed", each.name)
        outcome.problem = f"it failed: {''.join(traceback.format_exception_only(error)).strip()}"
        outcome.lines = []  # where only the clean-up failed: what was measured is not to be trusted
    outcome.seconds = time.monotonic() - began
    return outcome


async def _compete(
    contest: Contest, scale: Scale, outcome: Outcome, said: Callable[[str], None]
) -> list[float]:
    everyone = [*contest.contenders, *([contest.beside] if contest.beside else [])]
    runs: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    noise = []
    rounds = contest.rounds or scale.of(_ROUNDS, _QUICK_ROUNDS)
    for number in range(rounds):
        for contender in everyone if number % 2 == 0 else reversed(everyone):
            said(f"{outcome.name}: round {number + 1} of {rounds}, {contender.name}")
            noise.append(busy())
            measured = await contender.run()
            if not isinstance(measured, Mapping):
                measured = {"": measured}
            runs[contender.name].append(dict(measured))
            await asyncio.sleep(0)
    outcome.runs = dict(runs)
    return noise


def _lines(each: Row, contest: Contest, runs: dict[str, list[dict[str, float]]]) -> Iterable[Line]:
    for contender in contest.contenders:
        for goal in each.goals:
            ours = [run[goal.figure] for run in runs[contender.name]]
            theirs: list[float] = []
            values = ours
            if contest.beside is not None and not goal.absolute:
                theirs = [run[goal.figure] for run in runs[contest.beside.name]]
                values = [
                    (mine - goal.plus) / other for mine, other in zip(ours, theirs, strict=True)
                ]
            value, judged = Spread.of(values), goal.judged(values)
            least, most = min(value.low, judged), max(value.high, judged)
            yield Line(
                contender=contender.name,
                figure=goal.figure,
                unit=goal.unit or each.unit,
                goal=str(goal) if contender.has_goal else "",
                limit=goal.limit,
                at_least=goal.at_least,
                plus=goal.plus,
                ours=Spread.of(ours),
                beside=Spread.of(theirs) if theirs else None,
                value=value,
                judged=judged,
                worst=goal.worst,
                met=goal.met(judged) if contender.has_goal else None,
                close=contender.has_goal and least <= goal.limit <= most and least < most,
            )
