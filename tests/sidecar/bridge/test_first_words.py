"""Which era a process is spoken to in, and which version, inside and outside."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp
import pytest
from mcp import Client
from mcp_types import ElicitResult

from mcp_discovery.mcp_messages import CAPABILITIES_KEY, VERSION_KEY
from tests.sidecar.bridge.served import called, served
from tests.stores.waiting import bounded

pytestmark = pytest.mark.slow

ONE_ERA = (sys.executable, "-m", "tests.sidecar.bridge.one_era_server")
DUAL = (sys.executable, "-m", "tests.sidecar.bridge.dual_era_server")


async def elicited(context: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": "Ann"})


def posted(method: str, version: str, params: Any = None) -> dict[str, Any]:
    """The body and the headers of a modern request."""
    meta = {VERSION_KEY: version, CAPABILITIES_KEY: {}}
    accept = "application/json, text/event-stream"
    return {
        "json": {
            "jsonrpc": "2.0",
            "id": "a",
            "method": method,
            "params": {**(params or {}), "_meta": meta},
        },
        "headers": {"MCP-Protocol-Version": version, "Mcp-Method": method, "Accept": accept},
    }


@pytest.mark.parametrize(
    ("era", "manner"),
    [("legacy", "dies"), ("legacy", "silent"), ("legacy", "old"), ("modern", "late")],
)
async def test_however_it_begins(era: str, manner: str) -> None:
    async with served(*ONE_ERA, era, manner) as one:
        assert one.bridge.spoken().greeting.era == era
        assert one.bridge.restarts == 0
        for mode in ("auto", "legacy"):
            async with Client(one.url, mode=mode) as client:
                assert len((await client.list_tools()).tools) == 9


async def test_a_process_of_both_eras_asks_each_client_in_its_era() -> None:
    async with served(*DUAL) as one:
        assert one.bridge.spoken().greeting.is_modern
        processes = set()
        for mode in ("auto", "legacy"):
            async with Client(one.url, mode=mode) as client:
                processes.add(await called(client, "process"))
        assert len(processes) == 1, "clients that cannot be asked share the process"
        async with Client(one.url, mode="legacy", elicitation_callback=elicited) as client:
            found = await bounded(client.call_tool("ask", {}), 10)
            assert found.content[0].text == "Ann"  # type: ignore[union-attr]


async def test_a_process_that_is_silent_in_the_era_of_its_client() -> None:
    async with served(*ONE_ERA, "modern", "silent") as one:
        for _ in range(2):
            async with Client(one.url, mode="legacy", elicitation_callback=elicited) as client:
                assert len((await client.list_tools()).tools) == 9
        assert one.bridge.modern_alone


async def test_a_later_version_passes_where_the_process_knows_it() -> None:
    async with aiohttp.ClientSession() as http:
        async with served(*ONE_ERA, "modern", "later") as one:
            async with http.post(one.url, **posted("tools/list", "2027-05-01")) as answer:
                assert answer.status == 200
            async with http.post(one.url, **posted("tools/list", "2028-01-01")) as answer:
                error = (await answer.json())["error"]
                assert (answer.status, error["code"]) == (400, -32022)
                assert error["data"]["supported"] == ["2026-07-28", "2027-05-01"]
        async with served(*ONE_ERA, "modern", "newest") as one:
            assert one.bridge.spoken().greeting.protocol == "2027-05-01"
            async with http.post(one.url, **posted("tools/list", "2026-07-28")) as answer:
                assert (await answer.json())["error"]["data"]["supported"] == ["2027-05-01"]
            async with Client(one.url, mode="legacy") as client:
                assert len((await client.list_tools()).tools) == 9


@pytest.mark.parametrize("era", ("legacy", "modern"))
async def test_what_an_era_does_not_have_is_refused_by_its_name(era: str) -> None:
    async with served(*ONE_ERA, era) as one, aiohttp.ClientSession() as http:
        async with http.post(one.url, **posted("vendor/own", "2026-07-28")) as answer:
            found = await answer.json()
        if era == "modern":
            assert found["result"]["own"] is True
        else:
            assert (answer.status, found["error"]["code"]) == (404, -32601)
            assert found["error"]["message"] == (
                "'vendor/own' cannot be said to this server, which speaks MCP of the legacy era"
            )
        session = await begun(http, one.url, "2025-11-25")
        body = {"jsonrpc": "2.0", "method": "vendor/own", "id": 1}
        async with http.post(one.url, json=body, headers=session) as answer:
            found = await answer.json()
        if era == "legacy":
            assert found["result"]["own"] is True
        else:
            assert (answer.status, found["error"]["code"]) == (200, -32601)
            assert found["error"]["message"].endswith("which speaks MCP of the modern era")


async def begun(http: aiohttp.ClientSession, url: str, version: str) -> dict[str, str]:
    """The headers of a new session, whose client speaks ``version``."""
    client = {"capabilities": {}, "clientInfo": {"name": "by hand", "version": "1"}}
    params = {"protocolVersion": version, **client}
    body = {"jsonrpc": "2.0", "method": "initialize", "id": 1, "params": params}
    accept = {"Accept": "application/json, text/event-stream"}
    async with http.post(url, json=body, headers=accept) as answer:
        assert (await answer.json())["result"]["protocolVersion"] == version
        return {**accept, "Mcp-Session-Id": answer.headers["Mcp-Session-Id"]}


async def test_a_client_of_batches() -> None:
    for era in ("legacy", "modern"):
        async with served(*ONE_ERA, era) as one, aiohttp.ClientSession() as http:
            session = await begun(http, one.url, "2025-03-26")
            batch = [
                {"jsonrpc": "2.0", "method": "notifications/initialized"},
                {"jsonrpc": "2.0", "method": "tools/list", "id": 2},
                {"jsonrpc": "2.0", "method": "ping", "id": 3},
            ]
            async with http.post(one.url, json=batch, headers=session) as answer:
                found = {each["id"]: each for each in await answer.json()}
            assert found[3]["result"] == {} and len(found[2]["result"]["tools"]) == 9


@pytest.mark.parametrize("era", ("legacy", "modern"))
async def test_arguments_that_stand_in_headers(era: str) -> None:
    async with served(*ONE_ERA, era) as one, aiohttp.ClientSession() as http:
        async with Client(one.url) as client:
            await client.list_tools()
            assert "west" in str(await called(client, "seen", region="west"))
        call = {"name": "seen", "arguments": {"region": "west"}}
        for region, code in (("west", None), ("east", -32020)):
            seen = posted("tools/call", "2026-07-28", call)
            seen["headers"] |= {"Mcp-Name": "seen", "Mcp-Param-Region": region}
            async with http.post(one.url, **seen) as answer:
                assert answer.status == (200 if code is None else 400)
                assert (await answer.json()).get("error", {}).get("code") == code


async def test_a_probe_asks_the_process_once() -> None:
    async with served(*ONE_ERA, "legacy") as one, aiohttp.ClientSession() as http:
        for _ in range(3):
            async with http.post(one.url, **posted("server/discover", "2026-07-28")) as answer:
                found = (await answer.json())["result"]
                assert found["supportedVersions"] == ["2026-07-28"]
                assert (found["resultType"], found["ttlMs"]) == ("complete", 0)
        call = {"name": "seen", "arguments": {}}
        seen = posted("tools/call", "2026-07-28", call)
        seen["headers"]["Mcp-Name"] = "seen"
        async with http.post(one.url, **seen) as answer:
            text = str(await answer.json())
        assert text.count('["ping"') == 3
        one.bridge.signal(19)  # SIGSTOP: it does not answer
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await http.post(one.url, **posted("server/discover", "2026-07-28"))
        finally:
            one.bridge.signal(18)
