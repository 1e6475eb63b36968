"""Keeps the garbage collector from looking through the list again and again.

An entry is some forty objects, none of which is ever part of a cycle. Left to itself, the collector
looks through all of them while a list comes in, which takes as long as reading it.
"""

from __future__ import annotations

import gc

from adapters.catalog import Catalog

#: While the first list comes in: so many new objects until the young are looked through, and so
#: many times of that until older ones are.
_YOUNG, _OLDER = 50_000, 1000


async def settle(catalog: Catalog) -> None:
    """Waits for the first list, and takes it out of what the collector looks through: with 100,000
    instances each look would hold everything up for a quarter of a second."""
    usual = gc.get_threshold()
    gc.set_threshold(_YOUNG, _OLDER, _OLDER)
    try:
        await catalog.ready()
    finally:
        gc.set_threshold(*usual)
    gc.collect()
    gc.freeze()
