"""A sidecar in this process, and what a watcher of its store sees of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mcp_discovery.adapters.store import Change, Snapshot, Store
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.health import Status
from mcp_discovery.instance import Instance
from mcp_discovery.sidecar.run import run
from mcp_discovery.sidecar.settings import SidecarSettings
from mcp_discovery.sidecar.stopping import Stop
from tests.stores.waiting import PAUSE, until

#: Short terms: the promise is an interval of 1 s.
QUICK: dict[str, Any] = {"ttl": 3.0, "reap_after": 300.0, "probe_interval": 1.0, "drain": 0.5}


@dataclass
class Seen:
    """What was seen of a store: the instances now, and every one that was seen, with its time."""

    instances: dict[str, Instance] = field(default_factory=dict)
    history: list[tuple[float, str, Instance | None]] = field(default_factory=list)

    def take(self, item: Snapshot | Change) -> None:
        """Takes in what a watch yields."""
        now = time.monotonic()
        if isinstance(item, Snapshot):
            items: dict[str, Instance | None] = dict.fromkeys(self.instances)
            items |= item.instances
        else:
            items = {item.id: item.instance}
        for id, instance in items.items():
            self.history.append((now, id, instance))
            if instance is None:
                self.instances.pop(id, None)
            else:
                self.instances[id] = instance

    @property
    def only(self) -> Instance | None:
        """The one instance; ``None`` while there is none."""
        assert len(self.instances) <= 1, sorted(self.instances)
        return next(iter(self.instances.values()), None)

    async def until(
        self, holds: Callable[[Instance], object], *, within: float, what: str
    ) -> Instance:
        """Waits until there is one instance and ``holds`` is true of it."""

        async def look() -> Instance | None:
            one = self.only
            return one if one is not None and holds(one) else None

        try:
            found = await until(look, timeout=within, what=what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; there was {self.only and self.only.health}") from error
        assert found is not None
        return found

    async def until_status(self, status: Status, *, within: float) -> Instance:
        """Waits until the one instance has ``status``."""
        return await self.until(
            lambda one: one.health.status is status, within=within, what=f"being {status}"
        )

    async def until_gone(self, *, within: float) -> None:
        """Waits until there is no instance."""

        async def gone() -> bool:
            return not self.instances

        await until(gone, timeout=within, what="being gone")

    def statuses(self) -> list[str]:
        """The statuses that were seen, one after the other, without repetitions."""
        found: list[str] = []
        for _, _, instance in self.history:
            status = instance.health.status.value if instance else "gone"
            if not found or found[-1] != status:
                found.append(status)
        return found


@asynccontextmanager
async def watching(store: Store) -> AsyncIterator[Seen]:
    """Watches ``store`` while the block runs, through its absences."""
    seen = Seen()

    async def watch() -> None:
        while True:
            try:
                async with aclosing(store.watch()) as items:
                    async for item in items:
                        seen.take(item)
            except StoreUnavailableError:
                await asyncio.sleep(PAUSE)

    task = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait({task})


class Sidecar:
    """A sidecar that runs as a task of this process."""

    def __init__(
        self, settings: SidecarSettings, store: Store, environ: dict[str, str] | None
    ) -> None:
        self.stop = Stop()
        self.task = asyncio.create_task(run(settings, store, stop=self.stop, environ=environ or {}))

    async def code(self, within: float) -> int:
        """Waits for its exit code."""
        async with asyncio.timeout(within):
            return await asyncio.shield(self.task)

    async def crash(self) -> None:
        """Ends it without a word to the store, as SIGKILL does."""
        self.task.cancel()
        await asyncio.wait({self.task})


@asynccontextmanager
async def sidecar(
    store: Store, url: str, *, environ: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[Sidecar]:
    """Runs a sidecar for the MCP server at ``url``; it is cut off when the block ends."""
    running = Sidecar(SidecarSettings(url=url, **(QUICK | settings)), store, environ)
    try:
        yield running
    finally:
        await running.crash()
