"""The notifications by which a server says that one of its lists changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import orjson

from mcp_discovery.probe.handshake import Peer
from mcp_discovery.probe.messages import METHOD_NOT_FOUND, legacy_headers, modern_call, parse
from mcp_discovery.probe.wire import Wire

_CHANGED: Final = {
    "notifications/tools/list_changed": "tools",
    "notifications/resources/list_changed": "resources",
    "notifications/prompts/list_changed": "prompts",
}
_SUBSCRIBED: Final = {
    "notifications": {
        "toolsListChanged": True,
        "resourcesListChanged": True,
        "promptsListChanged": True,
    }
}
_REPLY_SECONDS = 5.0


async def changed_lists(wire: Wire, peer: Peer) -> AsyncGenerator[str, None]:
    """Yield the name of each list that ``peer`` says has changed, until its stream ends.

    Legacy servers may ask something of their clients on the same stream; they get their answer.
    Raises BadAnswerError, UnreachableError, or TimeoutError when such an answer does not arrive.
    """
    method = "subscriptions/listen"
    if peer.era == "modern":
        call = modern_call(method, method, _SUBSCRIBED, protocol=peer.protocol or "")
        messages = wire.listen(call.headers, call)
    else:
        messages = wire.listen(legacy_headers(peer.protocol), None)
    async with aclosing(messages):
        async for raw in messages:
            decoded = parse(raw)
            for message in decoded if isinstance(decoded, list) else [decoded]:
                if not isinstance(message, dict):
                    continue
                name = message.get("method")
                if isinstance(name, str) and name in _CHANGED:
                    yield _CHANGED[name]
                elif name is not None and message.get("id") is not None and peer.era == "legacy":
                    await _reply(wire, peer, message["id"], name)


async def _reply(wire: Wire, peer: Peer, request_id: Any, method: Any) -> None:
    """Answer a ping with a pong, and refuse anything else."""
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id}
    if method == "ping":
        reply["result"] = {}
    else:
        reply["error"] = {"code": METHOD_NOT_FOUND, "message": "this client only probes"}
    async with asyncio.timeout(_REPLY_SECONDS):
        await wire.notify(orjson.dumps(reply), legacy_headers(peer.protocol))
