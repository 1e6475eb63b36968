"""Callers that may call some of what a server of others offers, through the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
from mcp import Client as McpClient
from mcp import MCPError
from mcp.client.client import ConnectMode
from mcp.client.streamable_http import streamable_http_client

from tests.facade.access.tokens import bearer, guarded
from tests.facade.harness import Client, leased
from tests.foreign.recorder import recorded
from tests.foreign.servers import SERVERS
from tests.foreign.servers import running as foreign

#: One on each SDK, and one that keeps no sessions.
TRIED = ("everything", "mcp-proxy-stateless", "fastmcp-4", "mcp-go", "go-sdk")
BY_NAME = {each.name: each for each in SERVERS}
ERAS: tuple[ConnectMode, ...] = ("auto", "legacy")


def rules(**parts: Any) -> dict[str, Any]:
    """A file in which ``employee`` may call these parts of ``gate``, and ``operator`` all."""
    return {
        "roles": {
            "employee": "some",
            "operator": "read call register",
            **dict.fromkeys(("manager", "admin", "reader", "registrar"), ""),
        },
        "scopes": {"some": {"verbs": ["call"], "names": ["gate"], **parts}},
    }


async def offered(url: str) -> tuple[list[str], list[str], list[str]]:
    """The names of what a server has: tools, resources and prompts."""
    async with McpClient(url, mode="legacy") as mcp:
        tools = [each.name for each in (await mcp.list_tools()).tools]
        has = mcp.server_capabilities
        resources = (await mcp.list_resources()).resources if has.resources else []
        prompts = (await mcp.list_prompts()).prompts if has.prompts else []
    return tools, [str(each.uri) for each in resources], [each.name for each in prompts]


async def listed(ask: Client, url: str, tools: list[str]) -> None:
    body = leased("a", name="gate", url=url, capabilities={"tools": tools})
    assert (await ask("POST", "/servers", body, headers=bearer("operator"))).status == 201


@pytest.mark.parametrize("name", TRIED)
async def test_a_part_of_it_is_all_there_is(name: str, tmp_path: Path) -> None:
    async with (
        foreign(BY_NAME[name], tmp_path) as process,
        recorded(process.url) as (url, recorder),
    ):
        tools, resources, prompts = await offered(process.url)
        mine, others = tools[:1], tools[1:] or ["no_such_tool"]
        parts = {"tools": mine, "resources": resources[:1], "prompts": prompts[:1]}
        async with guarded(tmp_path, rules(**parts), gateway=True) as ask:
            await listed(ask, url, tools)
            for mode in ERAS:
                http = httpx2.AsyncClient(headers=bearer("employee"), timeout=30)
                gate = streamable_http_client(f"{ask.url}/gateway/gate/mcp", http_client=http)
                async with http, McpClient(gate, mode=mode) as mcp:
                    assert [each.name for each in (await mcp.list_tools()).tools] == mine
                    if resources:
                        found = (await mcp.list_resources()).resources
                        assert [str(each.uri) for each in found] == resources[:1]
                        assert (await mcp.read_resource(resources[0])).contents
                    if prompts:
                        named = (await mcp.list_prompts()).prompts
                        assert [each.name for each in named] == prompts[:1]
                    asked = recorder.methods()
                    with pytest.raises(MCPError, match="Unknown tool"):
                        await mcp.call_tool(others[0], {})
                    with pytest.raises(MCPError, match="not found"):
                        await mcp.read_resource((resources[1:] or ["file:///x"])[0])
                    with pytest.raises(MCPError, match="Unknown prompt"):
                        await mcp.get_prompt((prompts[1:] or ["no_such_prompt"])[0])
                    assert recorder.methods() == asked


async def said(url: str, body: str, headers: Mapping[str, str]) -> tuple[int, str]:
    accepts = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, data=body, headers={**accepts, **headers}) as reply,
    ):
        return reply.status, await reply.text()


@pytest.mark.parametrize("name", ["mcp-go", "everything"])
async def test_what_some_servers_read_in_another_way_never_reaches_them(
    name: str, tmp_path: Path
) -> None:
    """A member in other letters, or twice: Go takes the last one, whatever its letters."""
    async with (
        foreign(BY_NAME[name], tmp_path) as process,
        recorded(process.url) as (url, recorder),
    ):
        tools = (await offered(process.url))[0]
        mine, other = (tools[0], tools[1]) if len(tools) > 1 else (tools[0], "another")
        call = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"MINE"MORE}LAST}'
        bodies = [
            call.replace("MINE", mine).replace("MORE", more).replace("LAST", last)
            for more, last in (
                (f',"Name":"{other}"', ""),
                (f',"NAME":"{other}"', ""),
                (f',"name":"{other}"', ""),
                ("", f',"Params":{{"name":"{other}"}}'),
            )
        ]
        async with guarded(tmp_path, rules(tools=[mine]), gateway=True) as ask:
            await listed(ask, url, tools)
            for body in bodies:
                status, text = await said(f"{ask.url}/gateway/gate/mcp", body, bearer("employee"))
                assert status == 400, text
        assert not recorder.requests
