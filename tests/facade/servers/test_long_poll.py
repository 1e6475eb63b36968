"""Long polls: they return when their own answer changes, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade import create_app, serving
from mcp_discovery.facade.access.list_parts import PARTS
from mcp_discovery.facade.servers.long_poll import POLLS
from mcp_discovery.facade.servers.results import LISTS
from mcp_discovery.facade.state import FACADE
from mcp_discovery.health import Health, Status, utcnow
from mcp_discovery.instance import Instance
from tests.facade.harness import QUICK, Client, Reply
from tests.facade.large_catalog import LEASE, LargeCatalog, listing
from tests.records import document, record, tool
from tests.seeds import seeded
from tests.stores.waiting import bounded, until

REVISION = "X-Discovery-Revision"


def instance(id: str, **fields: Any) -> Instance:
    return Instance(record(id, **fields), Health(Status.HEALTHY, "answers MCP"), LEASE)


def ailing(one: Instance, reason: str = "slow") -> Instance:
    return replace(one, health=Health(Status.DEGRADED, reason))


@pytest.fixture
async def few() -> AsyncIterator[LargeCatalog]:
    """Three servers of two names."""
    a, b = (instance(id, name="catalog", tags=["x"]) for id in ("a", "b"))
    async with listing([a, b, instance("c", name="orders", tags=["y"])]) as found:
        yield found


async def poll(
    large_catalog: LargeCatalog, query: str, index: str | None = None, wait: str = "20s"
) -> Reply:
    """One long poll from the answer that is there now."""
    if index is None:
        index = (await large_catalog.ask("GET", f"/servers?{query}")).headers[REVISION]
    return await large_catalog.ask("GET", f"/servers?{query}&wait={wait}&index={index}")


async def waiting(large_catalog: LargeCatalog, count: int) -> None:
    async def so_many() -> bool:
        return len(large_catalog.app[PARTS][POLLS]) == count

    await until(so_many, timeout=20, what=f"{count} polls waiting")


async def test_one_relevant_change_wakes_exactly_one_of_200() -> None:
    servers = [instance(f"i-{n}", name=f"server-{n}", tags=[f"t-{n % 50}"]) for n in range(200)]
    async with listing(servers) as large_catalog:
        polls = [asyncio.create_task(poll(large_catalog, f"name=server-{n}")) for n in range(200)]
        await waiting(large_catalog, 200)
        lists, selected = large_catalog.app[PARTS][LISTS], large_catalog.app[PARTS][LISTS].selected
        large_catalog.change(ailing(servers[77]))
        reply = await bounded(polls[77], 5)
        assert reply.ids == []  # no longer healthy
        # What was not woken has not even been looked at again.
        assert large_catalog.app[PARTS][POLLS].groups_woken == 1
        assert large_catalog.app[PARTS][POLLS].returned == 1
        assert lists.selected == selected + 1
        assert [number for number, each in enumerate(polls) if each.done()] == [77]
        assert len(large_catalog.app[PARTS][POLLS]) == 199
        for each in polls:
            each.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
        await waiting(large_catalog, 0)  # clients that have left are dropped


@pytest.mark.slow
async def test_polls_of_one_question_share_the_work() -> None:
    servers = [instance(f"i-{n}", tags=["x"]) for n in range(50)]
    async with listing(servers) as large_catalog:
        polls = [asyncio.create_task(poll(large_catalog, "tags=x&sort=-id")) for _ in range(300)]
        await waiting(large_catalog, 300)
        selected = large_catalog.app[PARTS][LISTS].selected
        large_catalog.change(ailing(servers[7]))
        replies = await asyncio.gather(*polls)
        assert {reply.body for reply in replies} == {replies[0].body}
        assert len(replies[0].ids) == 49
        assert large_catalog.app[PARTS][LISTS].selected == selected + 1
        assert large_catalog.app[PARTS][POLLS].groups_woken == 1


@pytest.mark.parametrize(
    ("query", "wakes"),
    [
        ("", True),
        ("name=catalog", True),
        ("name=orders", False),
        ("tags=x", True),
        ("tags=x,y", True),
        ("tags=x,y&match=all", False),
        ("tags=y", False),
        ("status=degraded", True),
        ("status=down", False),
        ("transport=stdio", False),
        ("version=^1.2", True),
        ("version=^2", False),
        ("zone=eu", False),
        ("q=catalog", True),
        ("q=orders", False),
        ("fields=id,url&status=all", False),
        ("fields=reason&status=all", True),
        ("limit=1", False),
        ("limit=1&status=all", False),
        ("limit=1&status=degraded", True),
    ],
)
async def test_only_its_own_answer_counts(few: LargeCatalog, query: str, wakes: bool) -> None:
    """``b`` becomes degraded; or, on a page of one of several, ``c`` changes its reason."""
    if query == "limit=1":
        few.change(ailing(few.instances["b"]))
    waits = asyncio.create_task(poll(few, query))
    await waiting(few, 1)
    if query == "limit=1":
        few.change(ailing(few.instances["b"], "slower"))
    else:
        few.change(ailing(few.instances["b"]))
    if wakes:
        assert (await bounded(waits, 5)).status == 200
        return
    # Another poll, woken by the same change, shows that the change was seen.
    other = asyncio.create_task(poll(few, "status=all&sort=-since"))
    await waiting(few, 2)
    few.change(ailing(few.instances["b"], "again"))
    await bounded(other, 5)
    assert not waits.done()
    waits.cancel()


async def test_whoever_comes_late_is_answered_at_once(few: LargeCatalog) -> None:
    index = (await few.ask("GET", "/servers?tags=x")).headers[REVISION]
    few.change(ailing(few.instances["a"]))
    assert (await poll(few, "tags=x", index)).ids == ["b"]
    epoch, _, revision = index.partition(":")
    # Of another facade, before its time, and where it is not known what was answered.
    for strange in (f"other:{revision}", f"{epoch}:999999", f"{epoch}:0"):
        assert (await poll(few, "tags=x", strange)).ids == ["b"], strange
    assert (await few.ask("GET", "/servers?tags=x&wait=20s")).ids == ["b"]
    assert few.app[PARTS][POLLS].returned == 0


async def test_a_change_of_something_else_in_between_does_not_answer_it(few: LargeCatalog) -> None:
    index = (await few.ask("GET", "/servers?tags=y")).headers[REVISION]
    few.change(ailing(few.instances["a"]))
    waits = asyncio.create_task(poll(few, "tags=y", index))
    await waiting(few, 1)
    few.remove("c")
    assert (await bounded(waits, 5)).ids == []


async def test_time_out_gives_the_same_answer_and_where_it_stands(few: LargeCatalog) -> None:
    index = (await few.ask("GET", "/servers?tags=y")).headers[REVISION]
    waits = asyncio.create_task(poll(few, "tags=y", index, wait="0.5"))
    await waiting(few, 1)
    few.change(ailing(few.instances["a"]))
    reply = await waits
    assert (reply.status, reply.ids) == (200, ["c"])
    assert int(reply.headers[REVISION].partition(":")[2]) > int(index.partition(":")[2])
    again = await poll(few, "tags=y", reply.headers[REVISION], wait="50ms")
    assert again.ids == ["c"]
    tag = again.headers["ETag"]
    path = f"/servers?tags=y&wait=50ms&index={again.headers[REVISION]}"
    assert (await few.ask("GET", path, headers={"If-None-Match": tag})).status == 304


async def test_what_comes_of_age_while_it_is_waited_for(few: LargeCatalog) -> None:
    young = replace(
        few.instances["a"], health=Health(Status.HEALTHY, "new", utcnow() - timedelta(hours=1))
    )
    few.change(young)
    reply = await poll(few, "min_uptime=3601")
    assert reply.ids == ["a"]


async def test_what_is_searched_for_is_found_when_it_becomes_known(few: LargeCatalog) -> None:
    waits = asyncio.create_task(poll(few, "q=does"))
    await waiting(few, 1)
    text = document("find")
    few.facade.documents.put(text)
    few.change(
        instance("d", name="finder", capabilities={"tools": ["find"], "digest": text.digest})
    )
    assert (await bounded(waits, 5)).ids == ["d"]
    assert tool("find")["description"].startswith("Does")


async def test_a_facade_that_stops_answers_those_who_wait() -> None:
    async with EmbeddedStore() as store, aiohttp.ClientSession() as session:
        app = create_app(store, QUICK)
        async with serving(app, "127.0.0.1", 0) as url:
            ask = Client(url, session)
            await app[FACADE].catalog.ready()
            index = (await ask("GET", "/servers")).headers[REVISION]
            waits = asyncio.create_task(ask("GET", f"/servers?wait=5m&index={index}"))

            async def waits_now() -> bool:
                return len(app[PARTS][POLLS]) == 1

            await until(waits_now, timeout=5, what="the poll waiting")
        assert (await bounded(waits, 5)).status == 200


async def test_polls_agree_with_what_is_listed_whatever_changes() -> None:
    """Readers that only poll have, in the end, what the list has; and nothing was missed."""
    chance = seeded(3)
    servers = [instance(f"i-{n}", name=f"s-{n % 4}", tags=[f"t-{n % 3}"]) for n in range(24)]
    queries = ["", "name=s-1", "tags=t-2&status=all", "status=degraded", "limit=3&sort=-since"]
    async with listing(servers) as large_catalog:
        last: dict[str, list[str]] = {}

        async def follow(query: str) -> None:
            reply = await large_catalog.ask("GET", f"/servers?{query}")
            while True:
                last[query] = reply.ids
                reply = await poll(large_catalog, query, reply.headers[REVISION])

        readers = [asyncio.create_task(follow(query)) for query in queries]
        for number in range(150):
            one = chance.choice(servers)
            match chance.randrange(3):
                case 0 if one.id in large_catalog.instances:
                    large_catalog.remove(one.id)
                case 1:
                    large_catalog.change(ailing(one, str(number)))
                case _:
                    large_catalog.change(one)
            await asyncio.sleep(0.001 * chance.randrange(4))
        for query in queries:
            wanted = (await large_catalog.ask("GET", f"/servers?{query}")).ids

            async def caught_up(query: str = query, wanted: list[str] = wanted) -> bool:
                return last[query] == wanted

            await until(caught_up, timeout=5, what=f"the poll of {query!r} catching up")
        for each in readers:
            each.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
