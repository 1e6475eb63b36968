"""What only the embedded store has: its file, and a watcher that falls behind."""

from __future__ import annotations

import os
import sqlite3
from contextlib import aclosing
from pathlib import Path

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Change, Snapshot, new_holder
from mcp_discovery.errors import (
    DocumentNotFoundError,
    DuplicateInstanceError,
    InvalidStoreURLError,
    RegistrationLostError,
    StoreUnavailableError,
)
from mcp_discovery.health import Health, Status, healthy
from tests.contract.watcher import watching
from tests.records import document, record


@pytest.mark.slow
async def test_registrations_survive_a_restart_and_have_a_ttl_to_be_heard_again(
    tmp_path: Path,
) -> None:
    url = f"embedded://{tmp_path}/store.db"
    holder = new_holder()
    async with EmbeddedStore(url) as store:
        registration = await store.register(
            record(), document("a"), ttl=2, reap_after=3, holder=holder
        )
        await store.register(record("other"), document("b"), ttl=2, reap_after=3)
        await registration.heartbeat(Health(Status.DEGRADED, "slow — ü"))
    async with EmbeddedStore(url) as store, watching(store) as watcher:
        assert set(watcher.instances) == {"catalog-1", "other"}
        seen = watcher.instances["catalog-1"]
        assert (seen.health.status, seen.health.reason) == (Status.DEGRADED, "slow — ü")
        assert seen.record.tags == ("products", "inventory")
        assert await store.document(document("a").digest) == document("a")
        with pytest.raises(DuplicateInstanceError):  # it has its TTL to be heard again
            await store.register(record(), document("a"), ttl=2, reap_after=3)
        again = await store.register(record(), document("a"), ttl=2, reap_after=60, holder=holder)
        await again.heartbeat(healthy())
        await watcher.until_status("other", Status.DOWN, 4)
        await watcher.until_status("other", None, 4)
    async with EmbeddedStore(url) as store, watching(store) as watcher:
        assert set(watcher.instances) == {"catalog-1"}


async def test_a_file_is_one_process_s_at_a_time(tmp_path: Path) -> None:
    url = f"embedded://{tmp_path}/store.db"
    async with EmbeddedStore(url):
        with pytest.raises(StoreUnavailableError, match="in use by another process"):
            EmbeddedStore(url)
    await EmbeddedStore(url).close()


async def test_its_owner_alone_reads_the_file_and_those_beside_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"
    before = os.umask(0)
    try:
        async with EmbeddedStore(f"embedded://{path}") as store:
            await store.register(record(), document("a"), ttl=2, reap_after=3)
            modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
        assert "store.db-wal" in modes
        assert set(modes.values()) == {0o600}, modes
        assert not caplog.records
        path.chmod(0o644)  # as an earlier release left it
        async with EmbeddedStore(f"embedded://{path}"):
            assert path.stat().st_mode & 0o777 == 0o600
        assert "its mode is 0600 now" in caplog.text
    finally:
        os.umask(before)


async def test_files_that_cannot_be_used_are_left_as_they_are(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreUnavailableError, match="not a store file or is damaged"):
        EmbeddedStore(f"embedded://{damaged}")
    assert damaged.read_bytes() == b"this is no database" * 100

    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as file:
        file.execute("PRAGMA user_version=99")
    file.close()
    with pytest.raises(StoreUnavailableError, match="layout 99, newer than"):
        EmbeddedStore(f"embedded://{newer}")

    with pytest.raises(StoreUnavailableError, match="folder must exist"):
        EmbeddedStore(f"embedded://{tmp_path}/nowhere/store.db")


async def test_a_write_that_fails_never_happened(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with EmbeddedStore(f"embedded://{path}") as store, watching(store) as watcher:
        assert store._file is not None
        # The real fault: SQLite may not grow the file any further, as on a full disk.
        store._file._db.execute("PRAGMA max_page_count=1")
        with pytest.raises(StoreUnavailableError, match="full"):
            for number in range(100):
                large = document(f"tool{number}", filler=100_000)
                await store.register(record(f"n-{number}"), large, ttl=60, reap_after=60)
        assert len(watcher.instances) == number
        store._file._db.execute("PRAGMA max_page_count=1000000")
        await store.register(record("after"), document("a"), ttl=60, reap_after=60)
        await watcher.until_status("after", Status.HEALTHY, 2)


async def test_a_document_damaged_in_the_file_is_not_served(tmp_path: Path) -> None:
    url = f"embedded://{tmp_path}/store.db"
    async with EmbeddedStore(url) as store:
        await store.register(record(), document("a"), ttl=60, reap_after=60)
    with sqlite3.connect(tmp_path / "store.db") as file:
        file.execute("UPDATE documents SET data = x'00'")
    file.close()
    async with EmbeddedStore(url) as store:
        with pytest.raises(DocumentNotFoundError):
            await store.document(document("a").digest)


async def test_a_watcher_that_falls_behind_is_told_the_last_of_each() -> None:
    async with EmbeddedStore() as store, aclosing(store.watch()) as events:
        assert isinstance(await anext(events), Snapshot)
        registration = await store.register(record(), document("a"), ttl=60, reap_after=60)
        for number in range(1000):
            await registration.heartbeat(Health(Status.DEGRADED, f"step {number}"))
        other = await store.register(record("other"), document("a"), ttl=60, reap_after=60)
        await other.deregister()
        first = await anext(events)
        assert isinstance(first, Change)
        assert first.instance is not None
        assert first.instance.health.reason == "step 999"
        assert await anext(events) == Change("other", None)


async def test_updates_leave_no_deadlines_behind() -> None:
    """One entry for each instance is what the clock keeps, however often it is touched."""
    async with EmbeddedStore() as store:
        registration = await store.register(record(), document("a"), ttl=60, reap_after=90)
        for number in range(100):
            await registration.update(record(description=str(number)), document("a"))
        assert len(store._deadlines) == 1


async def test_a_deregistered_id_can_be_taken_at_once_by_anyone() -> None:
    async with EmbeddedStore() as store:
        first = await store.register(
            record(), document("a"), ttl=60, reap_after=60, holder=new_holder()
        )
        await first.deregister()
        second = await store.register(
            record(), document("a"), ttl=1, reap_after=1, holder=new_holder()
        )
        with pytest.raises(RegistrationLostError):
            await first.heartbeat(healthy())
        async with watching(store) as watcher:
            await watcher.until_status("catalog-1", None, 4)
        with pytest.raises(RegistrationLostError):
            await second.heartbeat(healthy())


@pytest.mark.parametrize(
    "url",
    [
        "embedded:relative.db",
        "embedded://host/x.db",
        "embedded:///x.db?a=1",
        "embedded://[::1",
        "gopher://x",
        "",
    ],
)
async def test_malformed_urls(url: str) -> None:
    with pytest.raises(InvalidStoreURLError, match=r"write embedded:|unknown scheme|no scheme"):
        open_store(url)


@pytest.mark.slow
async def test_the_clock_survives_a_fault_of_the_file(tmp_path: Path) -> None:
    async with EmbeddedStore(f"embedded://{tmp_path}/store.db") as store:
        await store.register(record(), document("a"), ttl=1, reap_after=2)
        await store.register(record("other"), document("a"), ttl=1, reap_after=2)
        assert store._file is not None
        store._file._db.execute("PRAGMA query_only=1")
        async with watching(store) as watcher:
            for status in (Status.DOWN, None):
                for id in ("catalog-1", "other"):
                    await watcher.until_status(id, status, 3)
