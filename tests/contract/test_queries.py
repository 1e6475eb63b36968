"""Named queries: kept, changed by compare-and-set, and read by every party to the store."""

from __future__ import annotations

import asyncio

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import Store
from mcp_discovery.errors import QueryChangedError, StoreUnavailableError, StoreUnsupportedError
from tests.contract.environments import StoreEnvironment
from tests.contract.watcher import watching
from tests.records import document, record

KEEPING = ("embedded", "file", "remote", "consul", "etcd")
ONE, OTHER = b'{"filters":{"tags":["one"]}}', b'{"filters":{"tags":["other"]}}'


@pytest.mark.over(KEEPING)
async def test_a_query_is_kept_for_every_party_and_removed(
    environment: StoreEnvironment, store: Store
) -> None:
    other = await environment.open()
    assert await other.queries() == {}
    version = await store.put_query("payments", ONE)
    found = await other.queries()
    assert {name: each.version for name, each in found.items()} == {"payments": version}
    assert b'"one"' in found["payments"].definition
    changed = await other.put_query("payments", OTHER)
    assert changed != version
    assert b'"other"' in (await store.queries())["payments"].definition
    await store.put_query("payments", None)
    assert await other.queries() == {}
    await store.put_query("payments", None)  # removing what is not there does nothing


@pytest.mark.over(KEEPING)
async def test_a_change_that_expects_another_version_is_refused(store: Store) -> None:
    with pytest.raises(QueryChangedError) as none:
        await store.put_query("payments", ONE, expected="17")
    assert (none.value.name, none.value.version) == ("payments", None)
    version = await store.put_query("payments", ONE, expected="")
    assert version is not None
    for expected in ("", "17", "no version of anybody's", "9" * 40):
        with pytest.raises(QueryChangedError) as changed:
            await store.put_query("payments", OTHER, expected=expected)
        assert changed.value.version == version
    with pytest.raises(QueryChangedError):
        await store.put_query("payments", None, expected="17")
    now = await store.put_query("payments", OTHER, expected=version)
    with pytest.raises(QueryChangedError):
        await store.put_query("payments", None, expected=version)
    await store.put_query("payments", None, expected=now)
    assert await store.queries() == {}


@pytest.mark.over(KEEPING)
async def test_of_writers_at_once_that_expect_the_same_one_wins(
    environment: StoreEnvironment, store: Store
) -> None:
    parties = [store, *[await environment.open() for _ in range(4)]]
    definitions = [b'{"filters":{"tags":["number-%d"]}}' % n for n in range(len(parties))]
    results = await asyncio.gather(
        *(
            each.put_query("payments", definition, expected="")
            for each, definition in zip(parties, definitions, strict=True)
        ),
        return_exceptions=True,
    )
    won = [n for n, each in enumerate(results) if isinstance(each, str)]
    lost = [each for each in results if isinstance(each, QueryChangedError)]
    assert (len(won), len(lost)) == (1, len(parties) - 1), results
    assert b"number-%d" % won[0] in (await store.queries())["payments"].definition


@pytest.mark.over(KEEPING)
async def test_a_query_is_no_instance_and_outlives_a_sweep(
    environment: StoreEnvironment, store: Store
) -> None:
    await store.put_query("before", ONE)
    async with watching(store) as seen:
        await store.put_query("after", ONE)
        await store.put_query("before", None)
        await store.register(record("a"), document("tool"), ttl=30, reap_after=60)
        await seen.until_shows("a", lambda _: True)
    assert set(seen.instances) == {"a"}
    await store.sweep()
    assert dict(store.skipped) == {}
    assert set(await store.queries()) == {"after"}


@pytest.mark.over(("file",))
async def test_a_file_keeps_queries_over_a_restart(environment: StoreEnvironment) -> None:
    store = await environment.open()
    await store.put_query("payments", ONE)
    await store.close()
    async with open_store(environment.url) as again:
        assert (await again.queries())["payments"].definition == ONE


@pytest.mark.over(("remote", "consul", "etcd"))
async def test_a_store_that_is_away_is_unavailable(own_environment: StoreEnvironment) -> None:
    store = await own_environment.open()
    await store.put_query("payments", ONE)
    await own_environment.away()
    with pytest.raises(StoreUnavailableError):
        await store.queries()
    with pytest.raises(StoreUnavailableError):
        await store.put_query("payments", OTHER)


@pytest.mark.over(("tiny",))
async def test_a_store_without_queries_says_so(store: Store) -> None:
    for call in (store.queries(), store.put_query("payments", ONE)):
        with pytest.raises(StoreUnsupportedError, match="keeps no named queries; ask with"):
            await call
    assert "keeps no named queries" in str(await store.keeps_queries())
