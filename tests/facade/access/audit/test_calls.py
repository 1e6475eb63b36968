"""Calls of tools: one event each, by whichever way, with their arguments hashed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from mcp_discovery.facade.access.audit import refusals
from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.access.audit.recorded import at, logs, until_recorded
from tests.facade.access.tokens import ROLES, SCOPES, bearer, guarded
from tests.facade.gateway.conftest import list_it
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import Client, leased, served
from tests.facade.mcp.wire import modern
from tests.mcp_discovery.client.verbatim import failed, verbatim

PATH = "/gateway/gate/mcp"


def a_call(tool: str, **arguments: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def digest(arguments: object) -> str:
    return hashlib.sha256(orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def answering(server: FaultyServer, *messages: object, stream: bool = False) -> None:
    """Has the server answer so from now on."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        if stream:
            text = "".join(
                f"event: message\r\ndata: {json.dumps(each)}\r\n\r\n" for each in messages
            )
            return web.Response(text=text, content_type="text/event-stream")
        return web.json_response(messages[0] if len(messages) == 1 else messages)

    server.handler = answer


def result(id: int = 1, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": "so it is"}]
    return {"jsonrpc": "2.0", "id": id, "result": {"content": content, **more}}


async def test_a_call_through_the_gateway(settings: AuditSettings) -> None:
    async with faulty() as server, served(audit=settings, gateway=True) as ask:
        await list_it(ask, "a", server.url, tags=["shop"])
        await answering(server, result())
        headers = {"X-Request-Id": "call-1", "Authorization": "Bearer s3cr3t"}
        reply = await ask("POST", PATH, a_call("pay", amount=5, to="me"), headers=headers)
        assert reply.status == 200
        event = await until_recorded(ask, {"eventType": "call", "outcome.result": "done"})
        assert event["target"] == {
            "kind": "tool",
            "name": "gate",
            "tool": "pay",
            "id": "a",
            "tags": ["shop"],
            "url": server.url,
        }
        assert event["arguments"] == {"sha256": digest({"amount": 5, "to": "me"})}
        assert event["requestId"] == "call-1"
        assert at(event, "outcome.status") == 200
        assert at(event, "operation.route") == "/gateway/{name}/mcp"
        assert (await logs(ask, "?tool=pay")) == [event]
        assert "s3cr3t" not in str(event)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_how_calls_end_at_the_server(settings: AuditSettings, stream: bool) -> None:
    async with faulty() as server, served(audit=settings, gateway=True) as ask:
        await list_it(ask, "a", server.url)
        await answering(server, result(isError=True), stream=stream)
        await ask("POST", PATH, a_call("one"))
        event = await until_recorded(ask, {"target.tool": "one", "outcome.result": "failed"})
        assert at(event, "outcome.error") == "so it is"
        said = "no such tool for ghp_0123456789abcdefghijABCDEFGHIJ012345"
        error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": said}}
        await answering(server, error, stream=stream)
        await ask("POST", PATH, a_call("two"))
        event = await until_recorded(ask, {"target.tool": "two", "outcome.result": "failed"})
        assert at(event, "outcome.error") == "no such tool for ***"
        assert at(event, "outcome.problem") == "json-rpc -32602"


async def test_a_batch_is_an_event_for_each_call(settings: AuditSettings) -> None:
    async with faulty() as server, served(audit=settings, gateway=True) as ask:
        await list_it(ask, "a", server.url)
        await answering(server, result(1), result(2, isError=True))
        listing = {"jsonrpc": "2.0", "id": 3, "method": "tools/list"}
        await ask("POST", PATH, [a_call("one"), a_call("two") | {"id": 2}, listing])
        await until_recorded(ask, {"target.tool": "two", "outcome.result": "failed"})
        found = await logs(ask, "?eventType=call")
        assert {(at(e, "target.tool"), at(e, "outcome.result")) for e in found} == {
            *(("one", "done"), ("two", "failed")),
        }


async def test_a_large_call_is_told_by_its_bytes(settings: AuditSettings) -> None:
    async with faulty() as server, served(audit=settings, gateway=True) as ask:
        await list_it(ask, "a", server.url)
        await answering(server, result())
        body = orjson.dumps(a_call("big", text="x" * 300_000))
        headers = {"Content-Type": "application/json"}
        await ask("POST", PATH, body, headers=headers)
        hashed = hashlib.sha256(body).hexdigest()
        wanted = {"arguments.bodySha256": hashed, "outcome.result": "done"}
        event = await until_recorded(ask, wanted)
        assert event["arguments"] == {"bodySha256": hashed, "bodyBytes": len(body)}
        assert at(event, "target.tool") == ""  # more of it may say another one
        late = b'{"params": {"arguments": {"x": "' + b"y" * 80_000 + b'"}, "name": "late"}, '
        late += b'"method": "tools/call", "id": 1, "jsonrpc": "2.0"}'
        await ask("POST", PATH, late, headers=headers)
        hashed = hashlib.sha256(late).hexdigest()
        await until_recorded(ask, {"target.tool": "", "arguments.bodySha256": hashed})


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools\\/call", "params": {"name": "x"}}',
        b'{"id": 1, "method": "tools/call", "method": "ping", "params": {"name": "x"}}',
        b'{"id": 1, "Method": "tools/call", "params": {"name": "x"}}',
        b'{"id": NaN, "method": "tools/call", "params": {"name": "x"}}',
        b'{"id": 1, "method": "\\u0074ools/call", "method": "ping", "params": {"name": "x"}}',
    ],
)
async def test_what_a_server_may_take_for_a_call_is_recorded(
    body: bytes, settings: AuditSettings
) -> None:
    async with faulty() as server, served(audit=settings, gateway=True) as ask:
        await list_it(ask, "a", server.url)
        await ask("POST", PATH, body, headers={"Content-Type": "application/json"})
        event = await until_recorded(ask, {"eventType": "call", "target.id": "a"})
        if at(event, "target.tool") == "":  # what it was can be shown by who kept the body
            assert at(event, "arguments.bodySha256") == hashlib.sha256(body).hexdigest()
            assert at(event, "arguments.bodyBytes") == len(body)


async def test_a_call_that_goes_nowhere(settings: AuditSettings) -> None:
    async with served(audit=settings, gateway=True) as ask:
        await list_it(ask, "a", "http://127.0.0.1:9/mcp")
        assert (await ask("POST", PATH, a_call("pay"))).status == 502
        event = await until_recorded(ask, {"target.tool": "pay", "outcome.result": "failed"})
        assert at(event, "outcome.problem") == "not-reached"
        assert (await ask("POST", "/gateway/nobody/mcp", a_call("pay"))).status == 404
        await until_recorded(ask, {"target.name": "nobody", "outcome.status": 404})


async def test_what_is_refused_before_it_is_passed_on_is_no_call(
    settings: AuditSettings, tmp_path: Path
) -> None:
    lines = tmp_path / "audit.jsonl"
    both = AuditSettings(file=str(lines), store=settings.store)
    async with faulty() as server, served(audit=both, gateway=True) as ask:
        await list_it(ask, "a", server.url)
        many = [a_call("pay") | {"id": id} for id in range(90)]
        assert (await ask("POST", "/gateway/nobody/mcp", many)).status == 404
        assert (await ask("POST", "/gateway/nobody/mcp", [{"method": "tools/call"}] * 3000)).status
        assert (await ask("POST", PATH, [{"method": "tools/call"}] * 3000)).status == 413
        await until_recorded(ask, {"eventType": "refusal", "outcome.status": 413})
        assert await logs(ask, "?eventType=call") == []
        assert server.requests == []
        for _ in range(60):
            await ask("POST", "/gateway/nobody/mcp", many)
    told = lines.read_text().splitlines()
    assert len(told) < 2 * refusals.SINGLY
    assert '"count":' in told[-2]


async def test_each_message_of_a_batch_is_asked(settings: AuditSettings) -> None:
    async with faulty() as server, served(audit=settings, gateway=True) as ask:
        await list_it(ask, "a", server.url)
        other = {"jsonrpc": "2.0", "id": 2, "mEthod": "tools/call", "params": {"name": "wipe"}}
        assert (await ask("POST", PATH, [a_call("look"), other])).status == 200
        await until_recorded(ask, {"target.tool": "", "target.id": "a"})
        await until_recorded(ask, {"target.tool": "look", "target.id": "a"})
        assert len(await logs(ask, "?eventType=call")) == 2


async def test_calls_that_are_not_allowed_are_counted_when_they_are_many(
    settings: AuditSettings, tmp_path: Path
) -> None:
    lines = tmp_path / "audit.jsonl"
    both = AuditSettings(file=str(lines), store=settings.store)
    scopes = {"some": {"verbs": ["call"], "names": ["shop"], "tools": ["find"]}}
    sections = {"roles": {**ROLES, "reader": "some"}, "scopes": {**SCOPES, **scopes}}
    async with guarded(tmp_path, sections, audit=both, gateway=True) as ask:
        operator, reader = bearer("operator"), bearer("reader")
        body = leased("s-1", name="shop", capabilities={"tools": ["find"]})
        assert (await ask("POST", "/servers", body, headers=operator)).status == 201
        batch = [a_call(f"guess-{id}") | {"id": id} for id in range(99)]
        batch.append(a_call("find") | {"id": 99})
        assert (await ask("POST", "/gateway/shop/mcp", batch, headers=reader)).status == 200
        found = await logs(ask, "?name=shop&outcome=refused&limit=200", headers=operator)
        assert len(found) == refusals.SINGLY
        assert {at(each, "eventType") for each in found} == {"refusal"}
        assert {at(each, "target.tool") for each in found} < {f"guess-{id}" for id in range(99)}
        assert {at(each, "outcome.problem") for each in found} == {"json-rpc -32602"}
        assert {at(each, "target.id") for each in found} == {"s-1"}
        double = '{"method":"tools/call","params":{"name":"wipe","name":"find"}}'
        headers = {**bearer("reader"), "Content-Type": "application/json"}
        assert (await ask("POST", "/gateway/shop/mcp", double.encode(), headers=headers)).status
    assert f'"count":{99 - refusals.SINGLY}' in lines.read_text()


async def test_arguments_whole_and_without_secrets(tmp_path: Path) -> None:
    settings = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db", arguments=True)
    arguments = {
        "amount": 5,
        "password": "correct horse",
        "note": "with ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "nested": [{"apiKey": "abc", "text": "t" * 600}],
    }
    async with faulty() as server, served(audit=settings, gateway=True) as ask:
        await list_it(ask, "a", server.url)
        await answering(server, result())
        await ask("POST", PATH, a_call("pay", **arguments))
        event = await until_recorded(ask, {"target.tool": "pay", "outcome.result": "done"})
        assert at(event, "arguments.sha256") == digest(arguments)
        assert json.loads(at(event, "arguments.json")) == {
            "amount": 5,
            "password": "***",
            "note": "with ***",
            "nested": [{"apiKey": "***", "text": "t" * 600}],
        }
        await ask("POST", PATH, a_call("more", text="x" * 20_000))
        event = await until_recorded(ask, {"target.tool": "more", "outcome.result": "done"})
        assert at(event, "arguments.tooLarge") is True


async def called(ask: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    given = {"name": tool, "arguments": arguments}
    reply = await modern(ask, "tools/call", {"name": "call_tool", "arguments": given})
    found: dict[str, Any] = reply.json
    return found


async def test_a_call_through_call_tool(settings: AuditSettings) -> None:
    async with verbatim("json") as server, served(audit=settings, mcp_call_tool=True) as ask:
        body = {"id": "a", "name": "verbatim", "url": server.url}
        assert (await ask("POST", "/servers", body)).status == 201
        await ask.until_status("a", "healthy")
        assert "result" in await called(ask, "say", text="hello")
        event = await until_recorded(ask, {"eventType": "call", "outcome.result": "done"})
        assert at(event, "target.name") == "verbatim"
        assert at(event, "target.id") == "a"
        assert at(event, "target.tool") == "say"
        assert at(event, "operation.route") == "/mcp"
        assert event["arguments"] == {"sha256": digest({"text": "hello"})}
        server.answer = lambda id: failed(id, '{"code": -32000, "message": "so it is"}')
        await called(ask, "say")
        event = await until_recorded(ask, {"eventType": "call", "outcome.result": "failed"})
        assert at(event, "outcome.error") == "so it is"
        assert at(event, "outcome.problem") == "json-rpc -32000"
        await called(ask, "nothing")
        event = await until_recorded(ask, {"target.tool": "nothing", "outcome.result": "refused"})
        assert at(event, "outcome.problem") == "unknown-tool"
        assert at(event, "outcome.success") is False


async def test_who_may_not_call_is_recorded_where_call_tool_is_asked_for(
    settings: AuditSettings, tmp_path: Path
) -> None:
    more: dict[str, Any] = {"audit": settings, "mcp_call_tool": True}
    sections = {"limits": {"roles": {"operator": {"calls": "1/day"}}}}
    async with guarded(tmp_path, sections, **more) as ask:
        given = {"name": "call_tool", "arguments": {"name": "pay", "server": "shop"}}
        reply = await modern(ask, "tools/call", given, **bearer("reader"))
        assert "Unknown tool" in str(reply.json)
        wanted = {"eventType": "refusal", "outcome.result": "refused", "target.tool": "pay"}
        mine: dict[str, Any] = {"headers": bearer("operator")}
        event = await until_recorded(ask, {**wanted, "actor.userId": "reader"}, **mine)
        assert at(event, "target.name") == "shop"
        for _ in range(2):
            await modern(ask, "tools/call", given, **bearer("operator"))
        event = await until_recorded(ask, {**wanted, "actor.userId": "operator"}, **mine)
        assert "1 calls" in at(event, "outcome.error")
