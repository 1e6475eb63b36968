"""What became of servers, as it is asked over HTTP."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from urllib.parse import quote

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade import create_app, serving
from mcp_discovery.facade.access.audit.settings import AuditSettings
from mcp_discovery.facade.history import recorder
from mcp_discovery.health import Health, Status
from tests.facade.harness import QUICK, served
from tests.facade.history.past import Registered, a_moment, changes, registered, tools
from tests.stores.waiting import until


async def test_every_change_is_told(kept: AuditSettings | None) -> None:
    async with served(audit=kept) as ask:
        shop = await Registered.new(ask, "shop-1")
        await shop.beat("degraded", "slow")
        await shop.beat("degraded", "slow")
        await shop.beat("down", "refused")
        await shop.beat("healthy")
        await shop.offer(tools(buy="Buys"), version="2.0.0")
        await shop.leave()
        found = await changes(ask, "shop")
        assert [(each["status"], each["changed"]) for each in found] == [
            ("healthy", ["registered"]),
            ("degraded", ["status", "reason"]),
            ("down", ["status", "reason"]),
            ("healthy", ["status", "reason"]),
            ("healthy", ["version", "digest"]),
            ("gone", ["status"]),
        ]
        assert [each["reason"] for each in found[1:3]] == ["slow", "refused"]
        assert found[-1]["reason"] == "it was deregistered"
        assert found[4]["digest"] == tools(buy="Buys").digest
        assert found[0]["url"] == "http://127.0.0.1:9/shop-1"
        assert {each["registrant"]["by"] for each in found} == {"sidecar"}
        for before, after in pairwise(found):
            assert before["until"] == after["at"]
        assert "until" not in found[-1]
        assert await changes(ask, "shop-1") == found
        assert await changes(ask, "shop-1", "?of=instance") == found
        for path in ("shop-1/history?of=server", "shop/history?of=instance", "pay/history"):
            reply = await ask("GET", f"/servers/{path}")
            assert (reply.status, reply.json["title"]) == (404, "Unknown server")


async def test_pages_and_bounds(kept: AuditSettings | None) -> None:
    async with served(audit=kept) as ask:
        for id in ("shop-1", "shop-2"):
            shop = await Registered.new(ask, id)
            for number in range(4):
                await shop.beat("degraded", f"slow {number}")
        whole = await changes(ask, "shop")
        assert len(whole) == 10
        paged, cursor = [], ""
        while True:
            reply = await ask("GET", f"/servers/shop/history?limit=3{cursor}")
            paged += reply.json["changes"]
            if "nextCursor" not in reply.json:
                break
            cursor = f"&cursor={reply.json['nextCursor']}"
        assert paged == whole[::-1]
        moment = quote(whole[5]["at"])
        later = await changes(ask, "shop", f"?from={moment}")
        earlier = await changes(ask, "shop", f"?to={moment}")
        assert later[-1] == whole[-1]
        assert all(each["at"] < whole[5]["at"] for each in earlier)
        assert all(each.get("until", "z") > whole[5]["at"] for each in later)


async def test_how_it_was_at_a_moment(kept: AuditSettings | None) -> None:
    async with served(audit=kept) as ask:
        first, second = [await Registered.new(ask, f"shop-{n}") for n in (1, 2)]
        await first.beat("down", "refused")
        await second.beat("degraded", "slow")
        found = await changes(ask, "shop")
        for at, status, statuses in (
            (found[2]["at"], "healthy", ["healthy", "down"]),
            (found[3]["at"], "degraded", ["degraded", "down"]),
        ):
            told = (await ask("GET", f"/servers/shop/history?at={at}")).json
            assert (told["status"], told["unwatched"]) == (status, [])
            assert [each["status"] for each in told["instances"]] == statuses
        before = (await ask("GET", "/servers/shop/history?at=2020-01-01")).json
        assert (before["status"], before["instances"]) == (None, [])
        reply = await ask("GET", "/servers/shop/history?at=2999-01-01")
        assert (reply.status, "has not come yet" in reply.json["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("at=noon", "at='noon' is no time; write 2026-01-31"),
        ("at=2026-01-01&from=2026-01-01", "at asks for one moment; leave from, to and cursor out"),
        ("cursor=x", "cursor is none of this list; start over without"),
        ("limit=0", "is no whole number from 1"),
        ("of=tool", "use one of server, instance"),
        ("since=1", "unknown parameter 'since'"),
    ],
)
async def test_what_cannot_be_asked(query: str, says: str) -> None:
    async with served() as ask:
        await Registered.new(ask, "shop-1")
        reply = await ask("GET", f"/servers/shop/history?{query}")
        assert (reply.status, says in reply.json["detail"]) == (400, True), reply.body


async def test_none_is_kept_where_none_is_wanted() -> None:
    async with served(history_keep=0.0) as ask:
        await Registered.new(ask, "shop-1")
        reply = await ask("GET", "/servers/shop/history")
        assert reply.status == 404
        assert reply.json["detail"].endswith("start the facade without --history-keep 0")


async def test_a_facade_that_was_off_says_so(settings: AuditSettings) -> None:
    async with EmbeddedStore() as store:
        _, other = [await registered(store, id) for id in ("shop-1", "shop-2")]
        async with served(store, audit=settings) as ask:
            assert len(await changes(ask, "shop")) == 2
        await a_moment()
        await other.heartbeat(Health(Status.DOWN, "refused"))
        async with served(store, audit=settings) as ask:
            reply = (await ask("GET", "/servers/shop/history")).json
            found = reply["changes"][::-1]
            # Of the one to which nothing happened nothing is written anew.
            assert [(each["id"], each["status"]) for each in found] == [
                ("shop-1", "healthy"),
                ("shop-2", "healthy"),
                ("shop-2", "down"),
            ]
            [gap] = reply["unwatched"]
            assert found[1]["at"] < gap["from"] < gap["to"] <= found[2]["at"]
            day = reply["availability"]["day"]
            length = _time(gap["to"]) - _time(gap["from"])
            assert day["unwatched"] == pytest.approx(length.total_seconds())
            middle = quote((_time(gap["from"]) + length / 2).isoformat())
            told = (await ask("GET", f"/servers/shop/history?at={middle}")).json
            assert told["unwatched"] == [gap]
            assert {each["status"] for each in told["instances"]} == {"healthy"}


async def test_a_stale_list_is_not_watched(settings: AuditSettings) -> None:
    store = EmbeddedStore()
    async with served(store, audit=settings) as ask:
        await registered(store, "shop-1")
        assert len(await changes(ask, "shop")) == 1
        await store.close()
        path = "/servers/shop/history"

        async def is_told() -> list[dict[str, str]]:
            found: list[dict[str, str]] = (await ask("GET", "/servers/shop/history")).json[
                "unwatched"
            ]
            return found

        [gap] = await until(is_told, timeout=10, what="that nobody watches any more")
        stale = (await ask("GET", "/servers")).json["staleSince"]
        assert (gap["from"], "to" in gap) == (stale, False)
        told = (await ask("GET", f"{path}?at={stale}")).json
        assert (told["unwatched"], told["status"]) == ([gap], "healthy")


async def test_one_without_a_list_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_LAST", 600.0)
    store = EmbeddedStore()
    await store.close()
    async with asyncio.timeout(60), serving(create_app(store, QUICK), "127.0.0.1", 0):
        pass


async def test_documents_and_how_they_differ(kept: AuditSettings | None) -> None:
    async with served(audit=kept) as ask:
        shop = await Registered.new(ask, "shop-1")
        for text, version in (("Buys one thing", "1.0.0"), ("Buys two things", "1.1.0")):
            await shop.offer(tools(buy=text), version=version)
        listed = (await ask("GET", "/servers/shop/documents")).json["documents"]
        new, old = (tools(buy=text).digest for text in ("Buys two things", "Buys one thing"))
        assert [each["digest"] for each in listed[:2]] == [new, old]
        assert [each["versions"] for each in listed[:2]] == [["1.1.0"], ["1.0.0"]]
        assert ("lastSeen" in listed[0], listed[1]["lastSeen"]) == (False, listed[0]["firstSeen"])
        for query in ("", f"?with={old}"):
            told = (await ask("GET", f"/servers/shop/documents/{new}/diff{query}")).json
            assert (told["from"], told["to"]) == (old, new)
            [changed] = told["parts"]["tools"]["changed"]
            assert changed["texts"]["description"][:3] == [
                ["=", "Buys "],
                ["-", "one thing"],
                ["+", "two things"],
            ]
        reply = await ask("GET", f"/servers/shop/documents/{'0' * 64}/diff")
        assert (reply.status, reply.json["title"]) == (404, "Document not found")


async def test_a_server_is_as_its_best_instance() -> None:
    async with served() as ask:
        shops = [await Registered.new(ask, f"shop-{number}") for number in (1, 2)]
        await shops[0].beat("down", "refused")
        found = (await ask("GET", "/servers/shop/history")).json["availability"]["day"]
        assert found["shares"] == {"healthy": 1.0}
        one = (await ask("GET", "/servers/shop-1/history")).json["availability"]["day"]
        assert one["shares"].keys() == {"healthy", "down"}
        assert sum(one["shares"].values()) == pytest.approx(1.0)


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    assert found.utcoffset() == timedelta(0)
    return found
