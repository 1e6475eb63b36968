"""The catalog against a plain dictionary, whatever the store says in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_discovery.adapters import catalog as catalog_module
from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.adapters.tombstone import tombstone
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.errors import OutdatedRevisionError, StoreUnavailableError
from mcp_discovery.health import Health, Status, rfc3339, utcnow
from mcp_discovery.instance import Holder, Instance, Lease, instance_from_dict
from mcp_discovery.query.query import Query
from tests.records import record
from tests.stores.waiting import bounded, until_holds

LEASE = Lease(Holder("h1-h", "host", "sidecar"), 10, 60)
NOW = utcnow()

TAGS = ("products", "stock", "eu")
TOOLS = ("search", "get", "buy")
NAMES = ("catalog", "orders")


def instance(
    id: str,
    name: str = "catalog",
    tags: tuple[str, ...] = (),
    tools: tuple[str, ...] = (),
    status: Status = Status.HEALTHY,
    reason: str = "answers MCP",
) -> Instance:
    said = record(
        id,
        name=name,
        tags=list(tags),
        capabilities={"tools": list(tools)},
        registeredAt=rfc3339(NOW),
    )
    return Instance(said, Health(status, reason, NOW, NOW), LEASE)


ids = st.sampled_from([f"i-{n}" for n in range(6)])
instances = st.builds(
    instance,
    ids,
    st.sampled_from(NAMES),
    st.sets(st.sampled_from(TAGS)).map(lambda found: tuple(sorted(found))),
    st.sets(st.sampled_from(TOOLS)).map(lambda found: tuple(sorted(found))),
    st.sampled_from(Status),
    st.sampled_from(["answers MCP", "slow"]),
)
snapshots = st.lists(instances, max_size=6).map(lambda all: Snapshot({i.id: i for i in all}))
changes = instances.map(lambda i: Change(i.id, i)) | ids.map(lambda id: Change(id, None))
events = st.lists(snapshots | changes, max_size=20)
queries = st.builds(
    Query,
    tags=st.frozensets(st.sampled_from((*TAGS, "unheard-of"))),
    match=st.sampled_from(("any", "all")),
    capability=st.frozensets(st.sampled_from(TOOLS), max_size=2),
    status=st.frozensets(st.sampled_from(Status)),
    name=st.frozensets(st.sampled_from(NAMES), max_size=1),
)


class Model:
    """The same list as a dictionary, answered by a scan."""

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}

    def apply(self, event: Snapshot | Change) -> int:
        """Returns how many visible changes the event makes."""
        before = dict(self.instances)
        if isinstance(event, Snapshot):
            self.instances = dict(event.instances)
        elif event.instance is None:
            self.instances.pop(event.id, None)
        else:
            self.instances[event.id] = event.instance
        both = before.keys() | self.instances.keys()
        changed = [id for id in both if before.get(id) != self.instances.get(id)]
        entering = [
            id
            for id in changed
            if id in before and id in self.instances and _enters(before[id], self.instances[id])
        ]
        return len(changed) + len(entering)  # these leave the list, and come back

    def select(self, query: Query) -> list[str]:
        found = [
            i
            for i in self.instances.values()
            if (not query["status"] or i.health.status in query["status"])
            and (not query["name"] or i.record.name in query["name"])
            and all(tool in i.record.capabilities.tools for tool in query["capability"])
            and (
                not query["tags"]
                or {"any": any, "all": all}[query.match](
                    tag in i.record.tags for tag in query["tags"]
                )
            )
        ]
        return [i.id for i in sorted(found, key=lambda i: (i.record.name, i.id))]


def _enters(before: Instance, now: Instance) -> bool:
    quarantined = Status.QUARANTINED
    return now.health.status is quarantined and before.health.status is not quarantined


@pytest.mark.parametrize("bulk", [1, 3, 1000], ids=["always rebuilt", "mixed", "one by one"])
@settings(deadline=None)
@given(data=st.data())
@pytest.mark.slow
def test_any_sequence_answers_as_a_scan_does(bulk: int, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog_module, "_BULK", bulk)
        catalog, model = Catalog(EmbeddedStore(), hold=0), Model()
        seen: list[tuple[View, dict[str, Instance]]] = []
        for event in data.draw(events):
            revision = catalog.view.revision
            visible = model.apply(event)
            catalog.apply(event)
            assert catalog.view.revision == revision + visible
            assert {e.id: e.instance for e in catalog.view} == model.instances
            query = data.draw(queries)
            assert [e.id for e in catalog.view.select(query)] == model.select(query)
            seen.append((catalog.view, dict(model.instances)))
        for view, then in seen:
            # A picture once taken never changes, and its reader can catch up from it.
            assert {e.id: e.instance for e in view} == then
            for change in catalog.since(view.epoch, view.revision):
                if change.entry is None:
                    del then[change.id]
                else:
                    then[change.id] = change.entry.instance
            assert then == model.instances
        view = catalog.view
        for index in (*view.by_instance.values(), view.kinds):
            assert all(len(ids) for ids in index.values())  # no empty leftovers
        for by_kind in view.by_kind.values():
            assert all(len(kinds) for kinds in by_kind.values())
        assert {id for ids in view.kinds.values() for id in ids} == set(view.entries)


@given(instances)
def test_an_entry_says_the_same_in_json(one: Instance) -> None:
    entry = orjson.loads(Entry(one).json(NOW))
    assert instance_from_dict(entry) == one
    assert entry["url"] == one.record.endpoint.url
    assert entry["status"] == one.health.status.value


def test_last_seen_moves_while_the_store_vouches_for_it() -> None:
    later = NOW + timedelta(minutes=5)
    assert Entry(instance("a")).last_seen(later) == later - timedelta(seconds=10)
    assert Entry(instance("a")).last_seen(NOW) == NOW
    assert Entry(instance("a", status=Status.DOWN)).last_seen(later) == NOW


def test_a_reader_that_cannot_resume_is_told() -> None:
    catalog = Catalog(EmbeddedStore(), ring=3)
    epoch = catalog.view.epoch
    for number in range(5):
        catalog.apply(Change("a", instance("a", reason=str(number))))
    assert [event.revision for event in catalog.since(epoch, 2)] == [3, 4, 5]
    assert catalog.since(epoch, 5) == []
    with pytest.raises(OutdatedRevisionError, match="older"):
        catalog.since(epoch, 1)
    with pytest.raises(OutdatedRevisionError, match="has not happened"):
        catalog.since(epoch, 6)
    with pytest.raises(OutdatedRevisionError, match="epoch"):
        catalog.since("other", 5)


def many(count: int, **fields: Any) -> dict[str, Instance]:
    return {f"n-{n}": instance(f"n-{n}", **fields) for n in range(count)}


async def test_a_mass_drop_is_held_and_has_an_exit() -> None:
    catalog = Catalog(EmbeddedStore(), hold=0.2)
    catalog.apply(Snapshot(many(10)))
    catalog.apply(Snapshot({}))
    assert len(catalog.view) == 10
    assert {e.health.status for e in catalog.view} == {Status.DEGRADED}
    assert all("missing from the store" in e.health.reason for e in catalog.view)
    assert catalog.held_total == 10
    await until(lambda: len(catalog.view) == 0)


@pytest.mark.parametrize("count", [1, 4])
async def test_a_short_list_is_not_emptied_at_once_either(count: int) -> None:
    catalog = Catalog(EmbeddedStore(), hold=0.2)
    catalog.apply(Snapshot(many(count)))
    catalog.apply(Snapshot({}))
    assert {e.health.status for e in catalog.view} == {Status.DEGRADED}
    await until(lambda: len(catalog.view) == 0)


async def test_what_comes_back_while_held_is_as_before() -> None:
    catalog = Catalog(EmbeddedStore(), hold=0.2)
    before = many(12)
    catalog.apply(Snapshot(before))
    catalog.apply(Snapshot({}))
    back = {id: before[id] for id in list(before)[:8]}
    catalog.apply(Snapshot(back))
    assert sum(e.health.status is Status.HEALTHY for e in catalog.view) == 8
    assert len(catalog.view) == 12
    await until(lambda: len(catalog.view) == 8)
    assert {e.health.status for e in catalog.view} == {Status.HEALTHY}


@pytest.mark.parametrize(("before", "after"), [(10, 5), (5, 1)])
async def test_small_drops_are_held_for_as_long_as_the_living_need(
    before: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half is not more than half; and fewer than ten, of which one is left, are no mass."""
    monkeypatch.setattr("mcp_discovery.adapters.catalog._SHORT_HOLD", 0.2)
    catalog = Catalog(EmbeddedStore(), hold=60)
    catalog.apply(Snapshot(many(before)))
    catalog.apply(Snapshot(many(after)))
    assert len(catalog.view) == before
    assert sum(e.health.status is Status.DEGRADED for e in catalog.view) == before - after
    await until(lambda: len(catalog.view) == after)


async def test_goodbyes_and_certain_ones_are_not_held() -> None:
    catalog = Catalog(EmbeddedStore(), hold=60)
    catalog.apply(Snapshot(many(10, status=Status.DRAINING)))
    catalog.apply(Snapshot({}))
    assert len(catalog.view) == 0

    catalog.apply(Snapshot(many(10)))
    for id in many(10):
        catalog.apply(Change(id, None))
    assert len(catalog.view) == 0


async def test_holding_revives_nobody() -> None:
    catalog = Catalog(EmbeddedStore(), hold=60)
    catalog.apply(Snapshot(many(10, status=Status.DOWN, reason="connection refused")))
    catalog.apply(Snapshot({}))
    assert {e.health.status for e in catalog.view} == {Status.DOWN}
    assert catalog.mass_drops == 0  # they were reaped while nobody watched
    catalog.apply(Change("n-3", None))  # certain: not held any longer
    assert len(catalog.view) == 9


async def test_what_vanishes_while_others_are_held_is_held_too() -> None:
    catalog = Catalog(EmbeddedStore(), hold=0.3)
    before = many(20)
    catalog.apply(Snapshot(before))
    catalog.apply(Snapshot({id: before[id] for id in list(before)[:8]}))
    catalog.apply(Snapshot({}))
    assert len(catalog.view) == 20
    assert catalog.held_total == 20
    await until(lambda: len(catalog.view) == 0)


async def test_what_is_held_is_vouched_for_by_nobody() -> None:
    catalog = Catalog(EmbeddedStore(), hold=60)
    catalog.apply(Snapshot(many(10)))
    catalog.apply(Snapshot({}))
    catalog.apply(Snapshot({}))
    for entry in catalog.view:
        assert entry.last_seen(utcnow() + timedelta(hours=1)) <= utcnow()


class FaultyStore(EmbeddedStore):
    """Its watch fails when told to: a real store cannot be made to fail at a chosen event."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: Exception | None = None
        self.failed = asyncio.Event()

    async def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        if self.fails is not None:
            self.failed.set()
            raise self.fails
        async for event in super().watch():
            yield event
            if self.fails is not None:
                self.failed.set()
                raise self.fails


@pytest.mark.parametrize(
    "fault", [StoreUnavailableError("store", "away"), RuntimeError("a bug")], ids=["away", "bug"]
)
async def test_the_last_known_list_stays_and_says_since_when(fault: Exception) -> None:
    from tests.records import document

    async with FaultyStore() as store, Catalog(store) as catalog:
        await catalog.ready()
        registration = await store.register(record(), document("a"), ttl=30, reap_after=60)
        await until(lambda: len(catalog.view) == 1)
        store.fails = fault
        await registration.heartbeat(Health(Status.DEGRADED, "slow"))
        await until(lambda: catalog.view.stale_since is not None)
        assert len(catalog.view) == 1
        stale = catalog.view
        assert stale.as_of == stale.stale_since
        assert "away" in str(stale.problem) or "a bug" in str(stale.problem)
        store.fails = None
        await until(lambda: catalog.view.stale_since is None)
        assert catalog.view.epoch == stale.epoch
        assert catalog.view.revision >= stale.revision
        assert catalog.watch_restarts >= 1


class ScriptedStore(EmbeddedStore):
    """Its watch says what it is told to: a real store cannot be made to do so at a chosen time."""

    def __init__(self) -> None:
        super().__init__()
        self.says: asyncio.Queue[Snapshot | Exception] = asyncio.Queue()

    async def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        while True:
            said = await self.says.get()
            if isinstance(said, Exception):
                raise said
            yield said


@pytest.mark.slow
async def test_while_the_store_is_away_the_hold_stands_still() -> None:
    hold = 1.0
    async with ScriptedStore() as store, Catalog(store, hold=hold) as catalog:
        for said in (Snapshot(many(10)), Snapshot({}), StoreUnavailableError("store", "away")):
            store.says.put_nowait(said)
        await until(lambda: catalog.view.stale_since is not None)
        # For longer than the hold, which must not end meanwhile.
        await asyncio.sleep(1.5 * hold)
        assert len(catalog.view) == 10
        store.says.put_nowait(Snapshot({}))
        await until(lambda: catalog.view.stale_since is None)
        back = asyncio.get_running_loop().time()
        await until(lambda: len(catalog.view) == 0)
        assert asyncio.get_running_loop().time() - back > 0.7 * hold


async def test_what_is_missing_after_an_outage_is_held_for_as_long_as_the_living_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcp_discovery.adapters.catalog._SHORT_HOLD", 0.3)
    before = many(5)
    older = {id: before[id] for id in list(before)[:3]}
    async with ScriptedStore() as store, Catalog(store, hold=60) as catalog:
        for said in (Snapshot(before), StoreUnavailableError("store", "away"), Snapshot(older)):
            store.says.put_nowait(said)
        await until(lambda: catalog.held_total == 2)
        assert len(catalog.view) == 5
        assert sum(e.health.status is Status.DEGRADED for e in catalog.view) == 2
        await until(lambda: len(catalog.view) == 3)
        # A watch that was resumed without an outage may come from an older store as well.
        store.says.put_nowait(Snapshot({id: older[id] for id in list(older)[:2]}))
        await until(lambda: catalog.held_total == 3)
        assert len(catalog.view) == 3
        await until(lambda: len(catalog.view) == 2)


async def test_a_watch_that_ends_after_its_snapshot_is_not_asked_for_without_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcp_discovery.adapters.backoff.random.uniform", lambda _, most: most)
    async with ScriptedStore() as store, Catalog(store) as catalog:
        for _ in range(4):
            store.says.put_nowait(Snapshot({}))
            store.says.put_nowait(StoreUnavailableError("store", "away"))
        began = asyncio.get_running_loop().time()
        await until(lambda: catalog.watch_restarts == 4)
        assert asyncio.get_running_loop().time() - began > 0.2 + 0.4 + 0.8


async def test_a_waiting_reader_is_woken_by_every_change() -> None:
    catalog = Catalog(EmbeddedStore())
    view = catalog.view
    waiting = asyncio.create_task(catalog.after(view))
    await asyncio.sleep(0)
    assert not waiting.done()
    catalog.apply(Change("a", instance("a")))
    assert (await bounded(waiting, 1)).revision == 1
    assert (await catalog.after(view)).revision == 1  # at once, as it is behind
    seen = catalog.view
    catalog.apply(Change("a", replace(instance("a"))))
    assert catalog.view is seen  # an equal value is no change


async def until(condition: Any, timeout: float = 5) -> None:
    await until_holds(condition, timeout=timeout, what="what is awaited")


async def test_an_event_tells_what_was_before() -> None:
    catalog = Catalog(EmbeddedStore())
    catalog.apply(Snapshot({"i-1": instance("i-1")}))
    catalog.apply(Change("i-1", instance("i-1", status=Status.DOWN)))
    catalog.apply(Change("i-1", None))
    told = catalog.since(catalog.view.epoch, 0)
    statuses = [
        tuple(entry and entry.health.status for entry in (event.before, event.entry))
        for event in told
    ]
    assert statuses == [(None, "healthy"), ("healthy", "down"), ("down", None)]


async def test_a_tombstone_is_not_listed_but_known() -> None:
    buried = replace(instance("i-1"), record=tombstone(record("i-1")))
    catalog = Catalog(EmbeddedStore())
    catalog.apply(Snapshot({"i-1": instance("i-1"), "i-2": instance("i-2")}))
    catalog.apply(Change("i-1", buried))
    assert set(catalog.view.entries) == {"i-2"}
    assert set(catalog.view.removed) == {"i-1"}
    assert catalog.since(catalog.view.epoch, 2)[0].entry is None
    revision = catalog.view.revision
    catalog.apply(Snapshot({"i-1": buried, "i-2": instance("i-2")}))
    assert catalog.view.revision == revision
    catalog.apply(Snapshot({"i-2": instance("i-2")}))
    assert not catalog.view.removed
    catalog.apply(Change("i-1", buried))
    catalog.apply(Change("i-1", instance("i-1")))
    assert (set(catalog.view.entries), len(catalog.view.removed)) == ({"i-1", "i-2"}, 0)
    catalog.apply(Change("i-1", buried))
    catalog.apply(Change("i-1", None))
    assert not catalog.view.removed


async def test_a_remark_is_shown_while_the_store_has_nothing_worse_to_say() -> None:
    catalog = Catalog(EmbeddedStore(), hold=0)
    catalog.apply(Snapshot({"a": instance("a"), "b": instance("b")}))
    catalog.remark("a", "another server is there")
    catalog.remark("nobody", "is not listed")
    assert catalog.view.revision == 3
    shown = catalog.view.entries["a"].health
    assert (shown.status, shown.reason) == (Status.DEGRADED, "another server is there")
    assert [each.id for each in catalog.view.select(Query(status=frozenset({Status.HEALTHY})))] == [
        "b"
    ]
    catalog.apply(Snapshot({"a": instance("a"), "b": instance("b")}))
    assert catalog.view.revision == 3  # the same is no change
    catalog.apply(Change("a", instance("a", tools=("more",))))
    assert catalog.view.entries["a"].record.capabilities.tools == ("more",)
    assert catalog.view.entries["a"].health == shown
    catalog.apply(Change("a", instance("a", status=Status.DRAINING)))
    assert catalog.view.entries["a"].health == instance("a", status=Status.DRAINING).health
    catalog.apply(Change("a", instance("a")))
    assert catalog.view.entries["a"].health.reason == "another server is there"
    catalog.remark("a", None)
    assert catalog.view.entries["a"].instance == instance("a")
    catalog.remark("a", "again")
    catalog.apply(Change("a", None))
    catalog.apply(Change("a", instance("a")))
    assert catalog.view.entries["a"].health == instance("a").health  # it is another one
