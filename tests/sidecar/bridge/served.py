"""A command that speaks stdio, bridged in this process without a store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client

from mcp_discovery.program import Program
from mcp_discovery.sidecar.bridge.bridge import Bridge
from mcp_discovery.sidecar.bridge.serving import BridgeListener
from mcp_discovery.sidecar.settings import SidecarSettings
from tests.stores.waiting import until


class Served:
    """One that runs at ``url``."""

    def __init__(self, bridge: Bridge, url: str) -> None:
        self.bridge = bridge
        self.url = url

    async def until_well(self) -> None:
        """Waits until a process can be asked."""

        async def well() -> bool:
            return self.bridge.why_not is None

        await until(well, timeout=20, what="a process that can be asked")


@asynccontextmanager
async def served(*command: str, **more: Any) -> AsyncIterator[Served]:
    """``command``, whose bridge has the settings ``more``."""
    settings = SidecarSettings(command=command, listen="127.0.0.1:0", **more)
    program = Program(command=command, grace=1.0)
    bridge = Bridge(program, "served", shared=settings.sessions == "shared")
    listener = BridgeListener("127.0.0.1", 0, settings)
    async with (
        bridge.running(),
        listener.listening(),
        listener.serving("/mcp", bridge, settings),
    ):
        one = Served(bridge, listener.url("/mcp"))
        await one.until_well()
        yield one


async def called(client: Client, tool: str, **given: Any) -> Any:
    """What a tool's text says, as JSON."""
    found = await client.call_tool(tool, given)
    return json.loads(found.content[0].text)  # type: ignore[union-attr]
