"""What each store keeps, and for how long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mcp_discovery.facade.access.audit.audit import database_log
from mcp_discovery.facade.access.audit.settings import AuditSettings
from mcp_discovery.facade.history.change import LOST, Span, State, StateChange
from mcp_discovery.facade.history.database import StoredHistory
from mcp_discovery.facade.history.store import HistoryBounds, HistoryStore, MemoryStore

pytestmark = pytest.mark.xdist_group("history in PostgreSQL")
BOUNDS = HistoryBounds(keep=1000.0, each=5, total=20, document_bytes=40_000)
NOW = 10**15
SECOND = 10**6


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(
    request: pytest.FixtureRequest, settings: AuditSettings, in_postgres: AuditSettings
) -> AsyncIterator[HistoryStore]:
    """An empty store with small bounds, which is led."""
    if request.param == "memory":
        yield MemoryStore(BOUNDS)
        return
    log = database_log(in_postgres if request.param == "postgres" else settings)
    found = StoredHistory(log, BOUNDS)
    assert (await found.lead("one", NOW)).mine
    yield found
    await log.close()


#: What is in memory is of one process, and its writes do not fail.
IN_A_DATABASE = pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)


def state(reason: str = "", document: str = "d" * 64, name: str = "shop") -> State:
    """A state of a shop."""
    return State(
        *(name, "healthy", reason, NOW, document, "1.0.0", None, "sidecar", "host", "h1-x"),
        *(None, False, ("eu", "ü'\"\\"), None),
    )


def change(number: int, id: str = "a", at: int = NOW, **more: str) -> StateChange:
    """A further one, a second after the one before."""
    return StateChange(id, at + number * SECOND, state(str(number), **more))


async def reasons(store: HistoryStore, id: str) -> list[str]:
    return [each.state.reason for each in await store.periods("instance", id, 0, 2**62)]


@IN_A_DATABASE
async def test_a_write_may_be_repeated(store: HistoryStore) -> None:
    span = Span(NOW, NOW + 9 * SECOND)
    changes = [change(1), change(2), change(1, "b"), StateChange("b", NOW + 3 * SECOND, None)]
    for _ in range(2):
        assert await store.write("one", changes, span)
    found = await store.periods("instance", "a", 0, 2**62)
    assert [(each.at, each.until) for each in found] == [
        (NOW + SECOND, NOW + 2 * SECOND),
        (NOW + 2 * SECOND, None),
    ]
    assert await reasons(store, "b") == ["1"]
    assert (await store.listed()).keys() == {"a"}
    assert await store.spans() == [span]


async def test_what_was_written_is_read_as_it_was(store: HistoryStore) -> None:
    changes = [change(1), change(2, "b"), change(3, name="other")]
    await store.write("one", changes, Span(NOW, NOW))
    assert (await store.listed())["a"].state == state("3", name="other")
    shop = await store.periods("server", "shop", 0, 2**62)
    assert [(each.instance, each.state) for each in shop] == [("a", state("1")), ("b", state("2"))]
    assert len(await store.periods("server", "other", 0, 2**62)) == 1
    late = await store.periods("server", "shop", NOW + 3 * SECOND, 2**62)
    assert [each.instance for each in late] == ["b"]
    assert await store.periods("server", "shop", 0, NOW + SECOND) == []


@IN_A_DATABASE
async def test_one_leads_until_it_leaves_or_is_silent(store: HistoryStore) -> None:
    span = Span(NOW, NOW + SECOND)
    assert await store.write("one", [change(1)], span)
    assert not await store.write("two", [change(2)], span)
    assert not (await store.lead("two", NOW + 15 * SECOND)).mine
    lead = await store.lead("two", NOW + 17 * SECOND)
    assert (lead.mine, lead.until) == (True, NOW + SECOND)
    assert not await store.write("one", [change(2)], span)
    await store.leave("one")  # which it does not have
    assert not (await store.lead("one", NOW + 18 * SECOND)).mine
    await store.leave("two")
    assert (await store.lead("one", NOW + 18 * SECOND)).mine
    assert await reasons(store, "a") == ["1"]


async def test_only_so_much_of_each_and_in_all_is_kept(store: HistoryStore) -> None:
    span = Span(NOW, NOW)
    await store.write("one", [change(number) for number in range(9)], span)
    await store.prune(NOW + 10 * SECOND)
    assert await reasons(store, "a") == ["4", "5", "6", "7", "8"]
    for id in "bcdef":
        await store.write("one", [change(n, id, NOW + 100 * SECOND) for n in range(5)], span)
    assert await store.cut() == 0
    await store.prune(NOW + 200 * SECOND)
    assert await store.cut() == NOW + 102 * SECOND
    kept = {id: await reasons(store, id) for id in "abcdef"}
    assert 15 < sum(map(len, kept.values())) <= 20  # those of one moment go together
    # How each is now is known of all of them.
    assert kept["a"] == ["8"]
    assert all(each[-1] == "4" for id, each in kept.items() if id != "a")


async def test_what_is_old_goes_and_what_still_is_stays(store: HistoryStore) -> None:
    left = StateChange("b", NOW + 3 * SECOND, None)
    await store.write("one", [change(1), change(2), change(2, "b"), left], Span(NOW, NOW))
    assert await store.prune(NOW + 1002 * SECOND) == 0
    assert await store.prune(NOW + 1004 * SECOND) == 2
    assert (await reasons(store, "a"), await reasons(store, "b")) == (["2"], [])
    assert await store.prune(NOW + 5000 * SECOND) == 0
    assert await reasons(store, "a") == ["2"]


async def test_documents_go_with_what_offered_them(store: HistoryStore) -> None:
    for number, key in enumerate(("1" * 64, "2" * 64, LOST + "3" * 64)):
        await store.put({key: bytes(9000)}, NOW + number)
        await store.put({key: bytes(9000)}, NOW + number)
    known = {"1" * 64, "2" * 64, LOST + "3" * 64}
    assert await store.kept({*known, "4" * 64}) == known
    assert await store.document("1" * 64) == bytes(9000)
    assert await store.document("4" * 64) is None
    changes = [change(1, document="2" * 64), change(1, "b", document="3" * 64)]
    await store.write("one", changes, Span(NOW, NOW))
    await store.prune(NOW)
    if not isinstance(store, MemoryStore):
        assert await store.kept(known) == known - {"1" * 64}
    many = [f"{number:064}" for number in range(6)]
    changes = [change(2, f"i{n}", document=key) for n, key in enumerate(many)]
    await store.write("one", changes, Span(NOW, NOW))
    for number, key in enumerate(many):
        await store.put({key: bytes(9000)}, NOW + 10 + number)
    await store.prune(NOW)
    assert await store.kept({*known, *many}) == set(many[2:])  # 40,000 bytes are kept
    await store.put({"9" * 64: bytes(30_000)}, NOW)  # is a large part of all
    assert await store.document("9" * 64) is None
