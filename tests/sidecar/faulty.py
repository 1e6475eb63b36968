"""A store that fails on demand, for what a store in this process cannot be made to do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Change, Closing, Registration, Snapshot
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    InvalidRecordError,
    RegistrationLostError,
    StoreDeniedError,
    StoreUnavailableError,
)
from mcp_discovery.health import Health, Load
from mcp_discovery.instance import Holder
from mcp_discovery.record import Record


class FaultyStore(Closing):
    """An embedded store behind faults.

    ``away`` makes every call of a registrant fail, ``denied`` refuses it, ``hung`` lets it wait,
    ``picky`` refuses records with more tools than that. ``wipe`` empties the store.
    """

    def __init__(self) -> None:
        self.inner = EmbeddedStore()
        self.away = False
        self.denied = False
        self.hung = False
        self.picky: int | None = None
        self.calls: Counter[str] = Counter()

    url = "faulty://127.0.0.1"

    @property
    def skipped(self) -> Mapping[str, str]:
        return self.inner.skipped

    async def fail(self, call: str) -> None:
        """Fails as is wished for."""
        self.calls[call] += 1
        if self.hung:
            await asyncio.sleep(5)
            raise StoreUnavailableError(self.url, "no answer within 5 s")
        if self.away:
            raise StoreUnavailableError(self.url, "connection refused")
        if self.denied:
            raise StoreDeniedError(self.url, "the token is not known")

    async def wipe(self) -> None:
        """Forgets everything, as a store that lost its data does."""
        old, self.inner = self.inner, EmbeddedStore()
        await old.close()

    async def register(
        self,
        record: Record,
        document: CapabilityDocument,
        *,
        ttl: float,
        reap_after: float,
        health: Health | None = None,
        holder: Holder | None = None,
        takeover: str | None = None,
    ) -> Registration:
        await self.fail("register")
        self.inspect(record)
        inner = await self.inner.register(
            record,
            document,
            ttl=ttl,
            reap_after=reap_after,
            health=health,
            holder=holder,
            takeover=takeover,
        )
        return FaultyRegistration(self, self.inner, inner)

    def inspect(self, record: Record) -> None:
        """Refuses a record that this store finds too large."""
        if self.picky is not None and len(record.capabilities.tools) > self.picky:
            raise InvalidRecordError("capabilities.tools", f"are over the store's {self.picky}")

    def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        return self.inner.watch()

    async def document(self, digest: str) -> CapabilityDocument:
        return await self.inner.document(digest)

    async def sweep(self) -> int:
        return await self.inner.sweep()

    async def close(self) -> None:
        await self.inner.close()


class FaultyRegistration:
    """A registration whose calls fail as the store is told to."""

    def __init__(self, store: FaultyStore, home: EmbeddedStore, inner: Registration) -> None:
        self._store = store
        self._home = home
        self._inner = inner
        self.id = inner.id

    async def _fail(self, call: str) -> None:
        await self._store.fail(call)
        if self._home is not self._store.inner:
            # The store was wiped: the new one knows nothing of this registration.
            raise RegistrationLostError(self.id, "the store does not know it")

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        await self._fail("heartbeat")
        await self._inner.heartbeat(health, load, renew=renew)

    async def update(self, record: Record, document: CapabilityDocument) -> None:
        await self._fail("update")
        self._store.inspect(record)
        await self._inner.update(record, document)

    async def drain(self) -> None:
        await self._fail("drain")
        await self._inner.drain()

    async def deregister(self) -> None:
        await self._fail("deregister")
        await self._inner.deregister()
