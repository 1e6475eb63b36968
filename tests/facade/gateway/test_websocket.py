"""MCP over a WebSocket through the gateway: the SDK's clients in both eras, and hostile ones."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from mcp import Client as McpClient
from mcp.client.client import ConnectMode
from mcp_types import ElicitResult
from yarl import URL

from mcp_discovery.client.attempt import Exchanges
from mcp_discovery.client.streams import websocket_transport
from mcp_discovery.websocket_front import conversation
from mcp_discovery.websocket_front.conversation import MOST_REQUESTS
from tests.facade.gateway.conftest import list_it, replicas, seen
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import Client, leased, served
from tests.servers.process import McpServer, sdk
from tests.stores.waiting import bounded, until

ERAS: tuple[ConnectMode, ...] = ("auto", "legacy")
PATH = "/gateway/gate/mcp"
#: What makes a request one of the modern era.
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}


def address(ask: Client, path: str = PATH) -> str:
    return f"{ask.url.replace('http', 'ws', 1)}{path}"


def over_socket(ask: Client, mode: ConnectMode = "auto", **more: Any) -> McpClient:
    """The SDK's client, whose messages go over a WebSocket."""
    transport = websocket_transport(address(ask), None, Exchanges(), limit=2**26)
    return McpClient(transport, mode=mode, **more)


@asynccontextmanager
async def plain_socket(
    ask: Client, path: str = PATH, **more: Any
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A socket without anything of MCP."""
    given: dict[str, Any] = {"protocols": ("mcp",), "max_msg_size": 0, **more}
    async with aiohttp.ClientSession() as http, http.ws_connect(address(ask, path), **given) as ws:
        yield ws


async def told(ws: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    frame = await bounded(ws.receive(), 10)
    assert frame.type is aiohttp.WSMsgType.TEXT, frame
    message: dict[str, Any] = orjson.loads(frame.data)
    return message


async def who(mcp: McpClient) -> str:
    result = await mcp.call_tool("whoami", {})
    assert not result.is_error
    text: str = result.content[0].text  # type: ignore[union-attr]
    return text


@pytest.mark.parametrize("mode", ERAS)
async def test_tools_are_listed_and_called(gate: Client, mode: ConnectMode) -> None:
    async with replicas(gate, "a"), over_socket(gate, mode) as mcp:
        assert "whoami" in [each.name for each in (await mcp.list_tools()).tools]
        assert await who(mcp) == "a"
        text = "ü" * 1_500_000
        result = await mcp.call_tool("echo", {"text": text})
        assert result.content[0].text == text  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ERAS)
async def test_progress_comes_as_it_is_made(gate: Client, mode: ConnectMode) -> None:
    at: list[float] = []
    clock = asyncio.get_running_loop().time

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        at.append(clock())

    async with replicas(gate, "a"), over_socket(gate, mode) as mcp:
        await mcp.call_tool("steps", {"count": 4, "pause": 0.2}, progress_callback=progress)
        ended = clock()
    assert len(at) == 4
    assert ended - at[0] > 0.6


async def _counted(server: McpServer, key: str) -> None:
    async def so_far() -> bool:
        return key in (await seen(server))["counts"]

    await until(so_far, timeout=5, what=f"the call being {key}")


@pytest.mark.parametrize("mode", ERAS)
async def test_a_cancelled_call_is_cancelled_at_the_server(gate: Client, mode: ConnectMode) -> None:
    async with replicas(gate, "a") as servers, over_socket(gate, mode) as mcp:
        call = asyncio.create_task(mcp.call_tool("hang", {}))
        await _counted(servers["a"], "hanging")
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        await _counted(servers["a"], "cancelled")
        assert await who(mcp) == "a"


@pytest.mark.parametrize("mode", ERAS)
async def test_a_closed_socket_ends_everything_upstream(gate: Client, mode: ConnectMode) -> None:
    async with replicas(gate, "a") as servers:
        async with over_socket(gate, mode) as mcp:
            call = asyncio.create_task(mcp.call_tool("hang", {}))
            await _counted(servers["a"], "hanging")
            call.cancel()
        await _counted(servers["a"], "cancelled")
        if mode == "legacy":
            await _counted(servers["a"], "DELETE")
        page = (await gate("GET", "/metrics")).body
        assert b"mcp_discovery_gateway_requests 0.0" in page
        assert b"mcp_discovery_gateway_sockets 0.0" in page


async def test_a_legacy_session_stays_with_its_replica(gate: Client) -> None:
    async with replicas(gate, "a", "b") as servers, over_socket(gate, "legacy") as mcp:
        mine = await who(mcp)
        assert {await who(mcp) for _ in range(10)} == {mine}
        await servers[mine].kill()


async def test_fifty_at_once(gate: Client) -> None:
    async with replicas(gate, "a", "b") as servers, over_socket(gate) as mcp:

        async def call(number: int) -> None:
            text = f"{number}-" * 20_000
            result = await mcp.call_tool("echo", {"text": text})
            assert result.content[0].text == text  # type: ignore[union-attr]

        await asyncio.gather(*(call(number) for number in range(50)))
        counts = [(await seen(each))["counts"]["POST"] for each in servers.values()]
        assert min(counts) >= 15, counts


# -- what a server says by itself ------------------------------------------------------------------


async def test_what_a_legacy_server_asks_its_client(gate: Client) -> None:
    async def elicited(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"sure": True})

    mcp = over_socket(gate, "legacy", elicitation_callback=elicited)
    async with replicas(gate, "a"), mcp:
        result = await bounded(mcp.call_tool("confirm", {}), 10)
        assert result.content[0].text == "accept"  # type: ignore[union-attr]


async def test_what_a_modern_server_tells_its_listeners(gate: Client) -> None:
    async with sdk("--tools", "1") as server:
        await list_it(gate, "a", server.url)
        async with over_socket(gate) as mcp, mcp.listen(tools_list_changed=True) as changes:
            await server.offer_tools(2, notify=True)
            async with asyncio.timeout(5):
                async for _ in changes:
                    break
            assert len((await mcp.list_tools()).tools) == 2


async def test_what_a_legacy_server_tells_outside_of_a_call(
    gate: Client, server: FaultyServer
) -> None:
    server.handler = legacy()
    async with plain_socket(gate) as ws:
        await ws.send_json(call("initialize", protocolVersion="2025-11-25"))
        assert (await told(ws))["result"]["protocolVersion"] == "2025-11-25"
        await ws.send_json({"jsonrpc": "2.0", "method": "notifications/initialized"})
        heard = [(await told(ws))["method"] for _ in range(2)]
        assert heard == ["notifications/one", "notifications/two"]
        # The second stream resumed behind the first one.
        opened = [each for each in server.requests if each.method == "GET"]
        assert [each.headers.get("Last-Event-ID") for each in opened] == [None, "7"]
        assert {each.headers["Mcp-Session-Id"] for each in opened} == {"s1"}
        assert {each.headers["MCP-Protocol-Version"] for each in opened} == {"2025-11-25"}
        # An answer that comes by another stream than the request's.
        await ws.send_json(call("tools/call", "x", name="later"))
        assert (await told(ws))["result"] == {"resumed": True}
        await ws.send_json(call("initialize", 9))
        assert "has a session" in (await told(ws))["error"]["message"]

    async def ended() -> bool:
        return server.requests[-1].method == "DELETE"

    await until(ended, timeout=5, what="the session being ended")
    assert server.requests[-1].headers["Mcp-Session-Id"] == "s1"


def legacy() -> Any:
    """A handler with sessions, whose streams end again and again."""
    opened = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal opened
        if request.method == "DELETE":
            return web.Response(status=204)
        if request.method == "GET":
            after = request.headers.get("Last-Event-ID")
            if after == "later":
                return events(f"data: {orjson.dumps(result('x', resumed=True)).decode()}\n\n")
            opened += 1
            if opened == 1:
                return events('id: 7\ndata: {"jsonrpc":"2.0","method":"notifications/one"}\n\n')
            if opened == 2:
                return events('data: {"jsonrpc":"2.0","method":"notifications/two"}\n\n')
            return web.Response(status=405)
        body = await request.json()
        if body["method"] == "initialize":
            found = result(body["id"], protocolVersion="2025-11-25", capabilities={})
            return web.json_response(found, headers={"Mcp-Session-Id": "s1"})
        if "id" not in body:
            return web.Response(status=202)
        return events("id: later\ndata:\n\n")

    return answer


def events(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/event-stream")


def call(method: str, id: Any = 1, /, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def result(id: Any, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": members}


# -- the handshake ---------------------------------------------------------------------------------


async def refused(ask: Client, path: str = PATH, **more: Any) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        async with plain_socket(ask, path, **more):
            pass
    return error.value.status


async def test_handshakes_that_are_refused(gate: Client, server: FaultyServer) -> None:
    assert await refused(gate, protocols=()) == 400
    assert await refused(gate, protocols=("chat",)) == 400
    assert await refused(gate, origin="https://evil.example.com") == 403
    assert await refused(gate, "/gateway/gone/mcp") == 404
    assert await refused(gate, f"{PATH}?version=^9") == 404
    assert await refused(gate, f"{PATH}?colour=red") == 400
    assert await refused(gate, headers={"Host": "rebound.example.com"}) == 421
    assert await refused(gate, headers={"Via": "1.1 mcp-discovery"}) == 508
    other = leased("w", name="sockets", url="ws://127.0.0.1:9/ws", transport="websocket")
    assert (await gate("POST", "/servers", other)).status == 201
    assert await refused(gate, "/gateway/sockets/mcp") == 501
    reply = await gate("GET", PATH, headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    assert reply.status == 400
    assert "new WebSocket(url, 'mcp')" in reply.json["detail"]
    assert server.requests == []
    async with plain_socket(gate, origin=gate.url) as ws:
        assert ws.protocol == "mcp"
    async with served() as off:
        assert await refused(off) == 404


# -- hostile clients -------------------------------------------------------------------------------


async def test_frames_that_are_no_messages(gate: Client, server: FaultyServer) -> None:
    server.handler = answering
    async with plain_socket(gate) as ws:
        for text, code in (
            ("no JSON", -32700),
            ('"\xff', -32700),
            ("[" * 100_000, -32700),
            ("[]", -32600),
            (orjson.dumps([call("ping")]).decode(), -32600),
            ("{}", -32600),
            ('{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
            ('{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', -32600),
        ):
            await ws.send_str(text)
            reply = await told(ws)
            assert (reply["id"], reply["error"]["code"]) == (None, code)
        await ws.send_json(call("ping"))
        assert await told(ws) == result(1, method="ping")
    async with plain_socket(gate) as ws:
        await ws.send_bytes(orjson.dumps(call("ping")))
        closed = await bounded(ws.receive(), 5)
        assert (closed.data, closed.extra) == (1003, "a message of MCP is a text frame")
    async with plain_socket(gate) as ws:
        for _ in range(20):
            await ws.send_str("no JSON")
            await told(ws)
        assert (await bounded(ws.receive(), 5)).data == 1008


async def answering(request: web.Request) -> web.StreamResponse:
    """Answers any request with its method."""
    body = await request.json()
    if "id" not in body:
        return web.Response(status=202)
    return web.json_response(result(body["id"], method=body["method"]))


async def test_a_large_frame_of_many_values(gate: Client, server: FaultyServer) -> None:
    server.handler = answering
    async with plain_socket(gate) as ws:
        many = [0] * 1_000_001
        await ws.send_str(orjson.dumps(call("tools/call", numbers=many)).decode())
        assert "1,000,000 JSON values" in (await told(ws))["error"]["message"]
        text = ",[{" * 1_000_000
        await ws.send_str(orjson.dumps(call("tools/call", text=text)).decode())
        assert await told(ws) == result(1, method="tools/call")


@pytest.mark.slow
async def test_a_huge_frame_is_not_read(gate: Client, server: FaultyServer) -> None:
    async with plain_socket(gate) as ws:
        with suppress(ConnectionError):
            await ws.send_str("x" * (64 * 2**20 + 1))
        assert (await bounded(ws.receive(), 20)).data == 1009
    assert server.requests == []


@pytest.mark.slow
async def test_ten_thousand_tiny_frames(gate: Client, server: FaultyServer) -> None:
    server.handler = answering
    async with plain_socket(gate) as ws:

        async def send() -> None:
            for number in range(10_000):
                await ws.send_json(call("ping", number))

        sending = asyncio.create_task(send())
        answers = [await told(ws) for _ in range(10_000)]
        await sending
    assert {each["id"] for each in answers} == set(range(10_000))
    assert all(each["result"] == {"method": "ping"} for each in answers)


async def test_two_requests_of_one_id(gate: Client, server: FaultyServer) -> None:
    begun = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    server.handler = hang
    async with plain_socket(gate) as ws:
        await ws.send_json(call("tools/call", 7))
        await bounded(begun.wait(), 5)
        await ws.send_json(call("tools/call", 7))
        assert "'7' is under way" in (await told(ws))["error"]["message"]
        await ws.close()
    await bounded(server.left.wait(), 5)


async def test_more_than_a_socket_may_have_under_way(
    gate: Client, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "_WAIT", 0.05)
    go_on = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        await go_on.wait()
        return web.json_response(result(body["id"]))

    server.handler = wait
    async with plain_socket(gate) as ws:
        for number in range(MOST_REQUESTS + 1):
            await ws.send_json(call("tools/call", number))
        reply = await told(ws)
        assert reply["id"] == MOST_REQUESTS
        assert "wait for an answer" in reply["error"]["message"]
        go_on.set()
        assert {(await told(ws))["id"] for _ in range(MOST_REQUESTS)} == set(range(MOST_REQUESTS))


async def test_a_client_that_does_not_read(tmp_path: Path) -> None:
    large = "x" * 2**20

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return web.json_response(result(body["id"], text=large))

    async with faulty() as server, served(gateway=True, write_timeout=0.5) as gate:
        server.handler = answer
        await list_it(gate, "a", server.url)
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(gate.url).port, limit=2**10)
        writer.write(
            f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mcp\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        await bounded(reader.readuntil(b"\r\n\r\n"), 5)
        for number in range(50):
            data = orjson.dumps(call("tools/call", number))
            writer.write(bytes((0x81, 0x80 | len(data), 0, 0, 0, 0)) + data)

        async def gone() -> bool:
            page = (await gate("GET", "/metrics")).body
            return b"mcp_discovery_gateway_sockets 0.0" in page

        await until(gone, timeout=10, what="the socket being closed")
        writer.close()


async def test_a_large_answer_that_is_given_up_leaves_room_for_others(
    gate: Client, server: FaultyServer
) -> None:
    begun = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["id"] == 2:
            return web.json_response(result(2, text="x" * 2**20))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"jsonrpc":"2.0","result":"' + b"x" * 2**20)
        begun.set()
        await asyncio.Event().wait()
        return response

    server.handler = answer
    async with plain_socket(gate) as ws:
        await ws.send_json(call("tools/call", 1, _meta=META))
        await bounded(begun.wait(), 5)
        await asyncio.sleep(0.2)  # what has come is in hand
        await ws.send_json(call("tools/call", 2))
        given_up = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
        await ws.send_json({**given_up, "params": {"requestId": 1}})
        assert (await told(ws))["id"] == 2


async def test_nothing_is_left_of_clients_that_vanish(gate: Client, server: FaultyServer) -> None:
    def sockets() -> set[int]:
        gc.collect()
        return {id(each) for each in gc.get_objects() if type(each) is web.WebSocketResponse}

    before = sockets()  # aiohttp keeps one that it closed itself until its next ping
    server.handler = legacy()
    for _ in range(20):
        async with plain_socket(gate) as ws:
            await ws.send_json(call("initialize", protocolVersion="2025-11-25"))
            await told(ws)
            connection = ws._response.connection
            assert connection is not None and connection.transport is not None
            connection.transport.abort()

    async def gone() -> bool:
        return sockets() <= before

    await until(gone, timeout=10, what="every socket being freed")

    async def ended() -> bool:
        return [each.method for each in server.requests].count("DELETE") == 20

    await until(ended, timeout=5, what="every session being ended")


# -- servers that fail -----------------------------------------------------------------------------


async def test_answers_that_are_none(gate: Client, server: FaultyServer) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"jsonrpc":"2.0","id":1,')
        assert request.transport is not None
        request.transport.abort()
        return response

    async def no_message(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>")

    async def own_error(request: web.Request) -> web.StreamResponse:
        error = {"code": -32601, "message": "Method not found"}
        return web.json_response({"jsonrpc": "2.0", "id": None, "error": error}, status=404)

    async def accepted(request: web.Request) -> web.StreamResponse:
        return web.Response(status=202)

    async with plain_socket(gate) as ws:
        for handler, code, sentence in (
            (broken, -32603, "broke off"),
            (no_message, -32603, "no message of MCP"),
            (own_error, -32601, "Method not found"),
            (accepted, -32603, "whether it was done is not known"),
        ):
            server.handler = handler
            await ws.send_json(call("tools/call", "same"))
            reply = await told(ws)
            assert (reply["id"], reply["error"]["code"]) == ("same", code)
            assert sentence in reply["error"]["message"]
        await gate("DELETE", "/servers/a")
        await ws.send_json(call("tools/call"))
        reply = await told(ws)
        assert "there is no server called 'gate'" in reply["error"]["message"]
        assert reply["error"]["data"]["status"] == 404


async def test_a_session_that_is_over_closes_its_socket(gate: Client, server: FaultyServer) -> None:
    errors = [(-32601, "Method not found"), (-32600, "Session not found")]
    with_sessions = legacy()

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.method == "POST" else {}
        if body.get("method") == "ping":
            code, message = errors.pop(0)
            error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
            return web.json_response(error, status=404)
        response: web.StreamResponse = await with_sessions(request)
        return response

    server.handler = answer
    async with plain_socket(gate) as ws:
        await ws.send_json(call("initialize", protocolVersion="2025-11-25"))
        await told(ws)
        await ws.send_json(call("ping", 2))
        assert (await told(ws))["error"]["message"] == "Method not found"
        await ws.send_json(call("ping", 3))
        assert (await told(ws))["error"]["message"] == "Session not found"
        closed = await bounded(ws.receive(), 5)
        assert (closed.data, closed.extra) == (1012, "the session is over; connect again")


async def test_both_eras_on_one_socket(gate: Client, server: FaultyServer) -> None:
    with_sessions = legacy()

    async def answer(request: web.Request) -> web.StreamResponse:
        if "Mcp-Method" not in request.headers:
            response: web.StreamResponse = await with_sessions(request)
            return response
        if request.headers["Mcp-Method"] == "ping":
            # Without the blank line behind the last event, as careless servers write it.
            return events(f"data: {orjson.dumps(result(3)).decode()}\n")
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    begun = asyncio.Event()
    server.handler = answer
    async with plain_socket(gate) as ws:
        await ws.send_json(call("initialize", protocolVersion="2025-11-25"))
        await told(ws)
        await ws.send_json(call("tools/call", 2, _meta=META))
        await bounded(begun.wait(), 5)
        assert "Mcp-Session-Id" not in server.requests[-1].headers
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
        await ws.send_json({**cancelled, "params": {"requestId": 2}})
        await bounded(server.left.wait(), 5)
        await ws.send_json(call("ping", 3, _meta=META))
        assert await told(ws) == result(3)


async def test_arguments_that_stand_in_headers(gate: Client, server: FaultyServer) -> None:
    schema = {"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "in": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
        "evil": {"type": "string", "x-mcp-header": "a\r\nb: c"},
    }}  # fmt: skip

    async def listing(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return web.json_response(result(body["id"], tools=[{"name": "t", "inputSchema": schema}]))

    server.handler = listing
    async with plain_socket(gate) as ws:
        await ws.send_json(call("tools/list", 1, _meta=META))
        await told(ws)
        arguments = {"region": "Zürich", "in": {"n": 3}, "evil": "x"}
        await ws.send_json(call("tools/call", 2, name="t", arguments=arguments, _meta=META))
        await told(ws)
    headers = server.requests[-1].headers
    assert headers["MCP-Protocol-Version"] == "2026-07-28"
    assert (headers["Mcp-Method"], headers["Mcp-Name"]) == ("tools/call", "t")
    assert headers["Mcp-Param-N"] == "3"
    assert headers["Mcp-Param-Region"] == "=?base64?WsO8cmljaA==?="
    assert [each for each in headers if each.startswith("Mcp-Param")] == [
        *("Mcp-Param-Region", "Mcp-Param-N"),
    ]


async def test_a_facade_that_stops_answers_what_is_under_way(tmp_path: Path) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        begun.set()
        await go_on.wait()
        return web.json_response(result(body["id"]))

    begun, go_on = asyncio.Event(), asyncio.Event()
    async with faulty() as server:
        server.handler = slow
        stack = AsyncExitStack()
        gate = await stack.enter_async_context(served(gateway=True))
        await list_it(gate, "a", server.url)
        async with aiohttp.ClientSession() as http:
            ws = await http.ws_connect(address(gate), protocols=("mcp",))
            await ws.send_json(call("tools/call"))
            await bounded(begun.wait(), 5)
            stopping = asyncio.create_task(stack.aclose())
            await asyncio.sleep(0.1)
            go_on.set()
            assert await told(ws) == result(1)
            closed = await bounded(ws.receive(), 5)
            assert (closed.data, closed.extra) == (1001, "the server stops")
        await stopping
