"""``call_tool`` over the client library: what servers say arrives, and what fails is told in words
that a client of ``/mcp`` can act upon."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client as McpClient
from mcp.shared.exceptions import MCPError

from tests.facade.harness import Client, served
from tests.facade.mcp.wire import Legacy, message, modern
from tests.mcp_discovery.client.verbatim import VerbatimServer, failed, result, verbatim

MODES = ("legacy", "2026-07-28")
MIB = 2**20


@asynccontextmanager
async def calling(
    form: str = "json", **options: Any
) -> AsyncIterator[tuple[Client, VerbatimServer]]:
    """A facade that calls tools, and in its list a server whose answers are given."""
    async with verbatim(form) as server, served(mcp_call_tool=True, **options) as ask:
        body = {"id": "a", "name": "verbatim", "url": server.url}
        assert (await ask("POST", "/servers", body)).status == 201
        await ask.until_status("a", "healthy")
        yield ask, server


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", [-32000, -32001, -32601, -32602, -32700, -32022, -32042, 0, 404])
async def test_a_servers_own_error_arrives(mode: str, code: int) -> None:
    error = {"code": code, "message": "so it is", "data": {"n": 2**70}}
    async with calling() as (ask, server), McpClient(f"{ask.url}/mcp", mode=mode) as client:
        server.answer = lambda id: failed(id, json.dumps(error))
        with pytest.raises(MCPError) as raised:
            await client.call_tool("call_tool", {"name": "say"})
        said = raised.value
        assert (said.code, said.message, said.data) == (code, "so it is", {"n": 2**70})
        assert server.calls == ["say"]


async def test_no_status_is_derived_from_a_servers_code() -> None:
    async with calling() as (ask, server):
        server.answer = lambda id: failed(id, '{"code": -32601, "message": "no such method"}')
        reply = await modern(ask, "tools/call", {"name": "call_tool", "arguments": {"name": "say"}})
        assert (reply.status, reply.json["error"]["code"]) == (200, -32601)


async def sentence(ask: Client, **arguments: Any) -> str:
    """What is said of a call that fails."""
    reply = await modern(ask, "tools/call", {"name": "call_tool", "arguments": arguments})
    assert reply.json["result"]["isError"], reply.json
    return str(reply.json["result"]["content"][0]["text"])


@pytest.mark.parametrize("form", ["json", "events"])
async def test_large_answers(form: str) -> None:
    async with calling(form, mcp_max_answer_bytes=4 * MIB) as (ask, server):
        server.answer = lambda id: result(id, "x" * 3 * MIB)
        call = {"name": "call_tool", "arguments": {"name": "say"}}
        reply = await modern(ask, "tools/call", call)
        assert len(reply.json["result"]["content"][0]["text"]) == 3 * MIB
        server.answer = lambda id: result(id, "x" * 5 * MIB)
        said = await sentence(ask, name="say")
        assert "the answer is over 4 MiB; ask for less, or connect to it directly" in said
        assert "max_answer" not in said


async def test_why_a_tool_that_exists_cannot_be_had() -> None:
    async with calling() as (ask, server):
        for name, words in (
            ("verbatin", "no server 'verbatin' was found (did you mean 'verbatim'?)"),
            ("nobody", "no server 'nobody' was found; it is offered by verbatim"),
        ):
            said = await sentence(ask, name="say", server=name)
            assert words in said
            assert "did you mean 'say'" not in said
        said = await sentence(ask, name="sag", server="verbatim")
        assert "'verbatim' does not offer it; did you mean 'say'?" in said
        server.status = 401
        said = await sentence(ask, name="say")
        assert "it wants other credentials (HTTP 401" in said
        assert "connect to it directly" in said
        assert "auth option" not in said


@pytest.mark.parametrize("mode", MODES)
async def test_a_request_over_the_limit_is_told_the_limit(mode: str) -> None:
    async with calling() as (ask, server), McpClient(f"{ask.url}/mcp", mode=mode) as client:
        arguments = {"name": "say", "arguments": {"text": "x" * 5 * MIB}}
        with pytest.raises(MCPError, match=r"over the limit of 1,048,576 bytes; send less"):
            await client.call_tool("call_tool", arguments)
        assert not server.calls
        assert (await client.list_tools()).tools


@pytest.mark.parametrize("first", ["id", "method"])
async def test_a_request_over_the_limit_is_answered_with_its_id(first: str) -> None:
    """With a status of its own the SDK 1.x would end the whole session."""
    async with served() as ask:
        client = await Legacy.begun(ask)
        body = message(
            "tools/call", {"name": "find_tools", "arguments": {"q": "x" * 2 * MIB}}, id=9
        )
        order = sorted(body, key=lambda name: name != first)
        reply = await client.send({name: body[name] for name in order})
        assert (reply.status, reply.json["id"]) == (200, 9)
        assert "1,048,576 bytes" in reply.json["error"]["message"]
