"""What a client of one era says to a server of the other, and what is lost for neither.

Requests of one era that the other does not have are refused by their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mcp_discovery.mcp_messages import METHOD_NOT_FOUND, MODERN, JsonRpcError
from mcp_discovery.probe.messages import SERVER_INFO_KEY
from mcp_discovery.sidecar.bridge.connection import ChildConnection, Exchange, Params
from mcp_discovery.sidecar.bridge.greeting import Greeting, envelope

#: The requests that mean the same in both eras.
_COMMON: Final = frozenset(
    (
        "tools/list",
        "tools/call",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/list",
        "prompts/get",
        "completion/complete",
    )
)
#: Results that modern clients may keep, with how long and for whom (MCP 2026-07-28, caching).
_CACHEABLE: Final = frozenset(
    (
        "server/discover",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/list",
    )
)
_NOT_KEPT: Final = {"ttlMs": 0, "cacheScope": "private"}


async def ask_as_modern(
    connection: ChildConnection,
    greeting: Greeting,
    method: str,
    params: Params,
    exchange: Exchange | None = None,
) -> Mapping[str, Any]:
    """The result of a modern client's request; raises :class:`JsonRpcError`."""
    if greeting.is_modern:
        return await connection.request(method, params, exchange)
    if method == "server/discover":
        await _ping(connection)
        described: dict[str, Any] = {
            "supportedVersions": [MODERN],
            "capabilities": greeting.capabilities,
            "_meta": {SERVER_INFO_KEY: greeting.info},
        }
        if greeting.instructions is not None:
            described["instructions"] = greeting.instructions
        return _complete(method, described)
    if method not in _COMMON:
        raise _untold(method, "legacy")
    return _complete(method, await connection.request(method, _without_envelope(params), exchange))


async def ask_as_legacy(
    connection: ChildConnection,
    greeting: Greeting,
    method: str,
    params: Params | None,
    exchange: Exchange | None = None,
) -> Mapping[str, Any]:
    """The result of a legacy client's request; raises :class:`JsonRpcError`."""
    if not greeting.is_modern:
        return await connection.request(method, params, exchange)
    if method == "ping":
        await connection.request("server/discover", {"_meta": envelope(greeting.protocol)})
        return {}
    if method not in _COMMON:
        raise _untold(method, "modern")
    given = params or {}
    meta = given.get("_meta")
    meta = (meta if isinstance(meta, dict) else {}) | envelope(greeting.protocol)
    found = await connection.request(method, {**given, "_meta": meta}, exchange)
    return {
        name: value
        for name, value in found.items()
        if name not in ("resultType", "ttlMs", "cacheScope")
    }


async def _ping(connection: ChildConnection) -> None:
    try:
        await connection.request("ping")
    except JsonRpcError as fault:
        if fault.code != METHOD_NOT_FOUND:  # which is an answer, too
            raise


def _without_envelope(params: Params) -> dict[str, Any]:
    meta = params.get("_meta")
    kept = {
        name: value
        for name, value in (meta if isinstance(meta, dict) else {}).items()
        if not name.startswith("io.modelcontextprotocol/")
    }
    others = {name: value for name, value in params.items() if name != "_meta"}
    return others | ({"_meta": kept} if kept else {})


def _complete(method: str, result: Mapping[str, Any]) -> dict[str, Any]:
    more = _NOT_KEPT if method in _CACHEABLE else {}
    return {"resultType": "complete", **more, **result}


def _untold(method: str, era: str) -> JsonRpcError:
    return JsonRpcError(
        METHOD_NOT_FOUND,
        f"{method[:100]!r} cannot be said to this server, which speaks MCP of the {era} era",
    )
