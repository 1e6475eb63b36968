"""A WebSocket is no side door: who asks by it gets what a ``POST`` gets, counted and recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from multidict import CIMultiDict

from mcp_discovery.facade.access.audit.settings import AuditSettings
from mcp_discovery.facade.access.lifetime import CLOSE_CODE
from mcp_discovery.facade.access.tokens import hash_of
from tests.facade.access.audit.recorded import at, logs, until_recorded
from tests.facade.access.tokens import TOKENS, bearer, guarded, write_auth_file
from tests.facade.gateway.conftest import list_it
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.gateway.test_rights import LISTS, PATH, SECTIONS, gate, offering, request
from tests.facade.harness import Client, leased, served
from tests.stores.waiting import bounded, until

MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
#: What a caller may ask of a server, and what not.
ASKED: tuple[tuple[str, dict[str, Any]], ...] = (
    *((method, {}) for method in LISTS),
    ("tools/call", {"name": "get_ticket"}),
    ("tools/call", {"name": "drop_all"}),
    ("tools/call", {"name": "get_ticket", "NAME": "drop_all"}),
    ("prompts/get", {"name": "greet"}),
    ("prompts/get", {"name": "drop_all"}),
    ("resources/read", {"uri": "docs:///public/a"}),
    ("resources/read", {"uri": "docs:///public/../secret/a"}),
    ("tasks/list", {}),
    ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["docs:///secret/a"]}}),
)


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with faulty() as found:
        yield found


@asynccontextmanager
async def socket_of(
    ask: Client, role: str | None = None, path: str = PATH
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {} if role is None else bearer(role)
    url = ask.url.replace("http", "ws", 1) + path
    async with ask.session.ws_connect(url, protocols=("mcp",), headers=headers) as ws:
        yield ws


async def told(ws: aiohttp.ClientWebSocketResponse) -> Any:
    frame = await bounded(ws.receive(), 10)
    assert frame.type is aiohttp.WSMsgType.TEXT, frame
    return orjson.loads(frame.data)


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("role", ["employee", "manager"])
async def test_a_caller_gets_what_a_post_gets(
    tmp_path: Path, server: FaultyServer, role: str, modern: bool, events: bool
) -> None:
    server.handler = offering(events)
    async with gate(tmp_path, server.url) as ask, socket_of(ask, role) as ws:
        for number, (method, params) in enumerate(ASKED):
            given = {**params, "_meta": MODERN} if modern else params
            message = request(method, number, **given)
            headers = bearer(role) | {"Accept": "application/json, text/event-stream"}
            if modern:
                headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
                if (name := params.get("name") or params.get("uri")) is not None:
                    headers["Mcp-Name"] = str(name)
            before = len(server.requests)
            posted = await ask("POST", PATH, message, headers=headers)
            went = len(server.requests) - before
            await ws.send_json(message)
            replies = [await told(ws)]
            while replies[-1].get("id") != number:
                replies.append(await told(ws))
            if posted.headers["Content-Type"].startswith("text/event-stream"):
                texts = posted.body.replace(b"\r\n", b"\n").split(b"\n\n")
                lines = ([x[5:] for x in each.split(b"\n") if x[:5] == b"data:"] for each in texts)
                found = [orjson.loads(b"".join(each)) for each in lines if b"".join(each).strip()]
            else:
                found = [posted.json]
            assert replies == found, method
            assert len(server.requests) - before == 2 * went
            if role == "employee":
                assert b"drop_all" not in orjson.dumps(replies[-1].get("result"))


async def test_what_a_caller_may_not_see_is_not_there(tmp_path: Path, server: FaultyServer) -> None:
    async with gate(tmp_path, server.url) as ask:
        for role, status in (("admin", 404), ("reader", 403), (None, 401)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as error:
                async with socket_of(ask, role):
                    pass
            assert error.value.status == status
        with pytest.raises(aiohttp.WSServerHandshakeError) as absent:
            async with socket_of(ask, "admin", "/gateway/gone/mcp"):
                pass
        assert absent.value.status == 404
    assert server.requests == []


async def test_a_message_that_restricted_callers_may_not_send_twice_over(
    tmp_path: Path, server: FaultyServer
) -> None:
    """A member twice: servers may read the other one."""
    server.handler = offering()
    async with gate(tmp_path, server.url) as ask, socket_of(ask, "employee") as ws:
        await ws.send_str(
            '{"jsonrpc":"2.0","id":1,"method":"tools/call",'
            '"params":{"name":"drop_all","name":"get_ticket"}}'
        )
        reply = await told(ws)
        assert (reply["id"], reply["error"]["code"]) == (1, -32700)
        assert "a member twice" in reply["error"]["message"]
    assert server.requests == []


async def test_each_message_counts_as_a_call(tmp_path: Path, server: FaultyServer) -> None:
    server.handler = offering()
    limited = {**SECTIONS, "limits": {"default": {"calls": "3/minute", "streams": 1}}}
    async with guarded(tmp_path, limited, gateway=True) as ask:
        body = leased("a", name="gate", url=server.url)
        assert (await ask("POST", "/servers", body, headers=bearer("operator"))).status == 201
        async with socket_of(ask, "manager") as ws:  # which is one, too
            for number in range(2):
                await ws.send_json(request("tools/list", number))
                assert "result" in await told(ws)
            await ws.send_json(request("tools/list", "one too many"))
            reply = await told(ws)
            assert reply["id"] == "one too many"
            assert reply["error"]["data"]["status"] == 429
            with pytest.raises(aiohttp.WSServerHandshakeError) as error:
                async with socket_of(ask, "manager"):
                    pass
            assert error.value.status == 429
    assert len(server.requests) == 2


async def test_a_socket_is_one_stream_whatever_it_listens_to(
    tmp_path: Path, server: FaultyServer
) -> None:
    async def told_by_itself(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            text = 'data: {"jsonrpc":"2.0","method":"notifications/one"}\n\n'
            return web.Response(text=text, content_type="text/event-stream")
        body = await request.json() if request.method == "POST" else {}
        if "id" not in body:
            return web.Response(status=202)
        found = {"protocolVersion": "2025-11-25", "capabilities": {}}
        message = {"jsonrpc": "2.0", "id": body["id"], "result": found}
        return web.json_response(message, headers={"Mcp-Session-Id": "s1"})

    server.handler = told_by_itself
    limited = {**SECTIONS, "limits": {"default": {"streams": 1}}}
    async with guarded(tmp_path, limited, gateway=True) as ask:
        body = leased("a", name="gate", url=server.url)
        assert (await ask("POST", "/servers", body, headers=bearer("operator"))).status == 201
        async with socket_of(ask, "manager") as ws:
            await ws.send_json(request("initialize", protocolVersion="2025-11-25"))
            assert "result" in await told(ws)
            await ws.send_json({"jsonrpc": "2.0", "method": "notifications/initialized"})
            assert (await told(ws))["method"] == "notifications/one"
            listen = request("subscriptions/listen", 2, notifications={}, _meta=MODERN)
            await ws.send_json(listen)
            while (reply := await told(ws)).get("id") != 2:
                pass
            assert reply["error"]["data"]["status"] == 429


async def test_calls_are_recorded_as_any_others(tmp_path: Path) -> None:
    settings = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")
    async with faulty() as server, served(audit=settings, gateway=True) as ask:
        await list_it(ask, "a", server.url)
        server.handler = offering()
        call = request("tools/call", name="pay", arguments={"amount": 5})
        await ask("POST", PATH, call)
        posted = await until_recorded(ask, {"target.tool": "pay", "outcome.result": "done"})
        async with socket_of(ask) as ws:
            await ws.send_json(call)
            await told(ws)

            async def both() -> bool:
                found = await logs(ask, "?tool=pay")
                return len(found) == 2 and all(at(x, "outcome.result") == "done" for x in found)

            await until(both, timeout=5, what="both calls being recorded")
            await ws.send_json(request("tools/list", 2))
            await told(ws)
        found = await logs(ask, "?tool=pay")
        other = next(each for each in found if each["eventId"] != posted["eventId"])
        for member in ("actor", "arguments", "operation", "target"):
            assert other[member] == posted[member]
        assert other["requestId"] not in ("", posted["requestId"])


async def test_a_socket_ends_with_its_callers_credential(
    tmp_path: Path, server: FaultyServer
) -> None:
    server.handler = offering()
    async with gate(tmp_path, server.url) as ask, socket_of(ask, "manager") as ws:
        await ws.send_json(request("tools/list"))
        assert "result" in await told(ws)
        known = {"reader": {"hash": hash_of(TOKENS["reader"]), "roles": "reader"}}
        write_auth_file(tmp_path / "auth.yaml", **{**SECTIONS, "tokens": known})
        closed = await bounded(ws.receive(), 10)
        assert (closed.data, closed.extra) == (CLOSE_CODE, "the credential counts no more")


async def test_what_proxies_say_of_the_client_counts(server: FaultyServer) -> None:
    server.handler = offering()
    chain = [("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-For", "203.0.113.9, 127.0.0.1")]
    proxies = ("127.0.0.0/8", "203.0.113.0/24")
    async with served(gateway=True, trusted_proxies=proxies) as ask:
        await list_it(ask, "a", server.url)
        headers = CIMultiDict([*chain, ("Mcp-Name", "forged"), ("Accept-Encoding", "gzip")])
        await ask("POST", PATH, request("tools/list"), headers=CIMultiDict(chain))
        url = ask.url.replace("http", "ws", 1) + PATH
        async with ask.session.ws_connect(url, protocols=("mcp",), headers=headers) as ws:
            await ws.send_json(request("tools/list"))
            await told(ws)
    posted, other = (each.headers for each in server.requests)
    assert other["X-Forwarded-For"] == posted["X-Forwarded-For"]
    assert posted["X-Forwarded-For"].startswith("198.51.100.7")
    assert "Mcp-Name" not in other
    assert other["Accept-Encoding"] == "identity"
