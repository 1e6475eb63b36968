"""What a view costs: counted in looks at names, as seconds would be another machine's."""

from __future__ import annotations

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.health import healthy
from mcp_discovery.instance import Holder, Instance, Lease
from tests.records import record

LEASE = Lease(Holder("h", "host", "sidecar"), 10, 60)


class Name(str):
    """A name that counts how often its hash is asked for."""

    __slots__ = ()
    asked = 0

    def __hash__(self) -> int:
        Name.asked += 1
        return str.__hash__(self)


def test_a_server_with_very_many_names_costs_in_proportion_to_them() -> None:
    names = tuple(Name(f"tool-{number}") for number in range(2000))
    one = record("a")
    offered = one.capabilities.model_copy(update={"tools": names})
    instance = Instance(one.model_copy(update={"capabilities": offered}), healthy(), LEASE)
    entry = Entry(instance)
    Name.asked = 0
    view = View("epoch").with_entry("a", entry)
    assert view.number("tool", "tool-1999") == 1
    assert not view.with_entry("a", None).keys("tool")
    assert view.rebuilt({"a": entry}, 2).number("capability", "tool-0") == 1
    assert Name.asked < 100 * len(names)
