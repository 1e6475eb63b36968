"""SQLite and PostgreSQL: one chain of several facades, migrations, pruning, what was tampered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from sqlalchemy import text

from mcp_discovery.credential_files import Secret
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.audit import migrations
from mcp_discovery.facade.access.audit.audit import database_log
from mcp_discovery.facade.access.audit.chain import ChainCheck, ChainHead
from mcp_discovery.facade.access.audit.database import DatabaseLog
from mcp_discovery.facade.access.audit.event import LogEntry
from mcp_discovery.facade.access.audit.journal import AuditLogError
from mcp_discovery.facade.access.audit.settings import AuditSettings
from mcp_discovery.facade.access.audit.verify import verify_store
from tests.facade.access.audit.recorded import at, logs
from tests.facade.harness import leased, served
from tests.stores.postgres import Postgres

pytestmark = pytest.mark.xdist_group("audit in PostgreSQL")


@asynccontextmanager
async def opened(settings: AuditSettings) -> AsyncIterator[DatabaseLog]:
    log = database_log(settings)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


async def faults(settings: AuditSettings, *anchors: ChainHead) -> list[str]:
    async with opened(settings) as log:
        check = ChainCheck()
        check.expect(anchors)
        return [str(each) async for each in verify_store(log, check)]


async def execute(settings: AuditSettings, *statements: str) -> None:
    async with opened(settings) as log, log.engine.begin() as connection:
        for each in statements:
            await connection.exec_driver_sql(each)


async def head_of(log: DatabaseLog) -> ChainHead:
    head = await log.head()
    assert head is not None
    return head


def entry(number: int, at: float | None = None) -> LogEntry:
    return replace(
        LogEntry.new("whole", {"eventType": "change", "number": number}), at=at or time.time()
    )


async def test_several_facades_write_one_chain(stored: AuditSettings) -> None:
    async with served(audit=stored) as one, served(audit=stored) as two:
        for number in range(10):
            made = await asyncio.gather(
                one("POST", "/servers", leased(f"one-{number}")),
                two("POST", "/servers", leased(f"two-{number}")),
            )
            assert {each.status for each in made} == {201}
        ids = {at(each, "target.id") for each in await logs(one, "?eventType=change&limit=100")}
        assert ids == {f"{which}-{number}" for which in ("one", "two") for number in range(10)}
        assert await logs(one) == await logs(two)
    assert await faults(stored) == []


TAMPERED = {
    "a changed entry": (
        "UPDATE audit_log SET entry = REPLACE(entry, '\"number\":3', '\"number\":9')",
        "entry 4: entry 4 was changed",
    ),
    "a changed column": ("UPDATE audit_log SET user_id = 'x' WHERE sequence = 4", "column user_id"),
    "a removed entry": ("DELETE FROM audit_log WHERE sequence = 4", "entry 4 is missing"),
    "a missing end": ("DELETE FROM audit_log WHERE sequence > 8", "entries 9 to 10 are missing"),
    "a missing beginning": ("DELETE FROM audit_log WHERE sequence < 3", "begins behind entry 2"),
    "nothing left": ("DELETE FROM audit_log", "entries 1 to 10 are missing"),
    "a missing head": ("DELETE FROM audit_head", "where the log ends was removed or exchanged"),
}


@pytest.mark.parametrize("name", TAMPERED)
async def test_what_was_tampered_with_is_found(name: str, stored: AuditSettings) -> None:
    async with opened(stored) as log:
        await log.write([entry(number) for number in range(10)], again=False)
        head = await head_of(log)
    assert await faults(stored, head) == []
    statement, says = TAMPERED[name]
    await execute(stored, statement)
    found = await faults(stored)
    assert any(says in each for each in found), found


async def test_a_head_that_was_noted_shows_an_end_that_was_cut_off_with_care(
    stored: AuditSettings,
) -> None:
    async with opened(stored) as log:
        await log.write([entry(number) for number in range(8)], again=False)
        earlier = await head_of(log)
        await log.write([entry(number) for number in range(2)], again=False)
        head = await head_of(log)
    await execute(
        stored,
        "DELETE FROM audit_log WHERE sequence > 8",
        f"UPDATE audit_head SET sequence = 8, hash = '{earlier.hash}'",
    )
    assert await faults(stored) == []
    assert any("was noted, is not there" in each for each in await faults(stored, head))


async def test_a_write_that_seemed_to_fail_is_not_doubled(stored: AuditSettings) -> None:
    written = [entry(number) for number in range(3)]
    async with opened(stored) as log:
        await log.write(written, again=False)
        await log.write([*written, entry(4)], again=True)
        assert (await head_of(log)).sequence == 4
    assert await faults(stored) == []


async def test_what_is_old_is_removed_and_the_rest_can_be_verified(stored: AuditSettings) -> None:
    now = time.time()
    async with opened(stored) as log:
        old = [entry(number, now - 1000 + number) for number in range(6)]
        await log.write([*old, *(entry(number) for number in range(4))], again=False)
        assert await log.prune(now - 997.5) == 3
        rows = [row async for row in log.rows()]
        assert [row["sequence"] for row in rows] == [*range(4, 12)]
        assert await faults(stored) == []
        assert await log.prune(now - 500) == 3
        assert await log.prune(now - 500) == 0
        assert await faults(stored) == []
        # Whoever removes a beginning by hand leaves no account of it.
        await execute(stored, "DELETE FROM audit_log WHERE sequence < 9")
        assert any("begins behind entry 8" in each for each in await faults(stored))


async def test_where_all_is_old_the_account_of_it_stays(stored: AuditSettings) -> None:
    async with opened(stored) as log:
        await log.write([entry(number, 1000.0 + number) for number in range(5)], again=False)
        assert await log.prune(time.time()) == 5
        assert await log.prune(time.time() - 100) == 0
        assert await faults(stored) == []


async def test_an_older_store_is_migrated(
    stored: AuditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = migrations.STEPS
    monkeypatch.setattr(migrations, "STEPS", whole[:1])
    async with opened(stored) as log:
        await log.write([entry(1)], again=False)
    monkeypatch.setattr(migrations, "STEPS", whole)
    async with opened(stored) as log:
        await log.write([entry(2)], again=False)
        async with log.reading() as connection:
            found = await connection.execute(text("SELECT MAX(version) FROM audit_schema"))
            assert found.scalar() == len(whole)
    assert await faults(stored) == []


async def test_a_newer_store_is_left_alone(stored: AuditSettings) -> None:
    await execute(stored, "INSERT INTO audit_schema (version) VALUES (99)")
    with pytest.raises(InvalidInputError, match="version 99, newer than this program's 2; use a"):
        async with opened(stored):
            pass


async def test_many_open_a_new_store_at_once(stored: AuditSettings) -> None:
    async with opened(stored), opened(stored):
        pass
    logs_ = [database_log(stored) for _ in range(5)]
    await asyncio.gather(*(each.open() for each in logs_))
    await asyncio.gather(*(each.write([entry(1)], again=False) for each in logs_))
    for each in logs_:
        await each.close()
    assert await faults(stored) == []


async def test_a_role_that_may_only_append_is_enough(
    postgres: Postgres, in_postgres: AuditSettings
) -> None:
    async with opened(in_postgres) as log:
        await log.write([entry(1)], again=False)
    for statement in (
        f"CREATE ROLE appender LOGIN PASSWORD '{Postgres.password}'",
        "GRANT SELECT, INSERT ON audit_log, audit_schema TO appender",
        "GRANT SELECT, UPDATE ON audit_head TO appender",
    ):
        await postgres.execute(statement)
    restricted = replace(in_postgres, store=postgres.url.replace("audit@", "appender@"))
    async with opened(restricted) as log:
        await log.write([entry(2)], again=False)
        await log.write([entry(3)], again=True)
        with pytest.raises(AuditLogError, match="permission denied"):
            await log.prune(time.time())
    assert await faults(in_postgres) == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://x/y", "'mysql' is no audit store; write sqlite:////absolute/path.db or post"),
        ("nothing", "is no audit store"),
        ("postgresql://me:s3cr3t@db/audit", "has no password: give it as MCP_DISCOVERY_AUDIT_PASS"),
        ("sqlite://", "an audit in memory is none"),
    ],
)
def test_urls_that_cannot_be_used(url: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says) as raised:
        DatabaseLog(url)
    assert "s3cr3t" not in str(raised.value)


async def test_a_file_that_cannot_be_made() -> None:
    with pytest.raises(
        InvalidInputError, match=r"cannot keep the audit in /proc/.*none with --aud"
    ):
        await DatabaseLog("sqlite:////proc/nowhere/audit.db").open()


async def test_a_wrong_password_is_told(postgres: Postgres) -> None:
    wrong = AuditSettings(store=postgres.url, password=Secret("password", "no", in_header=False))
    with pytest.raises(AuditLogError, match="password authentication failed") as raised:
        await database_log(wrong).open()
    assert postgres.password not in str(raised.value)


@pytest.mark.parametrize("made", ["nothing", "tables of something else"])
async def test_a_database_without_a_log_is_none(made: str, in_postgres: AuditSettings) -> None:
    log = database_log(in_postgres)
    if made != "nothing":
        async with log.engine.begin() as connection:
            await connection.exec_driver_sql("CREATE TABLE audit_log (sequence BIGINT, said TEXT)")
            await connection.exec_driver_sql("CREATE TABLE audit_head (id BIGINT)")
    with pytest.raises(InvalidInputError, match="is no audit log: the tables of one are not there"):
        [each async for each in verify_store(log, ChainCheck())]
    await log.close()
