"""Keeps the garbage collector from looking through the list again and again.

An entry is some forty objects, none of which is ever part of a cycle. Left to itself, the collector
looks through all of them while a list comes in, which takes as long as reading it.
"""

from __future__ import annotations

import asyncio
import gc

from mcp_discovery.adapters.catalog import Catalog

#: While the first list comes in: so many new objects until the young are looked through, and so
#: many times of that until older ones are.
_YOUNG, _OLDER = 50_000, 1000
#: Seconds in which the first list comes, if the store is there.
_PATIENCE = 60.0


async def settle(catalog: Catalog) -> None:
    """Waits for the first list, and takes it out of what the collector looks through: with 100,000
    instances each look would hold everything up for a quarter of a second."""
    usual = gc.get_threshold()
    gc.set_threshold(_YOUNG, _OLDER, _OLDER)
    try:
        async with asyncio.timeout(_PATIENCE):
            await catalog.ready()
    except TimeoutError:
        pass  # the store is away; what is dropped meanwhile has to be collected
    finally:
        gc.set_threshold(*usual)
    await catalog.ready()
    gc.collect()
    gc.freeze()
