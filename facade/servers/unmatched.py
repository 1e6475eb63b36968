"""Why a query finds nothing: values that no server has, or only servers with another status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mcp_discovery.adapters.view import View
from mcp_discovery.nearest import all_nearest
from mcp_discovery.query.query import Query

#: For how many values of one query names like them are looked for: that compares each with all that
#: are known, and a filter may want hundreds.
_COMPARED = 3


@dataclass(frozen=True, slots=True)
class UnknownValue:
    """A wanted value that no server in the list has; ``nearest`` are those most like it."""

    filter: str
    value: str
    nearest: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """The JSON object that ``explain`` shows."""
        return {"filter": self.filter, "value": self.value, "nearest": list(self.nearest)}


def unknown_values(view: View, query: Query) -> Iterator[UnknownValue]:
    """The values that ``query`` wants and no server has, whatever its status; what is like the
    first few of them.

    Of filters that have an index and no fixed choices: a range of versions is no value.
    """
    left = _COMPARED
    for each, wanted, _ in query.indexed():
        if each.choices or each.syntax is not None:
            continue
        known = view.keys(each.name)
        for value in sorted(map(str, wanted)):
            if value not in known:
                near = all_nearest(value, known) if left > 0 else ()
                left -= 1
                yield UnknownValue(each.name, value, near)


def of_other_status(
    view: View, query: Query, among: Iterable[str] | None = None
) -> Mapping[str, int]:
    """How many instances pass every filter but that of the status, by their status; of the ids
    ``among`` alone where it is given."""
    wanted = query["status"]
    found = view.select(query.but(status=()), among=among) if wanted else []
    statuses = (entry.health.status.value for entry in found)
    return Counter(each for each in statuses if each not in wanted)
