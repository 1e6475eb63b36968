"""``python -m benchmarks.simulation.follower STORE_URL``: a catalog, until killed.

Writes the number of its instances when it has them.
"""

from __future__ import annotations

import asyncio
import sys

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.catalog import Catalog


async def _follow(url: str) -> None:
    async with open_store(url) as store, Catalog(store) as catalog:
        await catalog.ready()
        sys.stdout.write(f"{len(catalog.view)}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_follow(sys.argv[1]))
