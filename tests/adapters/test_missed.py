"""Who is missed: what left the list without a goodbye, and for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.missed import MissedInstances
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.health import (
    ANSWERS,
    Health,
    Status,
    rfc3339,
    silent_for,
    unreachable,
    utcnow,
)
from mcp_discovery.instance import Holder, Instance, Lease
from tests.records import record

WELL = Health(Status.HEALTHY, ANSWERS)
LAPSED = Health(Status.DOWN, silent_for(10))
SILENT = replace(LAPSED, last_seen=utcnow() - timedelta(seconds=300))
CUT_OFF = Health(Status.DOWN, unreachable("host-1"))
REFUSED = Health(Status.DOWN, "connection refused")
LEAVING = Health(Status.DRAINING, "draining: leaves soon")


def instance(id: str, health: Health = WELL, age: float = 0.0) -> Instance:
    """An instance of the server that its id begins with, registered ``age`` seconds ago."""
    if health is LAPSED:  # heard until now: these tests may run long after they were read
        health = replace(health, last_seen=utcnow())
    lease = Lease(ttl=10.0, reap_after=300.0, holder=Holder(id="h", by="sidecar", host="here"))
    since = rfc3339(utcnow() - timedelta(seconds=age))
    return Instance(record(id, name=id.partition("-")[0], registeredAt=since), health, lease)


class Followed:
    """A catalog with shop-1, shop-2 and bank-1, and who is missed of it."""

    def __init__(self) -> None:
        self.catalog = Catalog(EmbeddedStore(), ring=10)
        self.missed = MissedInstances(self.catalog)
        self.all = {id: instance(id, age=3600) for id in ("shop-1", "shop-2", "bank-1")}
        self.catalog.apply(Snapshot(self.all))

    def become(self, id: str, *healths: Health | None) -> None:
        """The store says so of it, one after the other; ``None``: it is gone."""
        for health in healths:
            self.catalog.apply(Change(id, None if health is None else instance(id, health)))

    @property
    def ids(self) -> list[str]:
        """Who is missed now."""
        return [entry.id for entry in self.missed.entries()]


@pytest.mark.parametrize(
    ("healths", "missed"),
    [
        ((SILENT, None), True),
        ((LAPSED, None), False),  # it came back to say goodbye, long before it would be reaped
        ((REFUSED, SILENT, None), True),
        ((CUT_OFF, None), True),
        ((None,), False),  # deregistered without a drain
        ((LEAVING, None), False),
        ((REFUSED, None), False),  # its sidecar lived, and said goodbye
        ((SILENT, WELL, None), False),
        ((SILENT,), False),  # it is listed still
    ],
)
async def test_missed_is_who_fell_silent_and_left(
    healths: tuple[Health | None, ...], missed: bool
) -> None:
    followed = Followed()
    followed.become("shop-1", *healths)
    assert followed.ids == (["shop-1"] if missed else [])


@pytest.mark.parametrize(
    ("leaves", "missed"),
    [
        (["shop-1", "shop-2"], ["shop-2"]),  # each newcomer takes one place
        (["bank-1"], ["bank-1"]),
        (["shop-3", "shop-1"], ["shop-1", "shop-3"]),
    ],
)
@pytest.mark.parametrize("health", [SILENT, CUT_OFF])
async def test_a_successor_may_come_before_the_one_that_it_replaces_falls_silent(
    health: Health, leaves: list[str], missed: list[str]
) -> None:
    followed = Followed()
    followed.become("shop-3", WELL)
    for id in leaves:
        followed.become(id, health, None)
    assert followed.ids == missed


async def test_who_left_in_good_order_has_a_successor_too() -> None:
    followed = Followed()
    followed.become("shop-3", WELL)
    followed.become("shop-1", None)
    followed.become("shop-2", SILENT, None)
    assert followed.ids == ["shop-2"]


async def test_after_more_changes_than_are_kept_the_list_says_who_is_silent() -> None:
    followed = Followed()
    followed.become("shop-1", SILENT)
    followed.become("shop-2", SILENT, None)
    assert followed.ids == ["shop-2"]
    followed.become("shop-1", WELL)
    followed.become("shop-2", WELL)
    followed.become("bank-1", SILENT, *[WELL, SILENT] * 6)
    assert followed.ids == []
    for id in ("shop-1", "bank-1"):
        followed.become(id, None)
    assert followed.ids == ["bank-1"]


@pytest.mark.parametrize("when", ["while it is silent", "later"])
@pytest.mark.parametrize("who", ["itself", "another of its name", "another server"])
async def test_it_is_missed_until_somebody_takes_its_place(when: str, who: str) -> None:
    followed = Followed()
    newcomer = {"itself": "shop-1", "another of its name": "shop-3"}.get(who, "till-1")
    followed.become("shop-1", SILENT)
    if when == "later":
        followed.become("shop-1", None)
        assert followed.ids == ["shop-1"]
        followed.become(newcomer, WELL)
    else:
        followed.become(newcomer, WELL)
        if who != "itself":
            followed.become("shop-1", None)
    assert followed.ids == (["shop-1"] if who == "another server" else [])


async def test_one_newcomer_takes_one_place() -> None:
    followed = Followed()
    for id in ("shop-1", "shop-2"):
        followed.become(id, SILENT, None)
    followed.become("shop-3", WELL)
    assert len(followed.ids) == 1
    followed.become("shop-4", SILENT)  # who comes silent takes nobody's place
    assert len(followed.ids) == 1


async def test_what_somebody_removes_is_not_missed() -> None:
    followed = Followed()
    followed.become("shop-1", SILENT)
    assert followed.missed.forget("shop-1")
    followed.become("shop-1", None)
    followed.become("shop-2", SILENT, None)
    assert followed.ids == ["shop-2"]
    assert followed.missed.forget("shop-2")
    assert not followed.missed.forget("shop-2")
    assert followed.ids == []


async def test_a_mass_drop_is_missed_and_one_that_left_unseen_is_not() -> None:
    followed = Followed()
    alone = {id: each for id, each in followed.all.items() if id != "bank-1"}
    followed.catalog.apply(Snapshot(alone))
    followed.become("bank-1", None)  # the hold is over
    assert followed.catalog.mass_drops == 0
    assert followed.ids == []
    followed.catalog.apply(Snapshot({}))
    assert followed.catalog.mass_drops == 1
    followed.catalog.apply(Snapshot({"shop-1": replace(alone["shop-1"])}))
    followed.catalog._held["shop-2"] = 0.0
    followed.catalog._remove_held()
    assert followed.ids == ["shop-2"]
