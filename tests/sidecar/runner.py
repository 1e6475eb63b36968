"""A sidecar as a process, for what only a process can show: signals and exit codes.

``python -m tests.sidecar.runner SETTINGS [STORE]`` takes the settings as JSON. Without a store URL
it uses one of its own, and prints what a watcher of it sees: ``seen STATUS REASON`` or ``gone``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import aclosing

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import Snapshot, Store
from mcp_discovery.instance import Instance
from mcp_discovery.sidecar.run import run
from mcp_discovery.sidecar.settings import SidecarSettings

DELIVERED = 0.05
"""Seconds in which the watch of a store in this process delivers what the sidecar did last."""


async def tell(store: Store) -> None:
    """Prints what is seen of ``store``; to be cancelled."""
    async with aclosing(store.watch()) as items:
        async for item in items:
            if isinstance(item, Snapshot):
                for instance in item.instances.values():
                    tell_of(instance)
            else:
                tell_of(item.instance)


def tell_of(instance: Instance | None) -> None:
    """Prints one instance."""
    health = instance.health if instance else None
    print(f"seen {health.status} {health.reason}" if health else "gone", flush=True)


async def main() -> int:
    """Runs the sidecar; returns its exit code."""
    given = json.loads(sys.argv[1])
    for name in ("command", "tags", "env"):
        given[name] = tuple(given.get(name, ()))
    async with open_store(sys.argv[2] if len(sys.argv) > 2 else "embedded:") as store:
        teller = asyncio.create_task(tell(store))
        await asyncio.sleep(0)  # The watch begins before anything is registered.
        try:
            return await run(SidecarSettings(**given), store)
        finally:
            await asyncio.sleep(DELIVERED)
            teller.cancel()
            await asyncio.wait({teller})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    sys.exit(asyncio.run(main()))
