"""No change without an event: full disks, databases that are away, processes that are killed."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.access.audit.recorded import at, until_recorded
from tests.facade.access.audit.test_stores import faults
from tests.facade.gateway.conftest import list_it
from tests.facade.gateway.plain import faulty
from tests.facade.harness import Client, leased, served
from tests.programs import command, facade
from tests.stores.postgres import Postgres
from tests.stores.waiting import bounded, until

pytestmark = pytest.mark.xdist_group("audit in PostgreSQL")

#: How long a change waits in these tests.
PATIENCE = 0.5


class Disk:
    """The space that SQLite has, in pages: it really says that the disk is full then."""

    pages = 2**30


@pytest.fixture
def disk() -> Iterator[Disk]:
    found = Disk()

    def limit(connection: Any, _: Any, __: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count = {found.pages}")
        cursor.close()

    event.listen(Pool, "checkout", limit)
    try:
        yield found
    finally:
        event.remove(Pool, "checkout", limit)


async def refused(ask: Client, method: str, path: str, body: Any = None) -> str:
    """The sentence by which a request is refused while nothing can be recorded."""
    reply = await ask(method, path, body)
    assert reply.status == 503, reply.body
    assert reply.json["type"] == "urn:mcp-discovery:problem:audit-unavailable"
    assert reply.headers["Retry-After"]
    return str(reply.json["detail"])


async def gauge(ask: Client, name: str) -> float:
    lines = (await ask("GET", "/metrics")).body.decode().splitlines()
    return float(
        next(each.split()[1] for each in lines if each.startswith(f"mcp_discovery_{name} "))
    )


async def test_a_full_disk_refuses_changes_and_nothing_else(
    settings: AuditSettings, disk: Disk
) -> None:
    limited = replace(settings, patience=PATIENCE)
    async with served(audit=limited, gateway=True) as ask:
        assert (await ask("POST", "/servers", leased("a-1"))).status == 201
        await list_it(ask, "g", "http://127.0.0.1:9/mcp")
        disk.pages = 1  # no less than what is there
        number = 0

        async def is_full() -> bool:
            nonlocal number
            number += 1
            return (await ask("POST", "/servers", leased(f"x-{number}"))).status == 503

        await until(is_full, timeout=60, what="the disk being full")
        said = await refused(ask, "POST", "/servers", leased("a-2"))
        assert said == (
            "changes and calls are refused, because the audit cannot be written now: database or "
            "disk is full; try again soon"
        )
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}}
        called = await ask("POST", "/gateway/gate/mcp", call)
        assert called.status == 503
        assert "cannot be written now" in called.json["error"]["message"]
        await refused(ask, "DELETE", "/servers/a-1")
        await refused(ask, "POST", "/servers/a-1/drain")
        # What was refused has not happened, reads go on, and heartbeats keep servers in the list.
        listed = await ask("GET", "/servers")
        assert {"a-1", "g"} <= set(listed.ids)
        assert "a-2" not in listed.ids
        assert (await ask("GET", "/audit")).status == 200
        for status in ("healthy", "degraded"):
            beat = {"status": status, "reason": "so it is"}
            assert (await ask("POST", "/servers/a-1/heartbeat", beat)).status == 200
        assert await gauge(ask, "audit_away") == 1
        assert await gauge(ask, "audit_refused_total") >= 3
        disk.pages = 2**30

        async def is_back() -> bool:
            return (await ask("DELETE", "/servers/a-1")).status == 204

        await until(is_back, timeout=20, what="changes being taken again")
        resumed = await until_recorded(ask, {"operation.name": "recording-resumed"})
        assert at(resumed, "details.refused") >= 3
        assert at(resumed, "details.lost") == 0
        # What a heartbeat said meanwhile is there.
        await until_recorded(ask, {"eventType": "status", "details.after": "degraded"})
        assert await gauge(ask, "audit_away") == 0
    assert await faults(settings) == []


@pytest.mark.slow
async def test_lines_that_cannot_be_written_refuse_changes() -> None:
    patience = 4 * PATIENCE
    async with served(audit=AuditSettings(file="/dev/full", patience=patience)) as ask:
        said = await refused(ask, "POST", "/servers", leased("a-1"))
        assert "/dev/full: No space left on device" in said
        assert (await ask("GET", "/servers?status=all")).ids == []
        began = time.monotonic()
        await refused(ask, "POST", "/servers", leased("a-1"))
        assert time.monotonic() - began < patience  # it is known by now, and nobody waits


async def test_of_two_logs_each_has_to_take_it(settings: AuditSettings, disk: Disk) -> None:
    both = replace(settings, file="/dev/full", patience=PATIENCE)
    async with served(audit=both) as ask:
        await refused(ask, "POST", "/servers", leased("a-1"))


async def test_a_database_that_is_away_at_the_start(
    postgres: Postgres, in_postgres: AuditSettings
) -> None:
    await postgres.stop()
    settings = replace(in_postgres, patience=PATIENCE)
    try:
        async with served(audit=settings) as ask:
            assert (await ask("GET", "/servers")).status == 200
            await refused(ask, "POST", "/servers", leased("a-1"))
            assert (await ask("GET", "/audit")).status == 503
            await postgres.start()

            async def is_back() -> bool:
                return (await ask("POST", "/servers", leased("a-1"))).status == 201

            await until(is_back, timeout=20, what="changes being taken")
            await until_recorded(ask, {"operation.name": "recording-began"})
    finally:
        if not postgres.running:
            await postgres.start()
    assert await faults(settings) == []


async def test_a_database_that_hangs_is_noticed(
    postgres: Postgres, in_postgres: AuditSettings
) -> None:
    settings = replace(in_postgres, patience=4 * PATIENCE)  # a busy machine takes its time, too
    async with served(audit=settings) as ask:
        assert (await ask("POST", "/servers", leased("a-1"))).status == 201
        postgres.pause()
        try:
            await bounded(refused(ask, "POST", "/servers", leased("a-2")), 15)
            assert (await ask("POST", "/servers/a-1/heartbeat", {})).status == 200
        finally:
            postgres.resume()

        async def is_back() -> bool:
            return (await ask("POST", "/servers", leased("a-3"))).status == 201

        await until(is_back, timeout=30, what="changes being taken")
        # What was waited for in vain is told, too.
        event = await until_recorded(ask, {"target.id": "a-2", "outcome.result": "refused"})
        assert at(event, "outcome.problem") == "audit-unavailable"
    assert await faults(settings) == []


async def test_restarts_under_load_lose_nothing_and_fail_nobody(
    postgres: Postgres, in_postgres: AuditSettings
) -> None:
    done: list[str] = []
    calls = 0
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}}
    async with faulty() as server, served(audit=in_postgres, gateway=True) as ask:
        await list_it(ask, "g", server.url)
        over = asyncio.Event()

        async def registering(name: str) -> None:
            while not over.is_set():
                id = f"{name}-{len(done)}"
                reply = await ask("POST", "/servers", leased(id))
                assert reply.status == 201, reply.body
                done.append(id)

        async def calling() -> None:
            nonlocal calls
            while not over.is_set():
                reply = await ask("POST", "/gateway/gate/mcp", call)
                assert reply.status == 200, reply.body
                calls += 1

        async def breaking() -> None:
            for _ in range(3):
                before = len(done)
                await postgres.stop()
                await postgres.start()

                async def going_on(before: int = before) -> bool:
                    return len(done) > before + 20

                await until(going_on, timeout=30, what="registrations going on")
            over.set()

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(registering(f"r{number}"))
                group.create_task(calling())
            group.create_task(breaking())
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            reply = await ask("GET", f"/audit?limit=1000{cursor}")
            found += reply.json["logs"]
            if (next_ := reply.json.get("nextCursor")) is None:
                break
            cursor = f"&cursor={next_}"
        registered = [at(e, "target.id") for e in found if e["eventType"] == "change"]
        assert sorted(registered) == sorted([*done, "g"])
        assert len([e for e in found if e["eventType"] == "call"]) == calls
        assert len(found) == len({e["eventId"] for e in found})
        assert {at(e, "outcome.result") for e in found} == {"done"}
    assert await faults(in_postgres) == []


async def test_a_facade_that_is_killed_in_the_midst_of_a_change_leaves_its_event(
    tmp_path: Path,
) -> None:
    store = f"sqlite:///{tmp_path}/audit.db"
    lines = tmp_path / "audit.jsonl"
    environment = {"MCP_DISCOVERY_AUDIT_STORE": store, "MCP_DISCOVERY_AUDIT": str(lines)}
    async with (
        facade(tmp_path, "embedded:") as behind,
        facade(tmp_path, behind.url, **environment) as asked,
        aiohttp.ClientSession() as http,
    ):
        behind.process.send(signal.SIGSTOP)
        posting = asyncio.create_task(http.post(f"{asked.url}/servers", json=leased("a-1")))

        async def begun() -> bool:  # the database comes after the lines, and then the change
            with closing(sqlite3.connect(tmp_path / "audit.db")) as database:
                [[number]] = database.execute(
                    "SELECT count(*) FROM audit_log WHERE target_id = 'a-1'"
                )
            return bool(number)

        await until(begun, timeout=10, what="the change being recorded")
        assert '"phase":"begun"' in lines.read_text()
        assert not posting.done()
        await asked.process.stop(signal.SIGKILL)
        with pytest.raises(aiohttp.ClientError):
            await posting
        behind.process.send(signal.SIGCONT)
        async with facade(tmp_path, behind.url, **environment) as again:
            found = (await again.get("/audit?eventType=change"))["logs"]
            [event] = [each for each in found if at(each, "target.id") == "a-1"]
            assert event["outcome"] == {"success": None, "result": "unknown"}
            assert (await again.get("/audit?outcome=unknown"))["logs"] == [event]
    for what in (("--store", store), (str(lines),)):
        ended = await command("audit", "verify", *what)
        assert ended.code == 0, ended.err
