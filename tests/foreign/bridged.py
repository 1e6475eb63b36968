"""Sidecars that serve a command which speaks stdio, and what the SDK's client gets from one."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

from tests.foreign.stdio_servers import StdioServer
from tests.programs import AskedFacade, Running, running
from tests.stores.waiting import until

#: Seconds between two probes.
INTERVAL = 1.0
#: How a client of each era connects: by asking for the modern one first, or not at all.
LEGACY, MODERN = "legacy", "auto"
#: Of a result, what the transport or the era says of it and the server did not.
_OF_THE_ERA = ("_meta", "ttlMs", "cacheScope", "resultType", "nextCursor")


class Bridged:
    """One that runs: ``id`` is what it is listed as."""

    def __init__(self, id: str, sidecar: Running, asked: AskedFacade) -> None:
        self.id = id
        self.sidecar = sidecar
        self._asked = asked

    async def is_well(self, timeout: float = 60) -> dict[str, Any]:
        """Waits until it is offered with its tools; returns its entry."""

        async def listed() -> dict[str, Any]:
            entry = (await self._asked.servers()).get(self.id, {})
            well = entry.get("status") in ("healthy", "degraded") and "tools" in str(entry)
            return entry if well else {}

        try:
            return await until(listed, timeout=timeout, what=f"{self.id} being offered")
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self.sidecar.log}") from error

    def children(self) -> list[psutil.Process]:
        """The processes that the sidecar has started and that have not ended."""
        found = psutil.Process(self.sidecar.pid).children()
        return [each for each in found if each.status() != psutil.STATUS_ZOMBIE]


@asynccontextmanager
async def bridged(
    folder: Path, asked: AskedFacade, id: str, command: Sequence[str], *options: str
) -> AsyncIterator[Bridged]:
    """A sidecar that serves ``command`` and keeps it in the list of ``asked``, a facade."""
    given = ("--store", asked.url, "--id", id, "--name", id, "--drain", "0")
    times = ("--ttl", f"{6 * INTERVAL:g}", "--probe-interval", f"{INTERVAL:g}")
    async with running(folder, "sidecar", *given, *times, *options, "--", *command) as sidecar:
        made = Bridged(id, sidecar, asked)
        await made.is_well()
        yield made


def straight(command: Sequence[str]) -> StdioServerParameters:
    """The command for the SDK's client, which starts it for itself."""
    return StdioServerParameters(command=command[0], args=list(command[1:]))


@dataclass(frozen=True, slots=True)
class Gotten:
    """The names of the tools, and as JSON all that was listed and called."""

    tools: list[str]
    all: str


async def gotten(
    target: str | StdioServerParameters, mode: str, server: StdioServer, arguments: dict[str, Any]
) -> Gotten:
    """All that ``server`` lists, and what its call gives, to a client that connects so; less what
    the era adds, and with "…" for what varies."""
    async with Client(target, mode=mode) as client:
        assert (client.protocol_version == "2026-07-28") is (mode == MODERN)
        offered = client.server_capabilities
        found = {"tools": await _listed(client.list_tools())}
        if offered.prompts is not None:
            found["prompts"] = await _listed(client.list_prompts())
        if offered.resources is not None:
            found["resources"] = await _listed(client.list_resources())
            found["templates"] = await _listed(client.list_resource_templates())
        called = await client.call_tool(server.tool, arguments)
        assert server.says in "".join(getattr(each, "text", "") for each in called.content), called
        found["call"] = _plain(called)
        names = [each["name"] for each in found["tools"]["tools"]]
        return Gotten(
            names, re.sub(server.varies, "…", json.dumps(found, ensure_ascii=False, sort_keys=True))
        )


async def _listed(asked: Awaitable[Any]) -> dict[str, Any]:
    """A list; or what the server says who has none of them."""
    try:
        return _plain(await asked)
    except MCPError as error:
        return {"code": error.code, "message": error.message}


def _plain(result: Any) -> dict[str, Any]:
    shown: dict[str, Any] = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in shown.items() if name not in _OF_THE_ERA}
