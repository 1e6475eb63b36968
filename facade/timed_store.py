"""A store that notes how long requests wait for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from adapters.store import Change, Closing, Registration, Snapshot, Store
from facade.tracing import asking_store
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.health import Health, Load
from mcp_discovery.instance import Holder
from mcp_discovery.record import Record


class TimedStore(Closing):
    """``store`` itself in every respect; see :class:`adapters.store.Store` for its methods."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def url(self) -> str:
        """See :attr:`Store.url`."""
        return self._store.url

    @property
    def skipped(self) -> Mapping[str, str]:
        """See :attr:`Store.skipped`."""
        return self._store.skipped

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
        """See :meth:`Store.register`."""
        with asking_store():
            registration = await self._store.register(
                record,
                document,
                ttl=ttl,
                reap_after=reap_after,
                health=health,
                holder=holder,
                takeover=takeover,
            )
        return _TimedRegistration(registration)

    def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        """See :meth:`Store.watch`."""
        return self._store.watch()

    async def document(self, digest: str) -> CapabilityDocument:
        """See :meth:`Store.document`."""
        with asking_store():
            return await self._store.document(digest)

    async def sweep(self) -> int:
        """See :meth:`Store.sweep`."""
        return await self._store.sweep()

    async def node_address(self) -> str | None:
        """See :meth:`Store.node_address`."""
        return await self._store.node_address()

    async def close(self) -> None:
        """See :meth:`Store.close`."""
        await self._store.close()


class _TimedRegistration:
    def __init__(self, registration: Registration) -> None:
        self._registration = registration

    @property
    def id(self) -> str:
        return self._registration.id

    async def heartbeat(self, health: Health, load: Load | None = None) -> None:
        with asking_store():
            await self._registration.heartbeat(health, load)

    async def update(self, record: Record, document: CapabilityDocument) -> None:
        with asking_store():
            await self._registration.update(record, document)

    async def drain(self) -> None:
        with asking_store():
            await self._registration.drain()

    async def deregister(self) -> None:
        with asking_store():
            await self._registration.deregister()
