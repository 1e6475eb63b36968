"""Every instance in the list with its connection and its tools, updated with the list."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from mcp_discovery.client.attempt import AttemptError, describe
from mcp_discovery.client.connection import CALLABLE, InstanceConnection
from mcp_discovery.client.settings import ClientSettings
from mcp_discovery.client.source import Source
from mcp_discovery.client.tool import InstancesByTool, ServerTools
from mcp_discovery.client.transports import SharedHttp
from mcp_discovery.errors import DocumentNotFoundError, InvalidDocumentError, StoreError
from mcp_discovery.instance import Instance
from mcp_discovery.record import SERVER

log = logging.getLogger(__name__)

#: This many documents, or lists of tools from servers, are read at once.
_CONCURRENCY = 16
#: Seconds after which tools that could not be read are read again.
_REREAD_INTERVAL = 5.0
#: The most pages of a server's tools that are read.
_MOST_PAGES = 100


class ConnectionPool:
    """Connections and tools by instance id."""

    def __init__(self, source: Source, settings: ClientSettings, http: SharedHttp) -> None:
        self._source = source
        self._settings = settings
        self._http = http
        self.connections: dict[str, InstanceConnection] = {}
        self._leaving: set[InstanceConnection] = set()
        #: Of the instances whose tools are known by name alone.
        self._rereads: dict[str, asyncio.TimerHandle] = {}
        self.index = InstancesByTool()
        #: Goes up with every change.
        self.revision = 0
        self._change = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        #: The tasks that read the tools of instances.
        self.reading: dict[str, asyncio.Task[None]] = {}
        self._documents: dict[str, ServerTools] = {}
        self._limit = asyncio.Semaphore(_CONCURRENCY)

    def update(self, before: Instance | None, after: Instance | None) -> None:
        """Applies one change of the list of servers."""
        if after is None:
            assert before is not None
            self._remove(before.id)
        elif (permitted := self._permitted(after)) is None:
            self._remove(after.id)
        else:
            self._add(permitted)
        self.notify()

    def _permitted(self, instance: Instance) -> Instance | None:
        """``instance`` with the tools that exist for this client; ``None``: it does not itself."""
        permits = self._settings.permits
        if permits is None:
            return instance
        if not permits(instance, None):
            return None
        record = instance.record
        names = tuple(each for each in record.capabilities.tools if permits(instance, each))
        if len(names) == len(record.capabilities.tools):
            return instance
        capabilities = record.capabilities.model_copy(update={"tools": names})
        return replace(instance, record=record.model_copy(update={"capabilities": capabilities}))

    def _add(self, instance: Instance) -> None:
        known = self.connections.get(instance.id)
        if known is not None and known.instance.record.endpoint == instance.record.endpoint:
            before = known.instance.record
            known.update_instance(instance)
            same = before.capabilities == instance.record.capabilities
            if same and before.auth == instance.record.auth and instance.id not in self._rereads:
                return
        else:
            if known is not None:
                self._remove(instance.id)
            self.connections[instance.id] = InstanceConnection(instance, self._settings, self._http)
        self._read(instance)

    def _remove(self, id: str) -> None:
        self._stop_reading(id)
        self.index.drop(id)
        if (connection := self.connections.pop(id, None)) is not None:
            self._leaving.add(connection)
            self.spawn(self._retire(connection), f"retiring {id}")

    async def _retire(self, connection: InstanceConnection) -> None:
        await connection.retire()
        self._leaving.discard(connection)

    def notify(self) -> None:
        """Wakes those who wait in :meth:`wait_for_change`."""
        self.revision += 1
        self._change.set()
        self._change = asyncio.Event()

    async def wait_for_change(self) -> None:
        """Waits until the list, the tools of an instance or a breaker has changed."""
        await self._change.wait()

    def allowed(self, instance: Instance) -> bool:
        """Whether it may be called at all: it is an MCP server, a ``stdio`` one only where its name
        was allowed."""
        record = instance.record
        if record.kind != SERVER:
            return False
        return record.endpoint.transport != "stdio" or record.name in self._settings.allow_stdio

    def can_be_called(self, instance: Instance) -> bool:
        """Whether it may be called now: it is allowed, and listed as healthy or degraded."""
        return instance.health.status in CALLABLE and self.allowed(instance)

    def _read(self, instance: Instance) -> None:
        self._stop_reading(instance.id)
        digest = instance.record.capabilities.digest
        if digest is not None and (known := self._documents.get(digest)) is not None:
            self._set_tools(instance, known)
            return
        self.index.put(instance, None)
        task = self.spawn(self._read_tools(instance), f"reading the tools of {instance.id}")
        self.reading[instance.id] = task

    async def settled(self, ids: set[str] | None = None) -> None:
        """Waits until what is being read has been read, of all instances or of ``ids``."""
        tasks = [task for id, task in self.reading.items() if ids is None or id in ids]
        if tasks:
            await asyncio.wait(tasks)

    async def _read_tools(self, instance: Instance) -> None:
        tools = await self._document(instance)
        if tools is None and self.can_be_called(instance):
            tools = await self._listed_by_server(instance)
        self.reading.pop(instance.id, None)
        if tools is None:
            names = instance.record.capabilities.tools
            tools = ServerTools(({"name": name} for name in names), read=False)
            loop = asyncio.get_running_loop()
            self._rereads[instance.id] = loop.call_later(
                _REREAD_INTERVAL, self._read_again, instance.id
            )
        self._set_tools(instance, tools)
        self.notify()

    def _read_again(self, id: str) -> None:
        if (connection := self.connections.get(id)) is not None:
            self._read(connection.instance)

    def _stop_reading(self, id: str) -> None:
        for waiting in (self.reading.pop(id, None), self._rereads.pop(id, None)):
            if waiting is not None:
                waiting.cancel()

    def _set_tools(self, instance: Instance, tools: ServerTools) -> None:
        if (permits := self._settings.permits) is not None:
            tools = tools.only(lambda name: permits(instance, name))
        self.index.put(instance, tools)
        if (connection := self.connections.get(instance.id)) is not None:
            connection.session.tools = tools
            if connection.session.is_open:
                self.spawn(connection.session.refresh_tools(), f"tools of {instance.id}")

    async def _document(self, instance: Instance) -> ServerTools | None:
        """The tools of its document, shared by all instances that have the same one."""
        digest = instance.record.capabilities.digest
        if digest is None or (self._settings.auth and not instance.record.capabilities.tools):
            return None  # its sidecar could not read its tools without credentials; this client may
        async with self._limit:
            if (known := self._documents.get(digest)) is not None:
                return known
            try:
                document = await self._source.document(digest)
            except (DocumentNotFoundError, InvalidDocumentError, StoreError) as error:
                log.info("%s: reading the tools from the server itself: %s", instance.id, error)
                return None
        self._documents[digest] = tools = ServerTools(document.tools)
        used = {each.instance.record.capabilities.digest for each in self.connections.values()}
        for unused in self._documents.keys() - used:
            del self._documents[unused]
        return tools

    async def _listed_by_server(self, instance: Instance) -> ServerTools | None:
        """The tools that the server itself lists."""
        connection = self.connections.get(instance.id)
        if connection is None:
            return None
        try:
            async with self._limit, asyncio.timeout(self._settings.deadline):
                client = await connection.session.open()
                found: list[dict[str, Any]] = []
                cursor: str | None = None
                for _ in range(_MOST_PAGES):
                    page = await client.list_tools(cursor=cursor)
                    found += [
                        tool.model_dump(mode="json", by_alias=True, exclude_none=True)
                        for tool in page.tools
                    ]
                    if not (cursor := page.next_cursor):
                        break
        except (AttemptError, MCPError, ValidationError, TimeoutError) as error:
            log.warning("%s: its tools cannot be read: %s", instance.id, describe(error))
            return None
        return ServerTools(found)

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
        for again in self._rereads.values():
            again.cancel()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        connections = [*self.connections.values(), *self._leaving]
        self.connections.clear()
        self._leaving.clear()
        await asyncio.gather(*(each.session.close() for each in connections))
