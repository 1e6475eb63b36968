"""What a request must be like, and how exactly each bad one is answered, in both eras."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest

from tests.facade.harness import Client, served
from tests.facade.mcp.wire import (
    ENVELOPE,
    JSON,
    MODERN,
    PREFIX,
    Legacy,
    enveloped,
    hello,
    message,
    modern,
)
from tests.stores.waiting import until

PING = message("ping")


def without(key: str) -> dict[str, str]:
    return {name: value for name, value in JSON.items() if name != key}


# -- both eras --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        ((), None, 200),
        ((), "here", 200),
        ((), "http://evil.example", 403),
        ((), "http://127.0.0.1:1", 403),
        ((), "null", 403),
        ((), "", 403),
        (("https://console.example",), "https://console.example", 200),
        (("https://console.example",), "https://console.example.evil", 403),
        (("*",), "http://evil.example", 200),
    ],
)
async def test_pages_of_other_origins_may_not_ask(
    origins: tuple[str, ...], origin: str | None, status: int
) -> None:
    async with served(cors_origins=origins) as ask:
        sent = {} if origin is None else {"Origin": ask.url if origin == "here" else origin}
        assert (await modern(ask, "server/discover", None, **sent)).status == status
        reply = await ask("POST", "/mcp", hello(), headers=JSON | sent)
        assert reply.status == status
        if status == 403:
            assert "--cors-origin" in reply.json["detail"]


async def test_a_name_that_was_rebound_is_another_origin(ask: Client) -> None:
    """Origin and host agree: the browser was led here under the attacker's name."""
    rebound = {"Origin": "http://evil.example:4000", "Host": "evil.example:4000"}
    assert (await modern(ask, "server/discover", None, **rebound)).status == 421


async def test_pages_that_may_ask_can_read_the_session(ask: Client) -> None:
    origin = "https://console.example"
    async with served(cors_origins=(origin,)) as ask:
        asking = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,mcp-protocol-version,mcp-session-id",
        }
        reply = await ask("OPTIONS", "/mcp", headers=asking)
        assert reply.status == 204
        assert "POST" in reply.headers["Access-Control-Allow-Methods"]
        assert "mcp-session-id" in reply.headers["Access-Control-Allow-Headers"]
        reply = await ask("POST", "/mcp", hello(), headers=JSON | {"Origin": origin})
        assert reply.headers["Access-Control-Allow-Origin"] == origin
        assert "Mcp-Session-Id" in reply.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("version", [None, "2025-06-18", MODERN])
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", JSON, 400, -32700),
        (b"", JSON, 400, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"', JSON, 400, -32700),
        (b"[" * 5000, JSON, 400, -32700),
        (b'"text"', JSON, 400, -32600),
        (b'{"id":1,"method":"ping"}', JSON, 400, -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', JSON, 400, -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', JSON, 400, -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', JSON, 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', JSON, 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', JSON, 400, -32600),
        (b'{"jsonrpc":"2.0","id":1}', JSON, 400, -32600),
        (b"{}", without("Accept") | {"Accept": "text/html"}, 406, -32600),
        (b"{}", without("Content-Type") | {"Content-Type": "text/plain"}, 415, -32600),
        (b"{}", JSON | {"Content-Encoding": "br"}, 415, -32600),
        (b" " * (2**20 + 1), JSON, 413, -32600),
    ],
)
async def test_what_is_no_message(
    ask: Client,
    version: str | None,
    body: bytes,
    headers: dict[str, str],
    status: int,
    code: int,
) -> None:
    sent = headers if version is None else headers | {"MCP-Protocol-Version": version}
    reply = await ask("POST", "/mcp", body, headers=sent)
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"].startswith("application/json")
    assert (reply.json["id"], reply.json["error"]["code"]) == (None, code)


@pytest.mark.parametrize(
    ("method", "headers", "status", "allow"),
    [
        ("HEAD", {}, 405, "GET, POST, DELETE"),
        ("PUT", {}, 405, "GET, POST, DELETE"),
        ("GET", {"Accept": "application/json"}, 406, None),
        ("GET", {"Accept": "text/event-stream"}, 400, None),
        ("GET", {"Accept": "text/event-stream", "Mcp-Session-Id": "none"}, 404, None),
        ("DELETE", {}, 400, None),
        ("DELETE", {"Mcp-Session-Id": "none"}, 404, None),
        ("GET", {"MCP-Protocol-Version": MODERN}, 405, "POST"),
        ("DELETE", {"MCP-Protocol-Version": MODERN}, 405, "POST"),
    ],
)
async def test_the_other_methods_of_http(
    ask: Client, method: str, headers: dict[str, str], status: int, allow: str | None
) -> None:
    reply = await ask(method, "/mcp", headers=headers)
    assert reply.status == status
    assert reply.headers.get("Allow") == allow


async def test_a_compressed_body_is_understood(ask: Client) -> None:
    body, headers = enveloped("server/discover")
    packed = gzip.compress(orjson.dumps(body))
    reply = await ask("POST", "/mcp", packed, headers=headers | {"Content-Encoding": "gzip"})
    assert reply.status == 200


# -- modern -----------------------------------------------------------------------------------


async def test_discover(ask: Client) -> None:
    reply = await modern(ask, "server/discover")
    result = reply.json["result"]
    assert (reply.status, reply.json["id"]) == (200, 1)
    assert result["supportedVersions"] == [MODERN]
    assert result["capabilities"] == {
        "tools": {"listChanged": False},
        "resources": {"subscribe": True, "listChanged": True},
    }
    assert result["resultType"] == "complete"
    assert result["_meta"][f"{PREFIX}serverInfo"]["name"] == "mcp-discovery"
    assert "find_tools" in result["instructions"]
    assert "Mcp-Session-Id" not in reply.headers


@pytest.mark.parametrize(
    ("method", "params", "ttl", "scope"),
    [
        ("server/discover", {}, 60_000, "private"),
        ("tools/list", {}, 60_000, "private"),
        ("resources/templates/list", {}, 60_000, "public"),
        ("resources/list", {}, 0, "private"),
        ("resources/read", {"uri": "mcp-discovery://servers"}, 0, "private"),
    ],
)
async def test_lists_say_for_how_long_they_may_be_kept(
    ask: Client, method: str, params: dict[str, Any], ttl: int, scope: str
) -> None:
    result = (await modern(ask, method, params)).json["result"]
    assert result["ttlMs"] == ttl
    assert result["cacheScope"] == scope
    legacy = await Legacy.begun(ask)
    if method != "server/discover":
        told = await legacy.result(method, params)
        assert not told.keys() & {"ttlMs", "cacheScope", "resultType", "_meta"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Mcp-Method": "tools/call"}, -32020),
        ({"Mcp-Method": ""}, -32020),
        ({"Mcp-Name": "find_servers"}, -32020),
        ({"Mcp-Name": "=?base64?!?="}, -32020),
        ({"MCP-Protocol-Version": "2027-01-01"}, -32020),
    ],
)
async def test_headers_and_body_must_agree(ask: Client, headers: dict[str, str], code: int) -> None:
    params = {"uri": "mcp-discovery://servers"}
    reply = await modern(ask, "resources/read", params, **headers)
    assert (reply.status, reply.json["error"]["code"], reply.json["id"]) == (400, code, 1)


async def test_a_name_may_come_encoded(ask: Client) -> None:
    params = {"uri": "mcp-discovery://servers"}
    encoded = {"Mcp-Name": "=?base64?bWNwLWRpc2NvdmVyeTovL3NlcnZlcnM=?="}
    assert (await modern(ask, "resources/read", params, **encoded)).status == 200


async def test_a_header_must_not_come_twice(ask: Client) -> None:
    body, headers = enveloped("tools/list")
    twice = [*headers.items(), ("Mcp-Method", "tools/list")]
    reply = await ask("POST", "/mcp", body, headers=twice)
    assert (reply.status, reply.json["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        (None, -32602, "params._meta must be an object"),
        ({"_meta": {}}, -32602, "protocolVersion"),
        ({"_meta": {f"{PREFIX}protocolVersion": MODERN}}, -32602, "clientCapabilities"),
        ({"_meta": ENVELOPE | {f"{PREFIX}protocolVersion": None}}, -32020, "MCP-Protocol-Version"),
    ],
)
async def test_the_envelope_must_be_whole(ask: Client, params: Any, code: int, words: str) -> None:
    _, headers = enveloped("tools/list")
    reply = await ask("POST", "/mcp", message("tools/list", params), headers=headers)
    assert (reply.status, reply.json["error"]["code"]) == (400, code)
    assert words in reply.json["error"]["message"]


async def test_a_version_that_is_not_known(ask: Client) -> None:
    body, headers = enveloped("tools/list", None, **{f"{PREFIX}protocolVersion": "2031-01-01"})
    headers["MCP-Protocol-Version"] = "2031-01-01"
    reply = await ask("POST", "/mcp", body, headers=headers)
    assert (reply.status, reply.json["error"]["code"]) == (400, -32022)
    assert reply.json["error"]["data"] == {"supported": [MODERN], "requested": "2031-01-01"}
    told = message("notifications/cancelled", {"requestId": 1}, id=None)
    assert (await ask("POST", "/mcp", told, headers=headers)).status == 400


@pytest.mark.parametrize(
    ("method", "params", "status", "code"),
    [
        ("ping", {}, 404, -32601),
        ("initialize", {}, 404, -32601),
        ("prompts/list", {}, 404, -32601),
        ("resources/subscribe", {"uri": "mcp-discovery://servers"}, 404, -32601),
        ("tools/call", {}, 400, -32602),
        ("tools/call", {"name": "nothing"}, 400, -32602),
        ("tools/call", {"name": "find_tools", "arguments": []}, 400, -32602),
        ("tools/list", {"cursor": "x"}, 400, -32602),
        ("resources/list", {"cursor": "x"}, 400, -32602),
        ("resources/list", {"cursor": 1}, 400, -32602),
        ("resources/read", {}, 400, -32602),
        ("resources/read", {"uri": "mcp-discovery://servers/none"}, 400, -32602),
        ("resources/read", {"uri": "file:///etc/passwd"}, 400, -32602),
        ("subscriptions/listen", {}, 400, -32602),
        ("subscriptions/listen", {"notifications": []}, 400, -32602),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": "x"}}, 400, -32602),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["x"]}}, 400, -32602),
    ],
)
async def test_what_a_modern_request_cannot_ask(
    ask: Client, method: str, params: dict[str, Any], status: int, code: int
) -> None:
    reply = await modern(ask, method, params)
    assert (reply.status, reply.json["error"]["code"]) == (status, code), reply.body
    assert reply.json["id"] == 1


async def test_a_stream_is_for_those_who_take_one(ask: Client) -> None:
    params = {"notifications": {"resourcesListChanged": True}}
    reply = await modern(ask, "subscriptions/listen", params, Accept="application/json")
    assert reply.status == 406


async def test_modern_batches_replies_and_notifications(ask: Client) -> None:
    body, headers = enveloped("tools/list")
    reply = await ask("POST", "/mcp", [body], headers=headers)
    assert (reply.status, reply.json["error"]["code"]) == (400, -32600)
    posted = {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert (await ask("POST", "/mcp", posted, headers=headers)).status == 400
    told = message("notifications/cancelled", {"requestId": 1}, id=None)
    reply = await ask("POST", "/mcp", told, headers=headers)
    assert (reply.status, reply.body) == (202, b"")


# -- legacy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "agreed"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ],
)
async def test_the_version_is_agreed_on(ask: Client, wanted: str, agreed: str) -> None:
    reply = await ask("POST", "/mcp", hello(wanted), headers=JSON)
    result = reply.json["result"]
    assert result["protocolVersion"] == agreed
    assert result["serverInfo"]["name"] == "mcp-discovery"
    assert reply.headers["Mcp-Session-Id"].isalnum()
    client = await Legacy.begun(ask, agreed)
    assert await client.result("ping") == {}


@pytest.mark.parametrize("left_out", ["protocolVersion", "capabilities", "clientInfo"])
async def test_a_greeting_must_be_whole(ask: Client, left_out: str) -> None:
    body = hello()
    del body["params"][left_out]
    reply = await ask("POST", "/mcp", body, headers=JSON)
    assert (reply.json["error"]["code"], reply.json["id"]) == (-32602, 1)
    assert "Mcp-Session-Id" not in reply.headers


async def test_there_is_nothing_without_a_session(ask: Client) -> None:
    reply = await ask("POST", "/mcp", PING, headers=JSON)
    assert (reply.status, reply.json["error"]["code"]) == (400, -32600)
    reply = await ask("POST", "/mcp", PING, headers=JSON | {"Mcp-Session-Id": "none"})
    assert (reply.status, reply.json["error"]["code"]) == (404, -32600)


async def test_a_session_ends_when_its_client_says_so(ask: Client) -> None:
    client = await Legacy.begun(ask)
    assert (await ask("DELETE", "/mcp", headers=client.headers)).status == 200
    assert (await client.send(PING)).status == 404
    assert (await ask("DELETE", "/mcp", headers=client.headers)).status == 404


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("server/discover", {}, -32601),
        ("logging/setLevel", {"level": "info"}, -32601),
        ("resources/read", {"uri": "mcp-discovery://servers/none"}, -32002),
        ("resources/subscribe", {"uri": "https://example.com"}, -32002),
        ("resources/subscribe", {}, -32602),
        ("tools/call", {"name": "nothing"}, -32602),
    ],
)
async def test_what_a_legacy_request_cannot_ask(
    ask: Client, method: str, params: dict[str, Any], code: int
) -> None:
    client = await Legacy.begun(ask)
    reply = await client.send(message(method, params, id="a"))
    assert (reply.status, reply.json["id"]) == (200, "a")
    assert reply.json["error"]["code"] == code


async def test_batches_are_of_one_version_alone(ask: Client) -> None:
    batch = [
        message("ping", id=1),
        message("notifications/cancelled", {"requestId": 9}, id=None),
        message("nothing", id="b"),
        hello() | {"id": 3},
        {"jsonrpc": "2.0", "id": 4, "result": {}},
    ]
    for version in ("2024-11-05", "2025-06-18", "2025-11-25"):
        client = await Legacy.begun(ask, version)
        reply = await client.send(batch)
        assert (reply.status, reply.json["error"]["code"]) == (400, -32600)
    client = await Legacy.begun(ask, "2025-03-26")
    reply = await client.send(batch)
    assert reply.status == 200
    assert [each["id"] for each in reply.json] == [1, "b", 3]
    assert reply.json[0]["result"] == {}
    assert [each["error"]["code"] for each in reply.json[1:]] == [-32601, -32600]
    assert (await client.send(batch[1:2])).status == 202
    assert (await client.send([])).status == 400
    assert (await client.send([message("ping")] * 101)).status == 400
    assert (await client.send([1])).status == 400


async def test_sessions_are_bounded_and_the_idlest_makes_room() -> None:
    async with served(mcp_sessions=2) as ask:
        first, second = await Legacy.begun(ask), await Legacy.begun(ask)
        await first.result("ping")
        third = await Legacy.begun(ask)
        assert (await second.send(PING)).status == 404
        for each in (first, third):
            await each.result("ping")
        async with first.stream(), third.stream():  # busy ones stay
            reply = await ask("POST", "/mcp", hello(), headers=JSON)
            assert (reply.status, reply.json["error"]["code"]) == (503, -32603)


async def test_sessions_that_are_not_used_are_over() -> None:
    async with served(mcp_idle=0.5) as ask:
        idle, listening = await Legacy.begun(ask), await Legacy.begun(ask)
        async with listening.stream():

            async def over() -> bool:
                figures = (await ask("GET", "/metrics")).body.decode()
                return "mcp_discovery_mcp_sessions 1.0" in figures

            await until(over, timeout=30, what="the idle session being over")
            assert (await idle.send(PING)).status == 404
            await listening.result("ping")
