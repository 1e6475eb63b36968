"""The first words with a process: which era it speaks, and what it says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from mcp_discovery.mcp_messages import (
    CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LEGACY,
    MODERN,
    VERSION_KEY,
    JsonRpcError,
)
from mcp_discovery.probe.messages import SERVER_INFO_KEY, client_info, strings
from mcp_discovery.sidecar.bridge.connection import ChildConnection

#: Seconds after which a process that does not answer ``server/discover`` is sent ``initialize``
#: too: some legacy servers ignore what comes before it.
_PATIENCE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a process says of itself. ``result`` is that of ``initialize``, or of
    ``server/discover``; ``protocol`` is the version it is spoken to in."""

    era: str
    protocol: str
    result: Mapping[str, Any]

    @property
    def is_modern(self) -> bool:
        """Whether every request stands for itself."""
        return self.era == "modern"

    @property
    def info(self) -> Mapping[str, Any]:
        """The server's name and version."""
        info = self.result.get("serverInfo")
        if info is None:
            meta = self.result.get("_meta")
            info = meta.get(SERVER_INFO_KEY) if isinstance(meta, dict) else None
        return info if isinstance(info, dict) else {}

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """What the server can do."""
        found = self.result.get("capabilities")
        return found if isinstance(found, dict) else {}

    @property
    def instructions(self) -> str | None:
        """What the server tells models about itself."""
        found = self.result.get("instructions")
        return found if isinstance(found, str) else None


def envelope(
    protocol: str = MODERN, capabilities: Mapping[str, Any] | None = None, info: Any = None
) -> dict[str, Any]:
    """The ``_meta`` of a modern request; by default, this bridge's own."""
    return {
        VERSION_KEY: protocol,
        CLIENT_INFO_KEY: client_info() if info is None else info,
        CAPABILITIES_KEY: dict(capabilities or {}),
    }


async def greet(connection: ChildConnection) -> Greeting:
    """Finds out the era of a process that is read, and makes it ready for requests.

    Raises :class:`JsonRpcError` where it ends, or refuses both eras.
    """
    discovering = asyncio.create_task(
        connection.request("server/discover", {"_meta": envelope()}), name="server/discover"
    )
    try:
        await asyncio.wait({discovering}, timeout=_PATIENCE)
        if discovering.done():
            with suppress(JsonRpcError):
                return _modern(discovering.result())
            return await initialize(connection)
        initializing = asyncio.create_task(initialize(connection), name="initialize")
        try:
            both = {discovering, initializing}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not initializing.done():
                with suppress(JsonRpcError):
                    return _modern(discovering.result())
            return await initializing
        finally:
            initializing.cancel()
            await asyncio.gather(initializing, return_exceptions=True)
    finally:
        discovering.cancel()
        await asyncio.gather(discovering, return_exceptions=True)


def _modern(result: Mapping[str, Any]) -> Greeting:
    versions = strings(result.get("supportedVersions"))
    if MODERN not in versions:
        raise JsonRpcError(0, f"supports {', '.join(versions) or 'no version'}")
    return Greeting("modern", MODERN, result)


async def initialize(
    connection: ChildConnection,
    capabilities: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
    protocol: str = LEGACY[-1],
) -> Greeting:
    """Begins a legacy session with a process; by default, as a client that cannot be asked.

    Raises :class:`JsonRpcError`.
    """
    params = {
        "protocolVersion": protocol,
        "capabilities": dict(capabilities or {}),
        "clientInfo": dict(info or client_info()),
    }
    result = await connection.request("initialize", params)
    await connection.notify("notifications/initialized")
    version = result.get("protocolVersion")
    return Greeting("legacy", version if isinstance(version, str) else protocol, result)
