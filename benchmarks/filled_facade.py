"""``python -m benchmarks.filled_facade COUNT [REPLICAS [AUTH]]``: a facade over COUNT instances,
with the file AUTH for its ``--auth``.

The store is no real one, so that a list of any size is there at once; it tells its instances as
real ones do, decoded one by one from what a registration is in a store. What it costs a real store
to tell them is measured elsewhere.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator

from benchmarks import data
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.facade import FacadeOptions
from mcp_discovery.facade.run import run, run_in_loop
from mcp_discovery.instance import Instance, decode_registration, encode_registration
from mcp_discovery.telemetry.setup import telemetry


class FilledStore(EmbeddedStore):
    """A store that tells ``count`` instances, so many ``replicas`` of a server, and no change."""

    def __init__(self, count: int, replicas: int) -> None:
        super().__init__()
        self._count = count
        self._replicas = replicas

    async def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        """One snapshot, and then nothing."""
        yield Snapshot(dict(self._told(number) for number in range(self._count)))
        await asyncio.Event().wait()

    def _told(self, number: int) -> tuple[str, Instance]:
        told = data.instance(number, self._replicas)
        record, lease = decode_registration(encode_registration(told.record, told.lease))
        return record.id, Instance(record, told.health, lease)


async def _serve(count: str, replicas: str = str(data.REPLICAS), auth: str | None = None) -> int:
    async with telemetry("facade"), FilledStore(int(count), int(replicas)) as store:
        return await run(store, "127.0.0.1", 0, options=FacadeOptions(auth=auth), ready=_tell)


def _tell(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(run_in_loop(_serve(*sys.argv[1:])))
