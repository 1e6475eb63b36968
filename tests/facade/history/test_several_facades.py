"""One history of several facades, and of one whose database or list is away for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade.access.audit.settings import AuditSettings
from mcp_discovery.facade.history import recorder, store
from mcp_discovery.health import Health, Status
from tests.facade.harness import Client, leased, served
from tests.facade.history.past import a_moment, changes, registered
from tests.stores.postgres import Postgres
from tests.stores.waiting import until

pytestmark = pytest.mark.xdist_group("history in PostgreSQL")
STATUSES = (Status.DEGRADED, Status.DOWN, Status.HEALTHY)


@asynccontextmanager
async def facades(
    store: EmbeddedStore, number: int, audit: AuditSettings
) -> AsyncIterator[list[tuple[Client, AsyncExitStack]]]:
    """Facades over one store, each with what ends it."""
    async with AsyncExitStack() as all_of_them:
        found = []
        for _ in range(number):
            stack = await all_of_them.enter_async_context(AsyncExitStack())
            found.append((await stack.enter_async_context(served(store, audit=audit)), stack))
        yield found


async def figure(ask: Client, name: str) -> float:
    """A figure of the history."""
    lines = (await ask("GET", "/metrics")).body.decode().splitlines()
    [found] = [each for each in lines if each.startswith(f"mcp_discovery_history_{name} ")]
    return float(found.split()[1])


async def written(ask: Client) -> float:
    """How many changes it has written."""
    return await figure(ask, "changes_total")


async def told(ask: Client, number: int) -> list[dict[str, str]]:
    """What became of the shop, once so much is told."""

    async def there() -> list[dict[str, str]] | None:
        found = await changes(ask, "shop")
        return found if len(found) >= number else None

    found = await until(there, timeout=30, what=f"{number} changes")
    assert found is not None
    return found


async def test_each_change_is_written_once(stored: AuditSettings) -> None:
    async with EmbeddedStore() as list_:
        shops = [await registered(list_, f"shop-{number}") for number in range(3)]
        async with facades(list_, 3, stored) as each:
            asks = [ask for ask, _ in each]
            await told(asks[0], 3)
            for status in STATUSES * 3:
                for shop in shops:
                    await shop.heartbeat(Health(status, f"is {status}"))
                await a_moment()
            for ask in asks:
                found = await told(ask, 30)
                assert [one["status"] for one in found if one["id"] == "shop-1"] == [
                    "healthy",
                    *(status.value for status in STATUSES * 3),
                ]
            assert sum([await written(ask) for ask in asks]) == 30


async def test_another_takes_over_without_a_gap(stored: AuditSettings) -> None:
    async with EmbeddedStore() as list_:
        shop = await registered(list_, "shop-1")
        async with facades(list_, 2, stored) as each:
            (first, ending), (second, _) = each
            await told(first, 1)
            await a_moment()
            await shop.heartbeat(Health(Status.DOWN, "refused"))
            await ending.aclose()  # which writes what waits
            await a_moment()
            await shop.heartbeat(Health(Status.HEALTHY, "is back"))
            found = await told(second, 3)
            assert [one["status"] for one in found] == ["healthy", "down", "healthy"]
            reply = (await second("GET", "/servers/shop/history")).json
            assert reply["unwatched"] == []


async def test_one_that_was_killed_is_followed_by_another(
    stored: AuditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LEAD", 1.0)
    monkeypatch.setattr("mcp_discovery.facade.history.database.LEAD", 1.0)
    monkeypatch.setattr(recorder, "_BEAT", 0.2)
    async with EmbeddedStore() as list_:
        shop = await registered(list_, "shop-1")
        async with facades(list_, 2, stored) as each:
            (first, _), (second, _) = each
            await told(second, 1)
            await shop.heartbeat(Health(Status.DEGRADED, "slow"))
            await told(second, 2)  # both follow the list
            before = {await written(ask) for ask in (first, second)}
            # It neither writes any more nor gives the lead up.
            monkeypatch.setattr(recorder.Recorder, "_write", _stuck(recorder.Recorder._write))
            await shop.heartbeat(Health(Status.DOWN, "refused"))
            found = await told(second, 3)
            assert [one["status"] for one in found] == ["healthy", "degraded", "down"]
            assert before == {0.0, 2.0}
            assert {await written(ask) for ask in (first, second)} == {1.0, 2.0}
            assert (await second("GET", "/servers/shop/history")).json["unwatched"] == []


async def test_what_happens_between_two_writers_is_told(
    stored: AuditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LEAD", 4.0)
    monkeypatch.setattr("mcp_discovery.facade.history.database.LEAD", 4.0)
    monkeypatch.setattr(recorder, "_BEAT", 0.2)
    async with EmbeddedStore() as list_:
        shop = await registered(list_, "shop-1")
        async with facades(list_, 2, stored) as each:
            (first, _), (second, _) = each
            await told(second, 1)
            await shop.heartbeat(Health(STATUSES[0], "slow"))
            await told(second, 2)  # both follow the list
            monkeypatch.setattr(recorder.Recorder, "_write", _stuck(recorder.Recorder._write))
            for status in STATUSES[1:]:
                await shop.heartbeat(Health(status, f"is {status}"))
                for ask in (first, second):
                    await _seen(ask, f"is {status}")
            found = await told(second, 4)
            assert [one["status"] for one in found] == ["healthy", *STATUSES]
            assert (await second("GET", "/servers/shop/history")).json["unwatched"] == []


async def _seen(ask: Client, reason: str) -> None:
    """Waits until it is in the list of a facade."""

    async def there() -> bool:
        return reason.encode() in bytes((await ask("GET", "/servers/shop-1")).body)

    await until(there, timeout=20, what=f"{reason} being listed")


def _stuck(write: object) -> object:
    """Lets the first recorder that writes after this do so no more."""
    stuck: list[object] = []

    async def write_unless(self: recorder.Recorder) -> None:
        if self._span is not None and not stuck:
            stuck.append(self)
        if self in stuck:
            return
        await write(self)  # type: ignore[operator]

    return write_unless


async def test_a_database_that_is_away_costs_nothing_that_happened(
    postgres: Postgres, in_postgres: AuditSettings
) -> None:
    async with EmbeddedStore() as list_, served(list_, audit=in_postgres) as ask:
        shop = await registered(list_, "shop-1")
        await told(ask, 1)
        await postgres.stop()
        try:
            for status in STATUSES:
                await a_moment()
                await shop.heartbeat(Health(status, f"is {status}"))

            async def away() -> bool:
                return await figure(ask, "away") == 1

            await until(away, timeout=30, what="the database being away")
            assert await figure(ask, "waiting") >= 3
            reply = await ask("GET", "/servers/shop/history")
            assert (reply.status, reply.json["title"]) == (503, "History unavailable")
            assert (await ask("GET", "/servers")).status == 200
        finally:
            await postgres.start()

        async def back() -> bool:
            return await figure(ask, "away") == 0

        await until(back, timeout=60, what="the database being back")
        found = await told(ask, 4)
        assert [one["status"] for one in found] == ["healthy", *(each.value for each in STATUSES)]
        assert (await ask("GET", "/servers/shop/history")).json["unwatched"] == []


async def test_what_does_not_fit_is_a_gap(
    postgres: Postgres, in_postgres: AuditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_MOST", 3)
    async with EmbeddedStore() as list_, served(list_, audit=in_postgres) as ask:
        shop = await registered(list_, "shop-1")
        await told(ask, 1)
        await postgres.stop()
        try:
            for status in STATUSES * 2:
                await a_moment()
                await shop.heartbeat(Health(status, f"is {status}"))
            await shop.heartbeat(Health(Status.DOWN, "at last"))
            assert await figure(ask, "lost_total") >= 4
        finally:
            await postgres.start()

        async def back() -> bool:
            return (await ask("GET", "/servers/shop/history")).status == 200

        await until(back, timeout=60, what="the database being back")
        found = await told(ask, 2)
        assert [one["reason"] for one in found] == ["answers MCP", "at last"]
        assert len((await ask("GET", "/servers/shop/history")).json["unwatched"]) == 1


async def test_a_role_that_may_not_make_tables_holds_nothing_up(
    postgres: Postgres, in_postgres: AuditSettings
) -> None:
    from dataclasses import replace

    from mcp_discovery.facade.access.audit.audit import database_log

    log = database_log(in_postgres)
    await log.open()
    await log.close()
    for statement in (
        f"CREATE ROLE onlyaudit LOGIN PASSWORD '{Postgres.password}'",
        "GRANT SELECT, INSERT ON audit_log, audit_schema TO onlyaudit",
        "GRANT SELECT, UPDATE ON audit_head TO onlyaudit",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    ):
        await postgres.execute(statement)
    assert in_postgres.store is not None
    given = replace(in_postgres, store=in_postgres.store.replace("//audit@", "//onlyaudit@"))
    try:
        async with EmbeddedStore() as list_, served(list_, audit=given) as ask:
            await registered(list_, "shop-1")
            reply = await ask("GET", "/servers/shop/history")
            assert (reply.status, "permission denied" in reply.json["detail"]) == (503, True)
            made = await ask("POST", "/servers", leased("shop-2"))
            assert made.status == 201, made.body
    finally:
        await postgres.execute("DROP OWNED BY onlyaudit")
        await postgres.execute("DROP ROLE onlyaudit")
