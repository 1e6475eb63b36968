"""What befalls the file of an embedded store: a full disk, a cut-off file, somebody else's lock."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import Registration, Store, new_holder
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.health import healthy
from tests.faults.programs import Program, ready
from tests.records import document, record
from tests.stores import ports
from tests.stores.waiting import until

_HOLDER = new_holder("sidecar")


class Kept:
    """A facade that keeps its list in a file."""

    def __init__(self, folder: Path, port: int) -> None:
        self.file = folder / "list.db"
        self.url = f"http://{ports.LOOPBACK}:{port}"
        store = f"embedded://{self.file}"
        arguments = ("facade", "--store", store, "--port", str(port))
        self.program = Program(folder, "facade", arguments)

    async def start(self) -> None:
        """Starts it and waits until it serves."""
        await self.program.start()
        await ready(self.url)

    async def ended(self) -> str:
        """Waits until it has ended by itself; its log."""

        async def has_ended() -> bool:
            return not self.program.running

        await until(has_ended, timeout=20, what="the facade's end")
        return self.program.log.read_text()

    def let_grow(self, size: int) -> None:
        """From now on it can write no file beyond ``size`` bytes, as on a disk that is full."""
        hard = resource.prlimit(self.program.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.program.pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.fixture
async def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kept]:
    monkeypatch.setenv("MCP_DISCOVERY_DEBUG", "0")  # what an operator sees is tested
    port = ports.draw()
    made = Kept(tmp_path, port.number)
    try:
        yield made
    finally:
        await made.program.close()
        port.release()


@asynccontextmanager
async def asking(kept: Kept) -> AsyncIterator[Store]:
    async with open_store(kept.url) as store:
        yield store


async def register(store: Store, id: str) -> Registration:
    return await store.register(record(id), document(id), ttl=60, reap_after=600, holder=_HOLDER)


async def shown(store: Store) -> set[str]:
    watch = store.watch()
    try:
        async for event in watch:
            instances = getattr(event, "instances", None)
            if instances is not None:
                return set(instances)
    finally:
        await watch.aclose()
    raise AssertionError("the watch ended without a list")


async def test_a_full_disk_refuses_and_keeps_what_it_has(kept: Kept) -> None:
    await kept.start()
    async with asking(kept) as store:
        first = await register(store, "before")
        kept.let_grow(kept.file.stat().st_size)
        with pytest.raises(StoreUnavailableError, match="file cannot be used now"):
            for number in range(200):
                await register(store, f"while-{number}")
        assert "before" in await shown(store)
        kept.let_grow(2**30)
        await first.heartbeat(healthy())
        await register(store, "after")
        assert {"before", "after"} <= await shown(store)
    await kept.program.terminate()
    await kept.start()
    async with asking(kept) as store:
        assert {"before", "after"} <= await shown(store)


@pytest.mark.parametrize("share", [0.3, 0.9])
async def test_a_file_that_was_cut_off_is_said_to_be_damaged(kept: Kept, share: float) -> None:
    await kept.start()
    async with asking(kept) as store:
        for number in range(20):
            await register(store, f"n-{number}")
    await kept.program.terminate()
    with kept.file.open("r+b") as file:
        file.truncate(int(kept.file.stat().st_size * share))
    await kept.program.start()
    log = await kept.ended()
    assert "damaged" in log, log
    assert "move it away" in log
    assert "Traceback" not in log


async def test_a_file_that_was_emptied_is_a_new_list(kept: Kept) -> None:
    await kept.start()
    async with asking(kept) as store:
        await register(store, "before")
    await kept.program.terminate()
    kept.file.write_bytes(b"")
    await kept.start()
    async with asking(kept) as store:
        assert await shown(store) == set()
        await register(store, "after")


async def test_a_file_that_is_cut_off_under_it_empties_no_list(kept: Kept) -> None:
    await kept.start()
    async with asking(kept) as store:
        first = await register(store, "before")
        with kept.file.open("r+b") as file:
            file.truncate(100)
        await first.heartbeat(healthy())
        assert await shown(store) == {"before"}
        try:
            await register(store, "after")
        except StoreUnavailableError as error:
            assert "file cannot be used now" in str(error)
        assert "before" in await shown(store)
    assert "Traceback" not in kept.program.log.read_text()


async def test_a_file_that_somebody_locks_is_one_sentence(kept: Kept) -> None:
    kept.file.touch()
    other = sqlite3.connect(kept.file, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        await kept.program.start()
        log = await kept.ended()
    finally:
        other.close()
    assert "is in use by another process" in log, log
    assert "Traceback" not in log
    await kept.start()
