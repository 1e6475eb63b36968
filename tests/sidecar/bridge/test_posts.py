"""What a legacy client posts: its headers, its version, batches, large bodies, slow readers."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from mcp_discovery.sidecar.bridge import exchange
from tests import foreign
from tests.foreign.programs import NODE, NPM
from tests.sidecar.bridge.wire import HEADERS, bridged, client
from tests.stores.waiting import bounded, until

pytestmark = pytest.mark.slow


async def test_headers_and_statuses() -> None:
    async with bridged() as bridge, client(bridge) as one:
        call = one.calling("pid")
        for headers, status in (
            ({"MCP-Protocol-Version": "1999-01-01"}, 400),
            ({"MCP-Protocol-Version": "2025-06-18"}, 200),
            ({"Accept": "text/html"}, 406),
            ({"Content-Type": "text/plain"}, 415),
            ({"Content-Encoding": "gzip"}, 400),
            ({"Mcp-Session-Id": "x"}, 404),
            ({"Mcp-Session-Id": "ü"}, 404),
        ):
            assert (await one.send(call, **headers)).status == status, headers
        async with one.http.post(one.url, json=call, headers=HEADERS) as response:
            assert response.status == 400
        without = {k: v for k, v in one.headers.items() if k != "MCP-Protocol-Version"}
        async with one.http.post(one.url, json=call, headers=without) as response:
            assert (response.status, response.content_type) == (200, "application/json")
        async with one.http.post(one.url, data=b"{", headers=one.headers) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (400, -32700)
        messages: list[dict[str, Any]] = [
            {"method": "notifications/what"},
            {"id": 5, "result": {}},
            {"id": [5], "error": {}},
            {"id": {}, "error": None, "result": [1]},
        ]
        for message in messages:
            answer = await one.send({"jsonrpc": "2.0", **message})
            assert (answer.status, answer.content) == (202, None)
        assert (await one.send({"jsonrpc": "1.0", "id": 1, "method": "ping"})).status == 400
        assert (await one.send([call])).status == 400
        for method in ("PUT", "PATCH", "OPTIONS"):
            async with one.http.request(method, one.url, headers=one.headers) as response:
                assert response.status == 405
        async with one.http.get(one.url, headers=one.headers | {"Accept": "text/html"}) as response:
            assert response.status == 406
        json_alone = {"Accept": "application/json"}
        answer = await one.send(one.calling("steps", count=2), **json_alone)
        assert (answer.text, answer.events) == ("stepped", [])
        assert (await one.end()).status == 200
        assert (await one.end()).status == 404
        assert (await one.call("pid")).status == 404


async def test_numbers_and_texts_come_as_they_were_sent() -> None:
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", %s}}'
    arguments = b'"arguments": {"text": [%d, "\xf0\x9f\x98\x80\xe2\x82\xac"]}' % (10**25,)
    async with bridged() as bridge, client(bridge) as one:
        sent = body % arguments
        async with one.http.post(one.url, data=sent, headers=one.headers) as response:
            found = json.loads(await response.read())
    assert found["result"]["content"] == [{"type": "text", "text": [10**25, "😀€"]}]


async def test_an_id_that_is_in_use_is_refused() -> None:
    async with bridged() as bridge, client(bridge) as one:
        message = one.calling("wait", seconds=0.5)
        waiting = asyncio.create_task(one.send(message))
        await one.call("pid")
        refused = await one.send(message)
        assert (refused.status, refused.content["error"]["code"]) == (400, -32600)
        assert (await waiting).text == "waited"


async def test_batches_of_2025_03_26() -> None:
    async with bridged() as bridge, client(bridge, "2025-03-26") as one:
        notification = {"jsonrpc": "2.0", "method": "notifications/what"}
        calls = [one.calling("wait", seconds=0.2, text=str(number)) for number in range(3)]
        answer = await one.send([*calls, notification, one.request("what")])
        assert [each["id"] for each in answer.content[:3]] == [each["id"] for each in calls]
        texts = [each["result"]["content"][0]["text"] for each in answer.content[:3]]
        assert texts == ["0", "1", "2"]
        assert answer.content[3]["error"]["code"] == -32601
        assert (await one.send([notification])).status == 202
        assert (await one.send([])).status == 400
        streamed = await one.send([one.calling("steps", count=2), one.calling("pid")])
        kinds = [each.data.get("method", "answer") for each in streamed.events if each.data]
        assert kinds == ["notifications/progress"] * 2 + ["answer"] * 2
        refused = await one.send([one.request("initialize")])
        assert "batch" in refused.content[0]["error"]["message"]


async def test_large_bodies_both_ways() -> None:
    async with bridged() as bridge, client(bridge) as one:
        text = "ü" * 8_000_000
        answer = await bounded(one.call("echo", text=text), 60)
        assert answer.text == text
        answer = await bounded(one.call("echo", text="x" * (64 * 2**20)), 60)
        assert answer.status == 413
        assert (await one.call("pid")).status == 200


async def test_a_client_that_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "WRITE_TIMEOUT", 0.3)
    async with bridged() as bridge, client(bridge) as one:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        port = int(one.url.split(":")[2].split("/")[0])
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", port))
        body = orjson.dumps(one.calling("echo", text="x" * 1000, times=20_000))
        head = "".join(f"{name}: {value}\r\n" for name, value in one.headers.items())
        await loop.sock_sendall(
            raw,
            f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{head}"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body,
        )
        session = next(iter(bridge.endpoint.legacy.sessions))

        async def connections(number: int) -> bool:
            return len(session.connections) == number

        await until(partial(connections, 2), timeout=30, what="the request")
        await until(partial(connections, 1), timeout=30, what="its end")
        received = 0
        with suppress(ConnectionError):
            while data := await bounded(loop.sock_recv(raw, 2**20), 5):
                received += len(data)
        assert 0 < received < 20_000_000
        raw.close()


async def test_the_typescript_sdks_client() -> None:
    script = Path(foreign.__file__).parent / "session_client.cjs"
    async with bridged() as bridge:
        process = await asyncio.create_subprocess_exec(
            *(NODE, script, bridge.url),
            env={"NODE_PATH": str(NPM)},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await bounded(process.communicate(), 30)
        said = orjson.loads(out)
        assert "file:///ts" in said["roots"]
        assert (said["slow"], said["steps"]) == ("slow", 3)
        await bridge.until_sessions(0)
        await bridge.until_processes(1)
