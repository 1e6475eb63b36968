"""The first words with a process: which era it speaks, and what it says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from mcp_discovery.mcp_messages import (
    CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LEGACY,
    MODERN,
    SERVER_INFO_KEY,
    UNSUPPORTED_VERSION,
    VERSION_KEY,
    JsonRpcError,
)
from mcp_discovery.probe.messages import client_info, strings
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
    """Finds out the era of a process that is read, and makes it ready for requests, in the modern
    era where it has that; a legacy one is told of ``capabilities`` of its client.

    Raises :class:`JsonRpcError` where it ends, or refuses both eras.
    """
    begin = partial(initialize, connection, capabilities)
    return await _either(partial(discover, connection), begin, telling=1)


async def greet_as_legacy(
    connection: ChildConnection,
    capabilities: Mapping[str, Any],
    info: Mapping[str, Any],
    protocol: str,
) -> Greeting:
    """Begins with a process in the legacy era where it has that, for a client that speaks
    ``protocol``; else in the modern one.

    Raises :class:`JsonRpcError` where it ends, or refuses both eras.
    """
    begin = partial(initialize, connection, capabilities, info, protocol)
    return await _either(begin, partial(discover, connection), telling=0)


async def _either(
    first: Callable[[], Coroutine[Any, Any, Greeting]],
    second: Callable[[], Coroutine[Any, Any, Greeting]],
    *,
    telling: int,
) -> Greeting:
    """What comes of the first of two ways to begin; of the second one where the first is refused,
    or is not answered before that. Where both are refused, the error is that of ``telling``."""
    tasks = [asyncio.create_task(first(), name="the first words")]
    try:
        await asyncio.wait(tasks, timeout=_PATIENCE)
        if not tasks[0].done() or tasks[0].exception() is not None:
            tasks.append(asyncio.create_task(second(), name="other first words"))
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(each.exception() is None for each in done):
                break
        answered = [each for each in tasks if each.done() and each.exception() is None]
        return (answered or tasks[telling:])[0].result()
    finally:
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
