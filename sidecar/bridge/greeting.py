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
    UNSUPPORTED_VERSION,
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
    def modern_versions(self) -> tuple[str, ...]:
        """The modern versions in which clients may speak to the server."""
        named = strings(self.result.get("supportedVersions")) if self.is_modern else ()
        return tuple(each for each in named if each >= MODERN) or (MODERN,)

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


async def greet(
    connection: ChildConnection, capabilities: Mapping[str, Any] | None = None
) -> Greeting:
    """Finds out the era of a process that is read, and makes it ready for requests; a legacy one is
    told of ``capabilities`` of its client.

    Raises :class:`JsonRpcError` where it ends, or refuses both eras.
    """
    discovering = asyncio.create_task(discover(connection), name="server/discover")
    initializing: asyncio.Task[Greeting] | None = None
    try:
        await asyncio.wait({discovering}, timeout=_PATIENCE)
        if not discovering.done():
            initializing = asyncio.create_task(
                initialize(connection, capabilities), name="initialize"
            )
            await asyncio.wait({discovering, initializing}, return_when=asyncio.FIRST_COMPLETED)
            if initializing.done() and initializing.exception() is not None:
                await asyncio.wait({discovering})  # A modern one may refuse it first.
        if discovering.done():
            with suppress(JsonRpcError):
                return discovering.result()
        return await (initializing or initialize(connection, capabilities))
    finally:
        tasks = [discovering] + ([initializing] if initializing else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def discover(connection: ChildConnection, protocol: str = MODERN) -> Greeting:
    """Begins as a modern client; raises :class:`JsonRpcError` where the process is none for
    that."""
    try:
        result = await connection.request("server/discover", {"_meta": envelope(protocol)})
    except JsonRpcError as fault:
        data = fault.data if isinstance(fault.data, dict) else {}
        later = [each for each in strings(data.get("supported")) if each > MODERN]
        if fault.code == UNSUPPORTED_VERSION and later and protocol == MODERN:
            return await discover(connection, min(later))
        raise
    versions = strings(result.get("supportedVersions"))
    if protocol not in versions:
        raise JsonRpcError(0, f"supports {', '.join(versions) or 'no version'}")
    return Greeting("modern", protocol, result)


async def initialize_or_discover(
    connection: ChildConnection,
    capabilities: Mapping[str, Any],
    info: Mapping[str, Any],
    protocol: str,
) -> Greeting:
    """Begins as a legacy client, and as a modern one where that is refused.

    Raises :class:`JsonRpcError` where both are.
    """
    try:
        return await initialize(connection, capabilities, info, protocol)
    except JsonRpcError as refused:
        with suppress(JsonRpcError):
            return await discover(connection)
        raise refused


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
