"""Every instance in the list with its connection and what it offers, kept in step with the list."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from mcp_discovery.client.connection import Connection
from mcp_discovery.client.faults import AttemptError, words
from mcp_discovery.client.http import Http
from mcp_discovery.client.listing import Listing
from mcp_discovery.client.offers import Index, Offers
from mcp_discovery.client.settings import Settings
from mcp_discovery.client.source import Source
from mcp_discovery.errors import DocumentNotFoundError, InvalidDocumentError, StoreError
from mcp_discovery.health import Status
from mcp_discovery.instance import Instance

log = logging.getLogger(__name__)

#: So many documents are read, or servers asked, at once.
_AT_ONCE = 16
#: Seconds after which tools that could not be read are asked for again.
_AGAIN = 5.0
#: The most pages of tools that a server is asked for.
_PAGES = 100


class Pool:
    """Connections and offers by instance id."""

    def __init__(self, source: Source, settings: Settings, http: Http) -> None:
        self._source = source
        self._settings = settings
        self._http = http
        self.connections: dict[str, Connection] = {}
        self._leaving: set[Connection] = set()
        self._unread: dict[str, asyncio.TimerHandle] = {}  # of which only names are known
        self.index = Index()
        #: Goes up with every change.
        self.revision = 0
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._documents: dict[str, Offers] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)

    # -- the list ------------------------------------------------------------------------------

    def changed(self, before: Instance | None, after: Instance | None) -> None:
        """Takes in one change of the roster."""
        if after is None:
            assert before is not None
            self._drop(before.id)
        else:
            self._keep(after)
        self.tell()

    def _keep(self, instance: Instance) -> None:
        known = self.connections.get(instance.id)
        if known is not None and known.instance.record.endpoint == instance.record.endpoint:
            before = known.instance.record
            known.know(instance)
            same = before.capabilities == instance.record.capabilities
            if same and before.auth == instance.record.auth and instance.id not in self._unread:
                return
        else:
            if known is not None:
                self._drop(instance.id)
            listing = Listing(None)
            self.connections[instance.id] = Connection(
                instance, listing, self._settings, self._http
            )
        self._read(instance)

    def _drop(self, id: str) -> None:
        if (reading := self._reading.pop(id, None)) is not None:
            reading.cancel()
        self._forget_unread(id)
        self.index.drop(id)
        if (connection := self.connections.pop(id, None)) is not None:
            self._leaving.add(connection)
            self.spawn(self._retire(connection), f"retiring {id}")

    async def _retire(self, connection: Connection) -> None:
        await connection.retire()
        self._leaving.discard(connection)

    def tell(self) -> None:
        """Wakes those who wait for :meth:`news`."""
        self.revision += 1
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Waits until the list, an offer or a breaker has changed."""
        await self._news.wait()

    def allowed(self, instance: Instance) -> bool:
        """Whether it may be called at all: a ``stdio`` server only where its name was allowed."""
        record = instance.record
        return record.endpoint.transport != "stdio" or record.name in self._settings.allow_stdio

    # -- what they offer -----------------------------------------------------------------------

    def _read(self, instance: Instance) -> None:
        if (reading := self._reading.pop(instance.id, None)) is not None:
            reading.cancel()
        self._forget_unread(instance.id)
        digest = instance.record.capabilities.digest
        if digest is not None and (known := self._documents.get(digest)) is not None:
            self._offered(instance, known)
            return
        self.index.put(instance, None)
        task = self.spawn(self._read_offers(instance), f"reading the tools of {instance.id}")
        self._reading[instance.id] = task

    @property
    def reading(self) -> bool:
        """Whether the tools of any instance are being read."""
        return bool(self._reading)

    async def settled(self, ids: set[str] | None = None) -> None:
        """Waits until what is being read has been read, of all instances or of ``ids``."""
        tasks = [task for id, task in self._reading.items() if ids is None or id in ids]
        if tasks:
            await asyncio.wait(tasks)

    async def _read_offers(self, instance: Instance) -> None:
        offers = await self._document(instance)
        if offers is None and instance.health.status in (Status.HEALTHY, Status.DEGRADED):
            offers = await self._asked(instance)
        self._reading.pop(instance.id, None)
        if offers is None:
            offers = Offers.names(instance.record.capabilities.tools)
            loop = asyncio.get_running_loop()
            self._unread[instance.id] = loop.call_later(_AGAIN, self._read_again, instance.id)
        self._offered(instance, offers)
        self.tell()

    def _read_again(self, id: str) -> None:
        if (connection := self.connections.get(id)) is not None:
            self._read(connection.instance)

    def _forget_unread(self, id: str) -> None:
        if (again := self._unread.pop(id, None)) is not None:
            again.cancel()

    def _offered(self, instance: Instance, offers: Offers) -> None:
        self.index.put(instance, offers)
        if (connection := self.connections.get(instance.id)) is not None:
            connection.become(offers.listing())
            if connection.is_open:
                self.spawn(connection.relist(), f"tools of {instance.id}")

    async def _document(self, instance: Instance) -> Offers | None:
        """The offers of its document, shared by all instances that have the same one."""
        digest = instance.record.capabilities.digest
        if digest is None or (self._settings.auth and not instance.record.capabilities.tools):
            return None  # nobody could read its tools without credentials; perhaps we have some
        async with self._gate:
            if (known := self._documents.get(digest)) is not None:
                return known
            try:
                document = await self._source.document(digest)
            except (DocumentNotFoundError, InvalidDocumentError, StoreError) as error:
                log.info("%s: asking the server itself for its tools: %s", instance.id, error)
                return None
        self._documents[digest] = offers = Offers(document.tools)
        self._forget()
        return offers

    def _forget(self) -> None:
        used = {each.instance.record.capabilities.digest for each in self.connections.values()}
        for digest in self._documents.keys() - used:
            del self._documents[digest]

    async def _asked(self, instance: Instance) -> Offers | None:
        """What the server itself answers."""
        connection = self.connections.get(instance.id)
        if connection is None or not self.allowed(instance):
            return None
        try:
            async with self._gate, asyncio.timeout(self._settings.deadline):
                client = await connection.open()
                found: list[dict[str, Any]] = []
                cursor: str | None = None
                for _ in range(_PAGES):
                    page = await client.list_tools(cursor=cursor)
                    found += [
                        tool.model_dump(mode="json", by_alias=True, exclude_none=True)
                        for tool in page.tools
                    ]
                    if not (cursor := page.next_cursor):
                        break
        except (AttemptError, MCPError, ValidationError, TimeoutError) as error:
            log.warning("%s: its tools cannot be read: %s", instance.id, words(error))
            return None
        return Offers(found)

    # -- tasks ---------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Starts ``work`` as a task that :meth:`close` ends."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed in a way it must not", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Closes every connection and ends every task."""
        for id in list(self._unread):
            self._forget_unread(id)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        connections = [*self.connections.values(), *self._leaving]
        self.connections.clear()
        self._leaving.clear()
        await asyncio.gather(*(each.close() for each in connections))
