"""Calls tools for ``/mcp`` with the client library, over the facade's own catalog."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from mcp_discovery.errors import BadServerError
from mcp_discovery.extras import require_extra
from mcp_discovery.facade.http.outbound import literal, why_refused
from mcp_discovery.facade.mcp.tool_caller import OnProgress

if TYPE_CHECKING:
    import httpx2

    from mcp_discovery.adapters.catalog import Catalog
    from mcp_discovery.client import Discovery
    from mcp_discovery.client.source import Outcome
    from mcp_discovery.facade.usage.usage import Usage


class ClientCaller:
    """A :class:`mcp_discovery.facade.mcp.tool_caller.ToolCaller`; the client is made by the first
    call.

    It imports the MCP SDK, some 40 MB, which a facade that calls no tools does without. ``usage``
    is told how calls went, as it is by other clients. ``private`` allows servers in loopback,
    private and shared ranges; see :mod:`mcp_discovery.facade.http.outbound`.
    """

    def __init__(self, catalog: Catalog, usage: Usage, *, private: bool) -> None:
        require_extra("client", "calling tools through the facade")
        self._catalog = catalog
        self._usage = usage
        self._private = private
        self._discovery: Discovery | None = None
        self._opening = asyncio.Lock()

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        server: str | None,
        timeout: float,
        on_progress: OnProgress | None,
    ) -> Mapping[str, Any]:
        """See :meth:`mcp_discovery.facade.mcp.tool_caller.ToolCaller.call`."""
        from mcp.shared.exceptions import MCPError

        discovery = await self._opened()

        async def told(progress: float, total: float | None, message: str | None) -> None:
            assert on_progress is not None
            await on_progress(progress, total, message)

        try:
            result = await discovery.call(
                name,
                arguments,
                server=server,
                timeout=timeout,
                on_progress=told if on_progress is not None else None,
            )
        except MCPError as error:
            problem = f"it answered with the error {error.code}: {error.message}"
            raise BadServerError(name, server or "its server", problem) from error
        wire: dict[str, Any] = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        return wire

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Ends every session when the application ends."""
        yield
        if self._discovery is not None:
            await self._discovery.__aexit__(None, None, None)

    async def _opened(self) -> Discovery:
        from mcp_discovery.client import Discovery
        from mcp_discovery.client.store import CatalogSource

        class Source(CatalogSource):
            """The facade's catalog, whose figures are the facade's own."""

            async def report(_, outcomes: Sequence[Outcome]) -> None:
                self._report(outcomes)

        async with self._opening:
            if self._discovery is None:
                found = Discovery(Source(self._catalog), guard=self._guard)
                self._discovery = await found.__aenter__()
        return self._discovery

    def _report(self, outcomes: Sequence[Outcome]) -> None:
        for each in outcomes:
            self._usage.outcome(
                each.instance,
                latency=each.latency,
                success=each.success,
                capability=each.tool,
                error=each.error,
            )

    async def _guard(self, url: httpx2.URL) -> None:
        """Refuses what the facade does not dial for others, by every address of the host."""
        loop = asyncio.get_running_loop()
        spelled = literal(url.host)
        hosts = [url.host] if spelled is not None else []
        if spelled is None:
            found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
            hosts = [str(where[0]) for *_, where in found]
        for host in hosts:
            address = literal(host)
            why = "not understood"
            if address is not None:
                why = why_refused(address, private=self._private) or ""
            if why:
                raise PermissionError(f"its address {host} is not allowed ({why})")
