"""Which servers a reader wants: values for some of the filters."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import utcnow
from mcp_discovery.nearest import nearest
from mcp_discovery.query.filters import ALL, FILTERS, Check, Filter, duration

if TYPE_CHECKING:
    from mcp_discovery.instance import Instance


class Query:
    """The wanted values by filter: ``Query(name="shop", tags={"a", "b"}, match="all")``.

    Each keyword is the name of a filter in :data:`~mcp_discovery.query.filters.FILTERS`, and its
    value what an instance needs to have: one value, or an iterable of them. An empty one admits
    every instance; one that is left out is the filter's default, so only healthy instances match
    unless ``status`` says otherwise. ``match`` decides for ``tags``: any of them, or all.

    Two queries are equal when they want the same. A query never changes.
    """

    __slots__ = ("_hash", "checks", "match", "min_uptime", "values")

    def __init__(self, *, match: str = "any", **wanted: Any) -> None:
        if unknown := wanted.keys() - FILTERS.keys():
            raise TypeError(f"there is no filter {', '.join(sorted(unknown))}")
        found = {name: _set_of(wanted.get(name, each.default)) for name, each in FILTERS.items()}
        self.match = match
        #: The wanted values of each filter that is set.
        self.values: Mapping[str, frozenset[Any]] = {
            name: values for name, values in found.items() if values
        }
        #: The name of each filter that is set and its check, the cheap ones first.
        self.checks: tuple[tuple[str, Check], ...] = tuple(
            (each.name, each.check(self.values[each.name], every=self._every(each)))
            for each in sorted(self._filters(), key=attrgetter("cost"))
        )
        #: The wanted uptime in seconds; 0 where none is.
        self.min_uptime: float = max(self["min_uptime"], default=0.0)
        self._hash = hash((match, frozenset(self.values.items())))

    def __getitem__(self, name: str) -> frozenset[Any]:
        """The wanted values of a filter; empty where it is not set."""
        return self.values.get(name, frozenset())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Query) and self.match == other.match and self.values == other.values
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Query({', '.join(f'{name}={text!r}' for name, text in self.params)})"

    @property
    def identity(self) -> Mapping[str, object]:
        """What the query wants as plain JSON: equal for equal queries, and for no others."""
        return {"match": self.match} | {
            name: sorted(map(str, values)) for name, values in self.values.items()
        }

    @property
    def params(self) -> tuple[tuple[str, str], ...]:
        """The query in the query string of a facade; what is the default is not said, as facades
        of earlier releases do not know every filter."""
        found = [
            (name, text)
            for name, each in FILTERS.items()
            if not each.default or self[name] != each.default
            for text in (sorted(map(str, self[name])) or ([ALL] if each.default else []))
        ]
        return (*found, *([("match", self.match)] if self.match != "any" else []))

    def but(self, **wanted: Any) -> Query:
        """The same query with other values for some of the filters."""
        return Query(match=self.match, **{name: self[name] for name in FILTERS} | wanted)

    def matches(self, instance: Instance, now: datetime | None = None) -> bool:
        """Whether ``instance`` matches at ``now``, by default this moment."""
        if now is None:
            now = utcnow() if self.min_uptime else instance.health.since
        # A loop: all() of a generator takes three times as long, and every stream checks here.
        for _, passes in self.checks:  # noqa: SIM110
            if not passes(instance, now):
                return False
        return True

    def failed(self, instance: Instance, now: datetime) -> list[str]:
        """The names of the filters that ``instance`` does not pass."""
        return [name for name, passes in self.checks if not passes(instance, now)]

    def indexed(self) -> Iterator[tuple[Filter, frozenset[Any], bool]]:
        """The set filters with an index, the wanted values, and whether every one is needed."""
        for each in self._filters():
            if each.index is not None:
                yield each, self.values[each.name], self._every(each)

    def _filters(self) -> Iterator[Filter]:
        return map(FILTERS.__getitem__, self.values)

    def _every(self, filter: Filter) -> bool:
        return self.match == "all" if filter.mode else filter.every


def query_of(given: Mapping[str, Any], *, usual: bool = False) -> Query:
    """The query that filters by name make, each one string or several: of MCP servers alone unless
    ``kind`` says otherwise, and of every status unless one is named, or with ``usual`` of all
    filters' defaults, where durations are taken, too.

    Raises :class:`InvalidInputError` for an unknown filter or value, naming the nearest.
    """
    known = {each.name: each for each in FILTERS.values() if usual or each.measure is None}
    modes = {each.mode.name: each.mode for each in known.values() if each.mode is not None}
    wanted: dict[str, Any] = {} if usual else {name: () for name in known if name != "kind"}
    for name, value in given.items():
        if value is None:
            continue
        if (mode := modes.get(name)) is not None:
            wanted[name] = _one_of(name, value, mode.choices)
            continue
        if (filter := known.get(name)) is None:
            near = nearest(name, (*known, *modes))
            hint = f"; did you mean {near!r}?" if near else ""
            raise InvalidInputError(f"unknown filter {name[:100]!r}{hint}")
        values = (value,) if isinstance(value, str) else tuple(value)
        if not all(isinstance(each, str) and each for each in values):
            raise InvalidInputError(
                f"{name}={value!r} is not a string or several; write {name}='a'"
            )
        if filter.measure is not None:
            wanted[name] = {_seconds(filter, each) for each in values}
            continue
        if values != (ALL,) and filter.choices:
            for each in values:
                _one_of(name, each, filter.choices)
        wanted[name] = filter.values(values)
    return Query(**wanted)


def _one_of(name: str, value: str, choices: Collection[str]) -> str:
    if value not in choices:
        near = nearest(str(value), choices)
        hint = f"; did you mean {near!r}?" if near else ""
        raise InvalidInputError(f"{name}={value!r} is none of {', '.join(choices)}{hint}")
    return value


def _seconds(filter: Filter, text: str) -> float:
    value = duration(text)
    if value is None or not 0 < value <= filter.most:
        raise InvalidInputError(
            f"{filter.name}={text[:100]!r} is no duration up to {filter.most:g} s; write 30s or 10m"
        )
    return value


def _set_of(given: str | float | Iterable[Any]) -> frozenset[Any]:
    return frozenset((given,) if isinstance(given, str | float | int) else given)
