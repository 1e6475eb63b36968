"""Measures a history: how long each thing took that a promise bounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tests.faults.history import History, ObservedEvent
from tests.faults.observations import OFFERED, Reader, Truth

#: What is measured, in words.
SILENT_WATCHED = "server silent → not shown healthy, its sidecar lives"
SILENT_ALONE = "sidecar dead or cut off → not shown healthy"
BACK = "begins to live → offered"
STORE_BACK = "store is back → every living instance offered, nothing stale"
STALE = "store or its way gone → the facade says stale"

Figures = dict[str, list[float]]


def measure(history: History) -> Figures:
    """Seconds for each of the above, one for each reader and occasion."""
    return _Measure().run(history)


def table(figures: Figures) -> str:
    """The figures for people: how often, median, 95th percentile, worst."""
    rows = [f"{'':62} {'n':>5} {'p50':>6} {'p95':>6} {'worst':>6}"]
    for what, seconds in figures.items():
        ranked = sorted(seconds)
        if ranked:
            marks = (ranked[len(ranked) // 2], ranked[int(0.95 * (len(ranked) - 1))], ranked[-1])
            rows.append(f"{what:62} {len(ranked):5} " + " ".join(f"{each:6.2f}" for each in marks))
    return "\n".join(rows)


class _Measure:
    def __init__(self) -> None:
        self._figures: Figures = defaultdict(list)
        self._truth: dict[str, Truth] = {}
        self._readers: dict[str, Reader] = {}
        #: What is under way: (what, reader, instance) → since when.
        self._open: dict[tuple[str, str, str], float] = {}
        self._away = False

    def run(self, history: History) -> Figures:
        for one in history:
            self._take(one)
        return {
            what: self._figures[what]
            for what in (SILENT_WATCHED, SILENT_ALONE, BACK, STORE_BACK, STALE)
        }

    def _take(self, one: ObservedEvent) -> None:
        match one.kind:
            case "note":
                return
            case "store-away" | "store-shaky" | "store-back":
                self._away = one.kind != "store-back"
                self._open.clear()  # what was under way is not this clock's any more
                if one.kind == "store-shaky":
                    return
                for name, reader in self._readers.items():
                    if not (reader.down or reader.parted or reader.away):
                        self._open[STALE if self._away else STORE_BACK, name, "*"] = one.at
            case "facade-down" | "facade-up" | "facade-parted" | "facade-joined":
                for name, reader in self._readers.items():
                    if name.partition("/")[0] == one.target:
                        reader.facade(one)
                        self._drop(name)
                        if one.kind == "facade-parted" and not self._away:
                            self._open[STALE, name, "*"] = one.at
            case "unread" | "read" | "stale" | "fresh":
                reader = self._readers.setdefault(one.target, Reader())
                reader.seen(one)
                if reader.stale:
                    self._close(STALE, one.target, "*", one.at)
                if reader.away:
                    self._drop(one.target)
                self._look(one.target, one.at)
            case "list" | "change":
                reader = self._readers.setdefault(one.target, Reader())
                reader.shown = reader.listed(one)
                self._look(one.target, one.at)
            case _:
                self._truth.setdefault(one.target, Truth()).become(one)
                self._begin(one)

    def _begin(self, one: ObservedEvent) -> None:
        truth = self._truth[one.target]
        what = {
            "silent": SILENT_WATCHED if truth.vouched else None,
            "unwatched": None if truth.left else SILENT_ALONE,
            "parted": SILENT_ALONE,
        }.get(one.kind, BACK if truth.lives else None)
        self._open = {key: at for key, at in self._open.items() if key[2] != one.target}
        if what is None or self._away:
            return
        for name, reader in self._readers.items():
            if not (reader.down or reader.parted or reader.away or reader.stale):
                self._open[what, name, one.target] = one.at
                self._look(name, one.at)

    def _look(self, name: str, now: float) -> None:
        reader = self._readers[name]
        for what, whose, id in list(self._open):
            if whose != name:
                continue
            status = reader.shown.get(id)
            ended = what in (SILENT_WATCHED, SILENT_ALONE) and status != "healthy"
            offered = what == BACK and status in OFFERED
            if ended or offered or (what == STORE_BACK and self._whole(reader)):
                self._close(what, name, id, now)

    def _whole(self, reader: Reader) -> bool:
        lives: Iterable[str] = (id for id, truth in self._truth.items() if truth.lives)
        return not reader.stale and all(reader.shown.get(id) in OFFERED for id in lives)

    def _close(self, what: str, name: str, id: str, now: float) -> None:
        since = self._open.pop((what, name, id), None)
        if since is not None:
            self._figures[what].append(now - since)

    def _drop(self, name: str) -> None:
        self._open = {key: at for key, at in self._open.items() if key[1] != name}
