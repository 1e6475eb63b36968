"""What a client of one era says to a server of the other, and what is lost for neither.

Requests of one era that the other does not have are refused by their names.
https://modelcontextprotocol.io/specification/2025-11-25 and …/2026-07-28/changelog
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from mcp_discovery.mcp_messages import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    LOG_LEVEL_KEY,
    METHOD_NOT_FOUND,
    MODERN,
    RESOURCE_NOT_FOUND,
    SERVER_INFO_KEY,
    JsonRpcError,
    encoded,
)
from mcp_discovery.sidecar.bridge.audience import SharedAudience
from mcp_discovery.sidecar.bridge.connection import ASKABLE, ChildConnection, Exchange, Params
from mcp_discovery.sidecar.bridge.greeting import Greeting, envelope
from mcp_discovery.sidecar.bridge.wishes import LEVELS, checked_level

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
#: What results of modern servers say that legacy ones do not.
_MODERN_ONLY: Final = frozenset(("resultType", *_NOT_KEPT))
#: What legacy capabilities say of tasks, which modern ones have as an extension.
_TASKS: Final = "tasks"
#: How often a request may be asked for more before it is given up, as the SDKs do.
_MOST_ROUNDS: Final = 10
#: Seconds before a request is sent again of which the server asked nothing but that.
_AGAIN: Final = 0.1


class Spoken(NamedTuple):
    """A process that has been greeted, what it said, and who is told what it says."""

    connection: ChildConnection
    greeting: Greeting
    audience: SharedAudience


class LegacyClient(NamedTuple):
    """What a client said at ``initialize``."""

    capabilities: Mapping[str, Any]
    info: Mapping[str, Any]


def capabilities_for(era: str, greeting: Greeting) -> Mapping[str, Any]:
    """What the server can do for clients of ``era``."""
    if greeting.era == era:
        return greeting.capabilities
    return {name: value for name, value in greeting.capabilities.items() if name != _TASKS}


async def ask_as_modern(
    spoken: Spoken, method: str, params: Params, exchange: Exchange
) -> Mapping[str, Any]:
    """The result of a modern client's request; raises :class:`JsonRpcError`."""
    connection, greeting = spoken.connection, spoken.greeting
    if greeting.is_modern:
        return await connection.request(method, params, exchange)
    if method == "server/discover":
        await _ping(connection)
        described: dict[str, Any] = {
            "supportedVersions": [MODERN],
            "capabilities": capabilities_for("modern", greeting),
        }
        if greeting.instructions is not None:
            described["instructions"] = greeting.instructions
        return _complete(method, described, greeting)
    if method not in _COMMON:
        raise _untold(method, "legacy")
    meta = params.get("_meta")
    level = meta.get(LOG_LEVEL_KEY) if isinstance(meta, dict) else None
    try:
        if level is not None:
            checked_level(level)
            if "logging" in greeting.capabilities:
                with suppress(JsonRpcError):  # Its answer does not depend on its messages.
                    await spoken.audience.wishes.set_level(exchange, level)
        found = await connection.request(method, _without_envelope(params), exchange)
    except JsonRpcError as fault:
        if fault.code == RESOURCE_NOT_FOUND:
            raise JsonRpcError(INVALID_PARAMS, fault.message, fault.data) from fault
        raise
    finally:
        if level is not None:
            await spoken.audience.wishes.leave(exchange)
    return _complete(method, found, greeting)


async def ask_as_legacy(
    spoken: Spoken, client: LegacyClient, method: str, params: Params | None, exchange: Exchange
) -> Mapping[str, Any]:
    """The result of a legacy client's request; raises :class:`JsonRpcError`."""
    connection, greeting = spoken.connection, spoken.greeting
    given = params or {}
    match method:
        case "resources/subscribe" | "resources/unsubscribe":
            if not isinstance(uri := given.get("uri"), str):
                raise JsonRpcError(INVALID_PARAMS, f"{method} needs params.uri, a string")
            if method == "resources/subscribe":
                await spoken.audience.wishes.watch(exchange.client, uri)
            else:
                await spoken.audience.wishes.unwatch(exchange.client, uri)
            return {}
        case "logging/setLevel" if given.get("level") in LEVELS or greeting.is_modern:
            if greeting.is_modern and "logging" not in greeting.capabilities:
                raise JsonRpcError(METHOD_NOT_FOUND, "this server has no log for its clients")
            wanted = checked_level(given.get("level"))
            await spoken.audience.wishes.set_level(exchange.client, wanted)
            return {}
    if not greeting.is_modern:
        return await connection.request(method, params, exchange)
    meta = given.get("_meta")
    capabilities = {name: each for name, each in client.capabilities.items() if name != _TASKS}
    meta = (meta if isinstance(meta, dict) else {}) | envelope(
        greeting.protocol, capabilities, client.info
    )
    if method == "ping":
        await connection.request("server/discover", {"_meta": meta})
        return {}
    if method not in _COMMON:
        raise _untold(method, "modern")
    if (level := spoken.audience.wishes.level_of(exchange.client)) is not None:
        meta[LOG_LEVEL_KEY] = level
    try:
        found = await _answering(connection, method, {**given, "_meta": meta}, exchange)
    except JsonRpcError as fault:
        known = isinstance(fault.data, dict) and "uri" in fault.data
        if method == "resources/read" and fault.code == INVALID_PARAMS and known:
            raise JsonRpcError(RESOURCE_NOT_FOUND, fault.message, fault.data) from fault
        raise
    return _for_legacy(method, found)


async def _answering(
    connection: ChildConnection, method: str, params: Params, exchange: Exchange
) -> Mapping[str, Any]:
    """The result of a request to a modern process, whose questions the legacy client answers.

    https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr
    """
    more: dict[str, Any] = {}
    for _ in range(_MOST_ROUNDS + 1):
        found = await connection.request(method, {**params, **more}, exchange)
        if found.get("resultType") != "input_required":
            return found
        more = {}
        if questions := found.get("inputRequests"):
            if not isinstance(questions, dict):
                raise JsonRpcError(INTERNAL_ERROR, "the MCP server's inputRequests are no object")
            more["inputResponses"] = {
                key: await _answer(question, exchange) for key, question in questions.items()
            }
        else:
            await asyncio.sleep(_AGAIN)
        if isinstance(state := found.get("requestState"), str):
            more["requestState"] = state
    detail = f"the MCP server asked for more input {_MOST_ROUNDS} times, and is not asked again"
    raise JsonRpcError(INTERNAL_ERROR, detail)


async def _answer(question: Any, exchange: Exchange) -> dict[str, Any]:
    method = question.get("method") if isinstance(question, dict) else None
    if not isinstance(method, str) or method not in ASKABLE:
        detail = f"the MCP server asks for {method!r}, which no client can be asked"
        raise JsonRpcError(INTERNAL_ERROR, detail)
    params = question.get("params")
    try:
        return await exchange.ask(method, params if isinstance(params, dict) else {})
    except JsonRpcError as fault:
        if fault.code != METHOD_NOT_FOUND:
            raise
        # That is said of the question, and not of the client's own request.
        raise JsonRpcError(INTERNAL_ERROR, fault.message, fault.data) from fault


def _for_legacy(method: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """A modern result in legacy words; raises :class:`JsonRpcError` where there are none."""
    kind = found.get("resultType", "complete")
    if kind != "complete":
        raise JsonRpcError(
            INTERNAL_ERROR,
            f"the MCP server answers {method} with a result of the type {kind!r}, "
            f"which clients of the legacy era do not know",
        )
    kept = {name: value for name, value in found.items() if name not in _MODERN_ONLY}
    if isinstance(meta := kept.get("_meta"), dict):
        meta = {key: value for key, value in meta.items() if key != SERVER_INFO_KEY}
        del kept["_meta"]
        if meta:
            kept["_meta"] = meta
    if method == "tools/list" and isinstance(tools := kept.get("tools"), list):
        kept["tools"] = list(map(_legacy_tool, tools))
    content = kept.get("structuredContent")
    if method == "tools/call" and content is not None and not isinstance(content, dict):
        # Legacy clients take objects alone, and what is no object as a text.
        del kept["structuredContent"]
        if not kept.get("content"):
            kept["content"] = [{"type": "text", "text": encoded(content).decode()}]
    return kept


def _legacy_tool(tool: Any) -> Any:
    """A tool as legacy clients take it: its output is an object, or not described."""
    schema = tool.get("outputSchema") if isinstance(tool, dict) else None
    if schema is None or (isinstance(schema, dict) and schema.get("type") == "object"):
        return tool
    return {name: value for name, value in tool.items() if name != "outputSchema"}


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


def _complete(method: str, result: Mapping[str, Any], greeting: Greeting) -> dict[str, Any]:
    more = _NOT_KEPT if method in _CACHEABLE else {}
    complete: dict[str, Any] = {"resultType": "complete", **more, **result}
    if greeting.info:
        meta = complete.get("_meta")
        meta = meta if isinstance(meta, dict) else {}
        complete["_meta"] = {**meta, SERVER_INFO_KEY: greeting.info}
    return complete


def _untold(method: str, era: str) -> JsonRpcError:
    return JsonRpcError(
        METHOD_NOT_FOUND,
        f"{method[:100]!r} cannot be said to this server, which speaks MCP of the {era} era",
    )
