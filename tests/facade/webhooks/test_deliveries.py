"""What waits, in memory and in databases; ids and pauses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mcp_discovery.adapters.live_list import CatalogEvent
from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.access.audit.database import DatabaseLog
from mcp_discovery.facade.webhooks.deliveries import (
    LEASE,
    MOST_PENDING,
    DatabaseDeliveries,
    Deliveries,
    Delivery,
    MemoryDeliveries,
)
from mcp_discovery.facade.webhooks.messages import ChangeMessages
from mcp_discovery.facade.webhooks.sending import PAUSES, SentOnce, after, pause_after
from mcp_discovery.health import Health, Status, utcnow
from mcp_discovery.instance import Instance
from tests.facade.large_catalog import LEASE as INSTANCE_LEASE
from tests.records import record
from tests.stores.postgres import Postgres


def delivery(id: str, receiver: str = "chat", at: float = 1000.0) -> Delivery:
    return Delivery(receiver, id, "server.gone", "{}", "target", at, at)


@pytest.fixture(params=["memory", "sqlite"])
async def deliveries(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deliveries]:
    if request.param == "memory":
        yield MemoryDeliveries()
        return
    log = DatabaseLog(f"sqlite:///{tmp_path}/audit.db")
    await log.open()
    yield DatabaseDeliveries(log)
    await log.close()


async def check_life(known: Deliveries) -> None:
    """What :class:`Deliveries` promises."""
    assert not await known.add([delivery("1"), delivery("2", at=1001.0), delivery("1", "mail")])
    assert not await known.add([replace(delivery("1"), body="another")])
    first = await known.due("chat", 1001.0)
    assert first == delivery("1")
    assert await known.due("chat", 999.0) is None
    waiting = replace(first, due=2000.0, attempts=1, status=500, error="it answered 500", tried=1.0)
    await known.save(waiting)
    assert await known.get("chat", "1") == waiting
    assert await known.due("chat", 1001.0) == delivery("2", at=1001.0)
    await known.save(replace(delivery("2", at=1001.0), state="delivered", status=200, tried=5.0))
    last = await known.last("chat")
    assert last is not None and last.id == "2"
    assert await known.due("chat", 1001.0) is None
    await known.hasten("chat", 1500.0)
    hastened = await known.due("chat", 1500.0)
    assert hastened == replace(waiting, due=1500.0)
    counts = await known.counts()
    assert (
        counts["chat", "pending"] == counts["chat", "delivered"] == counts["mail", "pending"] == 1
    )
    assert [each.id for each in await known.listed("chat", None, 10)] == ["2", "1"]
    assert [each.id for each in await known.listed("chat", "pending", 10)] == ["1"]
    day = 86_400.0
    assert await known.prune(1000.0 + 8 * day) == 2  # those that waited for a week
    assert [each.state for each in await known.listed("chat", None, 10)] == ["dead"]
    assert await known.prune(1000.0 + 31 * day) == 0
    assert await known.listed("chat", None, 10) == []


async def test_life(deliveries: Deliveries) -> None:
    await check_life(deliveries)


async def test_life_in_postgres() -> None:
    async with Postgres() as postgres:
        log = DatabaseLog(postgres.url, lambda: Postgres.password)
        await log.open()
        await check_life(DatabaseDeliveries(log))
        await check_lease(DatabaseDeliveries(log))
        await log.close()


async def check_lease(known: Deliveries) -> None:
    assert await known.lead("one", 1000.0)
    assert not await known.lead("two", 1001.0)
    assert await known.lead("one", 1001.0)
    assert await known.lead("two", 1002.0 + LEASE)
    assert not await known.lead("one", 1003.0 + LEASE)
    await known.release("two")
    assert await known.lead("one", 1004.0 + LEASE)


async def test_one_has_the_lease(tmp_path: Path) -> None:
    log = DatabaseLog(f"sqlite:///{tmp_path}/audit.db")
    await log.open()
    await check_lease(DatabaseDeliveries(log))
    await log.close()


async def test_what_does_not_fit_is_counted(deliveries: Deliveries) -> None:
    many = [delivery(str(number)) for number in range(MOST_PENDING + 3)]
    assert await deliveries.add([*many, delivery("1", "mail")]) == {"chat": 3}
    assert (await deliveries.counts())["chat", "pending"] == MOST_PENDING


def entry(status: Status) -> Entry:
    now = utcnow()
    return Entry(Instance(record("a"), Health(status, "is", now, now), INSTANCE_LEASE))


def test_facades_give_the_same_change_the_same_id() -> None:
    one, two = ChangeMessages(), ChangeMessages()
    up, down, at = entry(Status.HEALTHY), entry(Status.DOWN), utcnow()
    events = [
        CatalogEvent(1, "a", down, up, at),
        CatalogEvent(2, "a", up, down, at),
        CatalogEvent(3, "a", down, up, at),
    ]
    ids = [message.id for event in events for message in one.of(event)]
    assert len(set(ids)) == 3  # the same change again is another one
    others = [replace(each, revision=each.revision + 70) for each in events]
    assert [message.id for event in others for message in two.of(event)] == ids


def test_pauses_grow_over_days() -> None:
    tried, failed = delivery("1"), SentOnce(500, "it answered 500")
    for number, pause in enumerate(PAUSES):
        tried = after(tried, failed)
        assert tried.state == "pending" and tried.attempts == number + 1
        assert tried.tried is not None
        assert 0.8 * pause <= tried.due - tried.tried <= 1.2 * pause
    assert after(tried, failed).state == "dead"
    assert sum(PAUSES) > 3 * 86_400
    asked = after(delivery("1"), SentOnce(503, "it answered 503", wait=7200.0))
    assert asked.tried is not None and asked.due - asked.tried == 7200.0
    assert pause_after(1, failed) < pause_after(20, failed) <= 360.0
    assert pause_after(1, SentOnce(429, "slow down", wait=1e9)) == 86_400.0
