"""The tool ``call_tool``: calls a tool of any server, where the operator allows it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from aiohttp import web

from mcp_discovery.extras import require_extra
from mcp_discovery.facade.access.audit.calls import CALL, begin_call
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.access.calling import may_call
from mcp_discovery.facade.access.rights import Rights
from mcp_discovery.facade.http.addresses import AddressPolicy, literal
from mcp_discovery.facade.mcp.tool import (
    SHORT,
    TOOL_NAME,
    McpTool,
    OnProgress,
    number,
    object_schema,
    text,
    tool_error,
)
from mcp_discovery.mcp_messages import JsonRpcError

if TYPE_CHECKING:
    import httpx2

    from mcp_discovery.adapters.catalog import Catalog
    from mcp_discovery.client import Credentials, Discovery
    from mcp_discovery.client.source import CallOutcome
    from mcp_discovery.facade.gateway.credentials import KnownCredentials
    from mcp_discovery.facade.usage.usage import Usage
    from mcp_discovery.instance import Instance


#: The default and the greatest time-out of a call, in seconds.
_TIMEOUT, _LONGEST = 60, 600


class ToolCaller(Protocol):
    """Calls tools for the clients of ``/mcp``."""

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        server: str | None,
        timeout: float,
        on_progress: OnProgress | None,
        caller: Caller,
    ) -> Mapping[str, Any]:
        """Calls the tool ``name`` for ``caller``, of the server named ``server`` where that is
        said. Tools that the caller may not call do not exist.

        Returns the tool's own result as MCP serializes it: ``content``, and where the tool gave
        them ``structuredContent`` and ``isError``. ``on_progress`` is awaited for each progress
        notification of the tool. Cancelling this coroutine cancels the call.

        Raises :class:`~mcp_discovery.errors.DiscoveryError`, with a sentence that says what to do,
        where the tool was not called, :class:`JsonRpcError` with the error that its server answered
        with, as that is, and :class:`TimeoutError` after ``timeout`` seconds.
        """


class ClientCaller:
    """A :class:`ToolCaller` that uses the client library over the facade's own catalog.

    The first call imports the MCP SDK, some 40 MB, which a facade that calls no tools does not
    need. The outcome of each call is counted in ``usage``. Servers at ``addresses`` are called, and
    no others, with the ``credentials`` that are for them. ``max_answer_bytes`` is the limit of a
    server's answer.

    Callers that may call the same share a client, and so its sessions; others have another one.
    """

    def __init__(
        self,
        catalog: Catalog,
        usage: Usage,
        *,
        addresses: AddressPolicy,
        max_answer_bytes: int,
        credentials: Callable[[], KnownCredentials] | None = None,
    ) -> None:
        require_extra("client", "calling tools through the facade")
        self._catalog = catalog
        self._usage = usage
        self._addresses = addresses
        self._max_answer_bytes = max_answer_bytes
        self._credentials = credentials
        #: By what their callers may call; the one that was used last is last.
        self._clients: dict[str, _Client] = {}

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        server: str | None,
        timeout: float,
        on_progress: OnProgress | None,
        caller: Caller,
    ) -> Mapping[str, Any]:
        """See :meth:`ToolCaller.call`."""
        from mcp.shared.exceptions import MCPError

        from mcp_discovery.client.calls import OUTCOMES

        outcomes: list[CallOutcome] = []
        OUTCOMES.set(outcomes)
        try:
            async with self._client(caller.rights) as discovery:
                result = await discovery.call(
                    name, arguments, server=server, timeout=timeout, on_progress=on_progress
                )
        except MCPError as error:
            # It is the tool's own answer: no status of HTTP is derived from its code.
            raise JsonRpcError(error.code, error.message, error.data, status=200) from error
        finally:
            self._tell_instance(outcomes)
        wire: dict[str, Any] = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        return wire

    def _tell_instance(self, outcomes: Sequence[CallOutcome]) -> None:
        """Says which instance a recorded call reached."""
        if (call := CALL.get()) is not None and outcomes:
            entry = self._catalog.view.entries.get(outcomes[-1].instance)
            if entry is not None:
                call.reaches(entry.instance)

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Ends every session when the application ends."""
        yield
        await asyncio.gather(*(each.close() for each in self._clients.values()))

    @asynccontextmanager
    async def _client(self, rights: Rights) -> AsyncIterator[Discovery]:
        """The client for callers with ``rights``; of many those in use and used last are kept."""
        key = rights.reach("call")
        client = self._clients.pop(key, None) or _Client(partial(self._discovery, rights))
        self._clients[key] = client
        with client.in_use():
            idle = [name for name, each in self._clients.items() if not each.uses]
            for name in idle[: max(0, len(self._clients) - _MOST_CLIENTS)]:
                await self._clients.pop(name).close()
            yield await client.opened()

    def _discovery(self, rights: Rights) -> Discovery:
        from mcp_discovery.client import Credentials, Discovery
        from mcp_discovery.client.source import CatalogSource

        class ReportingCatalogSource(CatalogSource):
            """The facade's catalog; outcomes are counted in the facade itself."""

            async def report(_, outcomes: Sequence[CallOutcome]) -> None:
                for each in outcomes:
                    self._usage.outcome(
                        each.instance,
                        latency=each.latency,
                        success=each.success,
                        capability=each.tool,
                        error=each.error,
                    )

        def permits(instance: Instance, tool: str | None) -> bool:
            return may_call(rights, instance, tool)

        known = self._credentials

        def auth(instance: Instance) -> Credentials | None:
            from mcp_discovery.facade.mcp.call_credentials import FollowedCredentials

            assert known is not None
            url = instance.record.endpoint.url or ""
            name = instance.record.name
            if not known().headers(name, url):
                return None
            return Credentials(FollowedCredentials(known, name), url)

        return Discovery(
            ReportingCatalogSource(self._catalog),
            guard=self._guard,
            permits=permits,
            auth=None if known is None else auth,
            deadline=_LONGEST,  # a call says itself how long it may take
            max_answer_bytes=self._max_answer_bytes,
        )

    async def _guard(self, url: httpx2.URL) -> None:
        """Raises PermissionError unless the address policy allows every address of the host."""
        loop = asyncio.get_running_loop()
        hosts = [url.host]
        if literal(url.host) is None:
            found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
            hosts = [str(address[0]) for *_, address in found]
        for host in hosts:
            parsed = literal(host)
            why = "not understood" if parsed is None else self._addresses.why_refused(parsed)
            if why:
                raise PermissionError(f"its address {host} is not allowed ({why})")


class _Client:
    """A client that is opened by its first use; ``uses`` are the calls under way."""

    def __init__(self, make: Callable[[], Discovery]) -> None:
        self._make = make
        self._discovery: Discovery | None = None
        self._opening = asyncio.Lock()
        self.uses = 0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Counts one use for as long as the block lasts."""
        self.uses += 1
        try:
            yield
        finally:
            self.uses -= 1

    async def opened(self) -> Discovery:
        """The client, opened."""
        async with self._opening:
            if self._discovery is None:
                self._discovery = await self._make().__aenter__()
        return self._discovery

    async def close(self) -> None:
        """Ends its sessions."""
        if self._discovery is not None:
            await self._discovery.__aexit__(None, None, None)


#: How many clients are kept that nobody uses.
_MOST_CLIENTS: Final = 32
#: How many calls may run at the same time.
_MOST_CALLS: Final = 256


class CallTool(McpTool):
    """Calls any tool of any server through ``caller``."""

    name = "call_tool"
    title = "Call a tool"
    description = (
        "Call a tool of any MCP server that is alive, by its name and with its own arguments, and "
        "get its own result. Find tools with find_tools and read their arguments with "
        "describe_tool first. What a call does is up to the tool: it may change things."
    )
    input_schema: Mapping[str, Any] = object_schema(
        ("name",),
        name=TOOL_NAME,
        arguments={
            "type": "object",
            "default": {},
            "description": "The tool's arguments, as its inputSchema wants them.",
        },
        server=text("The name of the server, where several have a tool of this name.", **SHORT),
        timeout=number(
            "How many seconds the call may take.", default=_TIMEOUT, most=_LONGEST, type="number"
        ),
    ) | {"additionalProperties": False}
    # There is no output schema: the result is the called tool's own.
    annotations: ClassVar[Mapping[str, Any]] = {
        "readOnlyHint": False,
        "destructiveHint": True,
        "idempotentHint": False,
        "openWorldHint": True,
    }
    long_running = True
    needs = "call"

    def __init__(self, caller: ToolCaller) -> None:
        self._caller = caller
        self._running = 0

    async def run(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None, caller: Caller
    ) -> Mapping[str, Any]:
        if self._running >= _MOST_CALLS:
            return tool_error(f"{_MOST_CALLS} calls are under way already; try again soon")
        self._running += 1
        try:
            return await self._recorded(arguments, on_progress, caller)
        finally:
            self._running -= 1

    async def _recorded(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None, caller: Caller
    ) -> Mapping[str, Any]:
        called = arguments["server"] or "", arguments["name"], arguments["arguments"]
        call = await begin_call(*called)
        CALL.set(call)
        try:
            result = await self._call(arguments, on_progress, caller)
        except BaseException as error:
            if call is not None:
                call.end_with(error)
            raise
        if call is not None:
            call.end_with(result)
        return result

    async def _call(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None, caller: Caller
    ) -> Mapping[str, Any]:
        try:
            return await self._caller.call(
                arguments["name"],
                arguments["arguments"],
                server=arguments["server"],
                timeout=arguments["timeout"],
                on_progress=on_progress,
                caller=caller,
            )
        except TimeoutError:
            return tool_error(
                f"{arguments['name'][:100]!r} did not answer within {arguments['timeout']:g} s; "
                "raise timeout, or find another tool"
            )
