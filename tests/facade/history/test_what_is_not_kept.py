"""What was removed, or not read, is not told as gone; and nothing falls between two writers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from mcp_discovery.facade.history import answers, recorder, store
from mcp_discovery.facade.history.change import Span, StateChange
from mcp_discovery.facade.history.store import HistoryBounds, MemoryStore
from mcp_discovery.health import rfc3339, utcnow
from tests.facade.harness import Client, served
from tests.facade.history.past import Registered, a_moment, changes
from tests.stores.waiting import until, until_holds


async def at(ask: Client, moment: datetime, name: str = "shop") -> dict[str, Any]:
    """How it was then."""
    reply = await ask("GET", f"/servers/{name}/history?at={quote(rfc3339(moment))}")
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json
    return found


async def flapping(shop: Registered, times: int) -> None:
    for number in range(times):
        await shop.beat("degraded" if number % 2 else "healthy", str(number))


async def test_before_the_oldest_that_is_kept_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "IN_MEMORY", HistoryBounds(600.0, 3, 1000, 2**20))
    async with served() as ask:
        shop = await Registered.new(ask, "shop-1")
        await changes(ask, "shop")
        then = utcnow()
        assert (await at(ask, then))["status"] == "healthy"
        await flapping(shop, 6)
        oldest = (await changes(ask, "shop"))[0]["at"]
        found = await at(ask, then)
        assert (found["status"], found["instances"]) == (None, [])
        assert found["unwatched"] == [{"from": rfc3339(then), "to": oldest}]
        assert (await at(ask, datetime.fromisoformat(oldest)))["status"] is not None


async def test_what_is_older_than_it_is_kept_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(history_keep=1.0) as ask:
        await Registered.new(ask, "shop-1")
        began = datetime.fromisoformat((await changes(ask, "shop"))[0]["at"])
        later = began + timedelta(seconds=1.2)
        await until_holds(lambda: utcnow() > later, timeout=20, what="a second")
        assert (await at(ask, began))["status"] is None
        page = (await ask("GET", "/servers/shop/history")).json
        assert datetime.fromisoformat(page["since"]) > began


async def test_what_has_long_been_so_is_told_beside_what_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "MOST_READ", 5)
    monkeypatch.setattr(store, "MOST_READ", 5)
    async with served() as ask:
        await Registered.new(ask, "shop-1")
        flaps = await Registered.new(ask, "shop-2")
        await changes(ask, "shop")
        early = utcnow()
        await flapping(flaps, 9)
        now = await at(ask, utcnow())
        assert [each["id"] for each in now["instances"]] == ["shop-1", "shop-2"]
        then = await at(ask, early)
        assert [each["id"] for each in then["instances"]] == ["shop-1", "shop-2"]
        shares = (await ask("GET", "/servers/shop/history")).json["availability"]["day"]["shares"]
        assert shares == {"healthy": 1.0}


async def test_nothing_is_missed_while_the_lead_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    during: list[Callable[[], Awaitable[None]]] = []

    class Contested(MemoryStore):
        """Another has had the lead for a moment; meanwhile something happens."""

        async def write(self, watcher: str, changes: Sequence[StateChange], span: Span) -> bool:
            return not during and await super().write(watcher, changes, span)

        async def spans(self) -> Sequence[Span]:
            if during:
                await during.pop()()
            return await super().spans()

    monkeypatch.setattr(answers, "MemoryStore", Contested)
    monkeypatch.setattr(recorder, "_BEAT", 0.1)
    async with served() as ask:
        shop = await Registered.new(ask, "shop-1")
        await changes(ask, "shop")

        async def happens() -> None:
            await shop.beat("degraded", "meanwhile")

            async def listed() -> bool:
                reply = await ask("GET", "/servers/shop-1")
                return bool(b"meanwhile" in reply.body)

            await until(listed, timeout=20, what="the list having it")

        during.append(happens)
        await until_holds(lambda: not during, timeout=20, what="the lead being taken again")
        await a_moment()

        async def told() -> bool:
            return bool((await changes(ask, "shop"))[-1]["status"] == "degraded")

        await until(told, timeout=10, what="what happened meanwhile being in the history")
