"""Two servers of one name: calls go to one of them alone, and everybody is told."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from tests.facade.gateway.conftest import list_it
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import Client
from tests.stores.waiting import until

PATH = "/gateway/gate/mcp"
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "find"}}


def calling_itself(name: str, *tools: str) -> dict[str, Any]:
    protocol = {"versions": ["2026-07-28"], "era": "modern", "serverInfo": {"name": name}}
    return {"protocol": protocol, "capabilities": {"tools": tools or ("find",)}}


async def shares(
    gate: Client, *servers: FaultyServer, headers: Mapping[str, str] | None = None
) -> list[bool]:
    """Whether each of ``servers`` gets any of 20 calls."""
    before = [len(each.requests) for each in servers]
    for _ in range(20):
        assert (await gate("POST", PATH, CALL, headers=headers or {})).status == 200
    return [len(each.requests) > known for each, known in zip(servers, before, strict=True)]


async def test_calls_go_to_the_server_that_has_the_name_and_never_to_the_other(
    gate: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async with faulty() as one, faulty() as two:
        with caplog.at_level(logging.WARNING):
            await list_it(gate, "cpp-1", one.url, **calling_itself("C++ Docs"))
            await list_it(gate, "cs-1", two.url, **calling_itself("C# Docs"))
            assert await shares(gate, one, two) == [True, False]

            async def said() -> bool:
                return "2 servers share the name gate" in caplog.text

            await until(said, timeout=5, what="the warning")
        assert caplog.text.count("share the name gate") == 1
        assert "cpp-1 calls itself 'C++ Docs' and cs-1 'C# Docs'" in caplog.text
        assert b"mcp_discovery_shared_names 1.0" in (await gate("GET", "/metrics")).body
        (told,) = (await gate("GET", "/servers?explain=true")).json["namesakes"]
        assert told["servers"] == [["cpp-1"], ["cs-1"]]
        assert "C# Docs" in told["why"]

        # What the first one was asked is not the other's to answer, even while it is down.
        body = {"status": "down", "reason": "killed"}
        assert (await gate("POST", "/servers/cpp-1/heartbeat", body)).status == 200
        reply = await gate("POST", PATH, CALL)
        assert reply.status == 503
        assert "cs-1 has the same name and is another server" in reply.json["error"]["message"]
        assert (await gate("DELETE", "/servers/cpp-1")).status == 204
        assert await shares(gate, one, two) == [False, True]
        assert (await gate("GET", "/servers?explain=true")).json["namesakes"] == []


async def test_replicas_of_two_versions_are_one_server_and_a_new_tool_is_found(
    gate: Client,
) -> None:
    async with faulty() as one, faulty() as two:
        await list_it(gate, "v1", one.url, **calling_itself("Docs", "find"))
        await list_it(gate, "v2", two.url, **calling_itself("Docs", "find", "fetch"))
        assert await shares(gate, one, two) == [True, True]
        for_new = {"Mcp-Method": "tools/call", "Mcp-Name": "fetch"}
        assert await shares(gate, one, two, headers=for_new) == [False, True]
