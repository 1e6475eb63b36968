"""The store behind ``etcd:`` URLs, made of the parts of this package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from mcp_discovery.adapters.etcd.api import EtcdGateway
from mcp_discovery.adapters.etcd.documents import EtcdDocuments
from mcp_discovery.adapters.etcd.keys import Keys
from mcp_discovery.adapters.etcd.members import etcd_members
from mcp_discovery.adapters.etcd.queries import EtcdQueries
from mcp_discovery.adapters.etcd.registration import EtcdNamespace, EtcdRegistration, register
from mcp_discovery.adapters.etcd.rights import of_list, of_queries, of_sidecar
from mcp_discovery.adapters.etcd.url import parse_url
from mcp_discovery.adapters.etcd.watch import Watch
from mcp_discovery.adapters.members import StoreMembers
from mcp_discovery.adapters.store import BaseStore, Change, Snapshot, StoredQuery, StoreOptions
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import StoreDeniedError, StoreUnavailableError
from mcp_discovery.instance import Holder, Instance
from mcp_discovery.record import Record


class EtcdStore(BaseStore[EtcdRegistration]):
    """The store behind ``etcd://host1:2379,host2:2379/prefix`` and ``etcd+https://…``.

    It uses etcd's JSON gateway (etcd 3.4 or later). ``options`` give user and password, or the CA
    and client certificate for TLS; the gateway does not authenticate users by certificate. Raises
    :class:`~mcp_discovery.errors.InvalidStoreURLError`, and
    :class:`~mcp_discovery.errors.InvalidInputError` for files that cannot be used.

    With ``?skydns=<domain>`` every healthy instance also gets DNS records for CoreDNS; see
    :mod:`mcp_discovery.adapters.etcd.skydns`.

    TTL and ``reap_after`` are rounded up to whole seconds; with etcd's default election time-out
    the shortest lease is 2 s.
    """

    def __init__(
        self, url: str, options: StoreOptions | None = None, *, holder: Holder | None = None
    ) -> None:
        parsed = parse_url(url)
        super().__init__(parsed.text, holder)
        self._gateway = EtcdGateway(parsed, options or StoreOptions())
        self._keys = Keys(parsed.prefix)
        self._documents = EtcdDocuments(self._gateway, self._keys)
        self._queries = EtcdQueries(self._gateway, self._keys)
        self._place = EtcdNamespace(self._gateway, self._keys, self._documents, parsed.zone)
        self._watches: dict[Watch, asyncio.Task[None]] = {}

    async def _register(
        self, new: Instance, document: CapabilityDocument, takeover: str | None
    ) -> EtcdRegistration:
        return await register(self._place, new, document, takeover)

    async def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        watch = Watch(self._gateway, self._keys, self.skipped)
        task = asyncio.create_task(_run(watch), name=f"watch {self.url}")
        self._watches[watch] = task
        try:
            while True:
                for event in await watch.queue.take():
                    yield event
        finally:
            self._watches.pop(watch, None)
            await _end(task)

    async def document(self, digest: str) -> CapabilityDocument:
        return await self._documents.read(digest)

    async def queries(self) -> Mapping[str, StoredQuery]:
        return await self._queries.all()

    async def put_query(
        self, name: str, definition: bytes | None, *, expected: str | None = None
    ) -> str | None:
        return await self._queries.put(name, definition, expected)

    async def keeps_queries(self) -> str | None:
        lacking = await self._gateway.lacking(of_queries(self._keys))
        return self._gateway.lacking_sentence(lacking) if lacking else None

    async def sweep(self) -> int:
        """See :meth:`mcp_discovery.adapters.store.Store.sweep`. Records expire with their
        leases."""
        return await self._documents.sweep()

    @property
    def unguarded(self) -> str | None:
        return self._gateway.unguarded

    async def would_refuse(self, record: Record | None) -> str | None:
        if record is None:
            rights = of_list(self._keys)
        else:
            rights = of_sidecar(self._keys, self._place.zone, record)
        lacking = await self._gateway.lacking(rights)
        if not lacking:
            return None
        sentence = self._gateway.lacking_sentence(lacking)
        if len(lacking) == len(rights):
            sentence += f"; or is {self._keys.prefix} not the prefix that it was granted?"
        return sentence

    async def members(self) -> StoreMembers:
        return await etcd_members(self._gateway)

    async def close(self) -> None:
        for watch, task in list(self._watches.items()):
            watch.queue.fail(StoreUnavailableError(self.url, "this store object is closed"))
            await _end(task)
        await self._gateway.close()


async def _run(watch: Watch) -> None:
    try:
        await watch.run()
    except (StoreUnavailableError, StoreDeniedError) as error:
        watch.queue.fail(error)
    except BaseException:
        # Whatever ended it, the consumer must not go on waiting.
        watch.queue.fail(StoreUnavailableError(watch.store, "the watch has ended"))
        raise


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
