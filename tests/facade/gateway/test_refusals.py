"""What the gateway cannot pass on, in words that MCP clients understand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.document import CapabilityDocument
from tests.facade.gateway.conftest import list_it
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import Client, Reply, leased, served
from tests.programs import facade
from tests.records import record
from tests.stores.waiting import bounded

PATH = "/gateway/gate/mcp"
CALL = {"jsonrpc": "2.0", "id": "mine", "method": "tools/call", "params": {"name": "x"}}
NOWHERE = "http://127.0.0.1:9/mcp"
SESSION = "Mcp-Session-Id"


def refused(reply: Reply, status: int, kind: str, id: Any = "mine") -> str:
    """Checks a JSON-RPC error; returns its message."""
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"].startswith("application/json")
    told = reply.json
    assert (told["jsonrpc"], told["id"]) == ("2.0", id)
    assert told["error"]["code"] == (-32600 if status < 500 else -32603)
    assert told["error"]["data"]["type"] == f"urn:mcp-discovery:problem:{kind}"
    assert told["error"]["data"]["status"] == status
    message: str = told["error"]["message"]
    return message


async def test_it_is_off_unless_it_is_asked_for(ask: Client) -> None:
    await list_it(ask, "a", NOWHERE)
    for method in ("POST", "GET", "DELETE"):
        reply = await ask(method, PATH)
        assert reply.status == 404
        assert "start the facade with --gateway" in reply.json["detail"]


async def test_the_command_has_it_from_its_environment(tmp_path: Path) -> None:
    async with (
        facade(tmp_path, "embedded:", MCP_DISCOVERY_GATEWAY="1") as one,
        aiohttp.ClientSession() as session,
        session.post(one.url + PATH, json=CALL) as reply,
    ):
        assert (await reply.json())["error"]["data"]["type"].endswith(":unknown-server")


async def test_pages_of_other_origins_may_not_ask(gate: Client) -> None:
    """Its Host makes a server's own protection from DNS rebinding useless behind a gateway."""
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "http://evil.example", "Host": "evil.example"},
        {"Origin": "null"},
    ):
        status = 421 if "Host" in headers else 403
        for method in ("POST", "GET", "DELETE"):
            reply = await gate(method, PATH, CALL, headers=headers)
            assert reply.status == status
            assert "--cors-origin" in reply.json["detail"] or status == 421


async def test_nobody_to_ask(gate: Client) -> None:
    message = refused(await gate("POST", PATH, CALL), 404, "unknown-server")
    assert "no server called 'gate'" in message
    reply = await gate("GET", PATH)
    assert reply.headers["Content-Type"].startswith("application/problem+json")

    for transport, url in (("sse", "http://127.0.0.1:9/sse"), ("websocket", "ws://127.0.0.1:9/ws")):
        await gate("POST", "/servers", leased(transport, name="old", url=url, transport=transport))
    message = refused(await gate("POST", "/gateway/old/mcp", CALL), 501, "not-passed-on")
    assert "'old' is reached over sse, websocket" in message

    down = {"status": "down", "reason": "it fell asleep"}
    await list_it(gate, "a", NOWHERE, health=down)
    reply = await gate("POST", PATH, CALL)
    assert "a is down: it fell asleep" in refused(reply, 503, "no-replica")
    assert reply.headers["Retry-After"]
    await gate("POST", "/servers/a/drain")
    refused(await gate("POST", PATH, CALL), 503, "no-replica")


async def test_nobody_is_reached(gate: Client) -> None:
    await list_it(gate, "a", NOWHERE)
    message = refused(await gate("POST", PATH, CALL), 502, "not-reached")
    assert "connection refused" in message
    assert (await gate("GET", PATH)).json["type"].endswith(":not-reached")
    # Without an id that could be read there is none in the answer.
    for body in (b"", b"no JSON", b"[]", b'{"id": {}}'):
        refused(await gate("POST", PATH, body), 502, "not-reached", id=None)
    large = CALL | {"params": {"name": "x" * 200_000}}  # of which only the beginning is buffered
    refused(await gate("POST", PATH, large), 502, "not-reached")
    async with faulty() as server:
        await list_it(gate, "b", server.url)
        for _ in range(20):
            assert (await gate("POST", PATH, CALL)).json == CALL
    # Also what is too large to be kept: nothing of it has been read when the other one is asked.
    async with faulty() as server:
        await list_it(gate, "c", server.url)
        for _ in range(20):
            assert (await gate("POST", PATH, b"x" * 300_000)).body == b"x" * 300_000


async def test_no_answer_in_time() -> None:
    async with served(gateway=True, gateway_timeout=0.2) as gate, faulty() as server:

        async def never(_: web.Request) -> web.Response:
            await asyncio.Event().wait()
            raise AssertionError

        server.handler = never
        await list_it(gate, "a", server.url)
        message = refused(await gate("POST", PATH, CALL), 504, "no-answer")
        assert "did not begin to answer within 0.2 s" in message
        await bounded(server.left.wait(), 5)


async def test_what_broke_before_an_answer_is_not_sent_again(
    gate: Client, server: FaultyServer
) -> None:
    async def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.handler = cut
    async with faulty() as other:
        other.handler = cut
        await list_it(gate, "b", other.url)
        message = refused(await gate("POST", PATH, CALL), 502, "broken-off")
        assert "whether it took the request in is not known" in message
        assert len(server.requests) + len(other.requests) == 1


@pytest.mark.parametrize("session", ["whatever", "b.x", ".x", "a.", "A b.x", "other.x"])
async def test_sessions_of_nobody(gate: Client, server: FaultyServer, session: str) -> None:
    await gate("POST", "/servers", leased("other", name="else", url=server.url))
    for method in ("POST", "GET", "DELETE"):
        reply = await gate(method, PATH, CALL, headers={SESSION: session})
        assert reply.status == 404
    assert server.requests == []


async def test_a_session_is_known_to_every_facade_and_after_a_restart() -> None:
    async with EmbeddedStore() as store, faulty() as server, faulty() as other:

        async def begin(request: web.Request) -> web.Response:
            return web.Response(text="{}", headers={SESSION: "its.own-1"})

        async with served(store, gateway=True) as one:
            await list_it(one, "a", server.url)
            server.handler = begin
            given = (await one("POST", PATH, CALL)).headers[SESSION]
            assert given == "a.its.own-1"
            await list_it(one, "b", other.url)
        async with served(store, gateway=True) as two:
            for method in ("POST", "GET", "DELETE"):
                assert (await two(method, PATH, headers={SESSION: given})).status == 200
        assert {each.headers.get(SESSION) for each in server.requests[1:]} == {"its.own-1"}
        assert len(server.requests) == 4
        assert other.requests == []


async def test_a_session_of_one_that_is_down_is_over(gate: Client) -> None:
    given = {SESSION: "a.x"}
    await list_it(gate, "a", NOWHERE)
    refused(await gate("POST", PATH, CALL, headers=given), 502, "not-reached")
    await gate("POST", "/servers/a/heartbeat", {"status": "down", "reason": "gone"})
    refused(await gate("POST", PATH, CALL, headers=given), 404, "session-over")


async def test_versions(gate: Client, server: FaultyServer) -> None:
    assert (await gate("POST", f"{PATH}?version=^1.2", CALL)).status == 200
    message = refused(await gate("POST", f"{PATH}?version=^2", CALL), 404, "no-such-version")
    assert "there are 1.2.3" in message
    assert (await gate("POST", f"{PATH}?version=nonsense", CALL)).status == 400
    assert (await gate("POST", f"{PATH}?name=other", CALL)).status == 400


@pytest.mark.slow
async def test_too_large_and_too_slow(server: FaultyServer, gate: Client) -> None:
    headers = {"Content-Length": str(65 * 2**20), "Expect": "100-continue"}
    headers["Content-Type"] = "application/json"
    reply = await gate("POST", PATH, headers=headers)
    refused(reply, 413, "body-too-large", id=None)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 2**18

    async def swallow(request: web.Request) -> web.Response:
        async for _ in request.content.iter_any():
            pass
        return web.Response()

    server.handler = swallow
    refused(
        await gate("POST", PATH, data=endless(), headers={"Content-Type": "application/json"}),
        413,
        "body-too-large",
        id=None,
    )


async def test_a_body_that_stops() -> None:
    async with served(gateway=True, body_timeout=0.3) as gate:
        await list_it(gate, "a", NOWHERE)

        async def stopping() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        async with asyncio.timeout(5):
            reply = await gate(
                "POST", PATH, data=stopping(), headers={"Content-Type": "application/json"}
            )
        refused(reply, 408, "slow-body", id=None)


async def test_a_loop_is_refused(gate: Client) -> None:
    await list_it(gate, "a", gate.url + PATH)
    reply = await gate("POST", PATH, CALL)
    assert "no server's" in refused(reply, 508, "loop")
    assert (await gate("GET", PATH)).status == 508
    async with served(gateway=True) as other:
        await list_it(other, "b", gate.url + PATH)
        refused(await other("POST", PATH, CALL), 508, "loop")
    # Nor does it pass for a server: what probes it is a facade.
    posted = {"id": "p", "name": "gate", "url": gate.url + PATH}
    await gate("POST", "/servers", posted)
    entry = (await gate("GET", "/servers/p")).json
    assert entry["status"] != "healthy", entry


async def test_what_is_never_dialled() -> None:
    url = "http://169.254.169.254/latest"
    async with EmbeddedStore() as store, served(store, gateway=True) as ask:
        there = record("meta", name="meta", endpoint={"url": url})  # by whoever writes to the store
        await store.register(there, CapabilityDocument(), ttl=60, reap_after=60)
        await ask.until_status("meta", "healthy")
        message = refused(await ask("POST", "/gateway/meta/mcp", CALL), 502, "not-reached")
        assert "not allowed (link-local)" in message
