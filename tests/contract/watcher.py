"""Follows a store's watch and waits for what it should show."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from mcp_discovery.adapters.store import Change, Snapshot, Store
from mcp_discovery.health import Status
from mcp_discovery.instance import Instance


class Watching:
    """What one watcher has seen: ``events`` in order, ``instances`` as they add up to."""

    def __init__(self) -> None:
        self.events: list[Snapshot | Change] = []
        self.instances: dict[str, Instance] = {}
        self.failure: BaseException | None = None
        self._news = asyncio.Event()

    def status(self, id: str) -> Status | None:
        """The instance's status; ``None`` when it is not there."""
        instance = self.instances.get(id)
        return instance.health.status if instance else None

    def history(self, id: str) -> list[Status | None]:
        """The statuses that the watcher saw for ``id``, without repetitions."""
        seen: list[Status | None] = []
        for event in self.events:
            if isinstance(event, Snapshot):
                instance = event.instances.get(id)
            elif event.id == id:
                instance = event.instance
            else:
                continue
            status = instance.health.status if instance else None
            if not seen or seen[-1] is not status:
                seen.append(status)
        return seen

    async def until(self, condition: Callable[[], bool], timeout: float, what: str) -> float:
        """Waits for ``condition`` to hold after some event; returns the seconds it took."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    self._news.clear()
                    if self.failure is not None:
                        raise self.failure
                    await self._news.wait()
        except TimeoutError:
            seen = {
                id: (i.health.status.value, i.health.reason) for id, i in self.instances.items()
            }
            raise AssertionError(f"not within {timeout:g} s: {what}; seen: {seen}") from None
        return time.monotonic() - began

    async def until_status(self, id: str, status: Status | None, timeout: float) -> float:
        """Waits until ``id`` has that status; ``None``: until it is gone."""
        return await self.until(
            lambda: self.events != [] and self.status(id) is status, timeout, f"{id} is {status}"
        )

    async def until_shows(
        self, id: str, condition: Callable[[Instance], bool], timeout: float = 5
    ) -> Instance:
        """Waits until ``id`` is there and ``condition`` holds for it; returns it."""

        def holds() -> bool:
            return id in self.instances and condition(self.instances[id])

        await self.until(holds, timeout, f"{id} as awaited")
        return self.instances[id]

    async def follow(self, store: Store) -> None:
        """Follows until cancelled, or until the watch fails: then :attr:`failure` says how."""
        try:
            async with aclosing(store.watch()) as events:
                async for event in events:
                    self.events.append(event)
                    if isinstance(event, Snapshot):
                        self.instances = dict(event.instances)
                    elif event.instance is None:
                        self.instances.pop(event.id, None)
                    else:
                        self.instances[event.id] = event.instance
                    self._news.set()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test judges it
            self.failure = error
            self._news.set()


@asynccontextmanager
async def watching(store: Store) -> AsyncIterator[Watching]:
    """A running watch that has had its first snapshot."""
    watcher = Watching()
    task = asyncio.create_task(watcher.follow(store))
    try:
        await watcher.until(lambda: bool(watcher.events), 10, "a first event")
        assert isinstance(watcher.events[0], Snapshot)
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
