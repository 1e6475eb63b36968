"""A client of ``/mcp`` that runs with either generation of the MCP SDK, in a process of its own.

``python client_program.py URL MODE`` prints one JSON object in each line: what it was told, then
``ready`` once it has subscribed, then what it hears until it has heard of both the list and the
subscribed server. ``MODE`` is ``auto``, ``legacy`` or a version for the SDK 2.x, ``1.x`` else.
"""

import asyncio
import json
import sys
from typing import Any

TOOL = ("find_tools", {"q": "product", "detail": "full"})
LIST = "mcp-discovery://servers"
WATCHED = "mcp-discovery://servers/watched"
UPDATED = "notifications/resources/updated"
CHANGED = "notifications/resources/list_changed"


def say(what: str, value: Any) -> None:
    """One line to the test."""
    print(json.dumps({"what": what, "value": value}), flush=True)


class Heard:
    """The notifications, until there was each kind of them."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self.all = asyncio.Event()

    def note(self, method: str, uri: Any = None) -> None:
        say("heard", [method, None if uri is None else str(uri)])
        self._kinds.add(method)
        if self._kinds == {UPDATED, CHANGED}:
            self.all.set()


async def first(url: str) -> None:
    """With the SDK 1.x."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client  # type: ignore[attr-defined]

    heard = Heard()

    async def handle(message: Any) -> None:
        notification = getattr(message, "root", None)
        if notification is not None and hasattr(notification, "method"):
            heard.note(notification.method, getattr(notification.params, "uri", None))

    async with (
        streamablehttp_client(url) as (reading, writing, session_id),
        ClientSession(reading, writing, message_handler=handle) as session,
    ):
        told = await session.initialize()
        say("version", told.protocolVersion)  # type: ignore[attr-defined]
        say("server", told.serverInfo.name)  # type: ignore[attr-defined]
        say("session", bool(session_id()))
        await session.send_ping()
        say("tools", [tool.name for tool in (await session.list_tools()).tools])
        result = await session.call_tool(*TOOL)
        say("found", result.structuredContent)  # type: ignore[attr-defined]
        resources = (await session.list_resources()).resources
        say("resources", [str(each.uri) for each in resources])
        say("read", (await session.read_resource(LIST)).contents[0].text)  # type: ignore
        await session.subscribe_resource(WATCHED)
        say("ready", None)
        async with asyncio.timeout(20):
            await heard.all.wait()
    say("closed", None)


async def second(url: str, mode: str) -> None:
    """With the SDK 2.x."""
    from mcp import Client
    from mcp.shared.subscriptions import ResourceUpdated

    heard = Heard()

    async def handle(message: Any) -> None:
        if hasattr(message, "method"):
            heard.note(message.method, getattr(message.params, "uri", None))

    async with Client(url, mode=mode, message_handler=handle) as client:
        say("version", client.protocol_version)
        say("server", client.server_info.name if client.server_info else None)
        say("tools", [tool.name for tool in (await client.list_tools()).tools])
        result = await client.call_tool(*TOOL)
        say("found", result.structured_content)
        resources = (await client.list_resources()).resources
        say("resources", [each.uri for each in resources])
        content: Any = (await client.read_resource(LIST)).contents[0]
        say("read", content.text)
        if mode == "legacy":
            await client.send_ping()
            await client.subscribe_resource(WATCHED)
            say("ready", None)
            async with asyncio.timeout(20):
                await heard.all.wait()
        else:
            async with client.listen(
                resources_list_changed=True, resource_subscriptions=[WATCHED]
            ) as told:
                say("ready", None)
                async with asyncio.timeout(20):
                    async for event in told:
                        is_update = isinstance(event, ResourceUpdated)
                        heard.note(UPDATED if is_update else CHANGED, getattr(event, "uri", None))
                        if heard.all.is_set():
                            break
    say("closed", None)


if __name__ == "__main__":
    asyncio.run(first(sys.argv[1]) if sys.argv[2] == "1.x" else second(*sys.argv[1:3]))
