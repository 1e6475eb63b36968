"""What callers reach through the gateway: servers, and parts of what these offer."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from aiohttp import web
from mcp import Client as McpClient
from mcp import MCPError
from mcp.client.client import ConnectMode
from mcp.client.streamable_http import streamable_http_client

from mcp_discovery.facade.access.tokens import hash_of
from tests.facade.access.tokens import ROLES, TOKENS, bearer, guarded, write_auth_file
from tests.facade.gateway.conftest import PROGRAM, seen
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import Client, Reply, leased
from tests.servers.process import running
from tests.stores.waiting import until

PATH = "/gateway/gate/mcp"
SESSION = "Mcp-Session-Id"
#: What the scopes of the tests' ``some`` are for.
SOME = {
    "verbs": ["call"],
    "names": ["gate"],
    "tools": ["whoami", "get_*"],
    "resources": ["docs:///public/*"],
    "prompts": ["greet"],
    "skills": ["refunds", "skill://open/*"],
}
SECTIONS: Mapping[str, Any] = {
    "roles": {
        **{role: scopes for role, scopes in ROLES.items() if role in ("operator", "reader")},
        "employee": "some",
        "manager": "gates",
        "admin": "others",
        "registrar": "some",
    },
    "scopes": {
        "some": SOME,
        "gates": {"verbs": ["call"], "names": ["gat*"]},
        "others": {"verbs": ["call"], "names": ["other"]},
    },
}
#: What a server has, of which ``some`` is for one of each.
OFFERED: Mapping[str, Any] = {
    "tools": [{"name": "get_ticket", "inputSchema": {}}, {"name": "drop_all", "inputSchema": {}}],
    "prompts": [{"name": "greet"}, {"name": "drop_all"}],
    "resources": [{"uri": "docs:///public/a"}, {"uri": "docs:///secret/drop_all"}],
    "resourceTemplates": [
        {"uriTemplate": "docs:///public/{name}"},
        {"uriTemplate": "docs:///secret/drop_all/{name}"},
    ],
    "skills": [
        {"uri": "skill://desk/refunds/SKILL.md", "frontmatter": {"name": "refunds"}},
        {"uri": "skill://desk/drop_all/SKILL.md", "frontmatter": {"name": "drop_all"}},
    ],
}
#: What its lists say of themselves.
HINTS = {"nextCursor": "2", "ttlMs": 60_000, "cacheScope": "public"}
LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "skills/list": "skills",
}


def request(method: str, id: Any = 1, /, **params: Any) -> dict[str, Any]:
    """A JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


@asynccontextmanager
async def gate(tmp_path: Path, url: str, **more: Any) -> AsyncIterator[Client]:
    """A facade whose gateway leads to ``url``, and that knows who asks."""
    async with guarded(tmp_path, SECTIONS, gateway=True, **more) as ask:
        names = {"tools": ["get_ticket", "drop_all", "whoami"]}
        body = leased("a", name="gate", url=url, capabilities=names)
        assert (await ask("POST", "/servers", body, headers=bearer("operator"))).status == 201
        yield ask


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with faulty() as found:
        yield found


def offering(events: bool = False) -> Any:
    """A handler that answers each request with all that there is, and says what it was sent."""

    async def answer(request: web.Request) -> web.StreamResponse:
        value = await request.json()
        messages = value if isinstance(value, list) else [value]
        answers = [
            {"jsonrpc": "2.0", "id": each["id"], "result": {**OFFERED, **HINTS}}
            for each in messages
            if "id" in each
        ]
        if not events:
            return web.json_response(answers if isinstance(value, list) else answers[0])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": hello\r\n\r\nid: 1\r\ndata:\r\n\r\n")
        changed = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        parts = [changed, *answers]
        for number, part in enumerate(parts, 2):
            data = json.dumps(part, indent=1).replace("\n", "\r\ndata: ")
            block = f"event: message\r\nid: {number}\r\ndata: {data}\r\n\r\n".encode()
            for at in range(0, len(block), 50):
                await response.write(block[at : at + 50])
        return response

    return answer


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The messages in a stream of events."""
    found = []
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [each[5:].strip() for each in block.split(b"\n") if each.startswith(b"data:")]
        if data := b"\n".join(lines).strip():
            found.append(orjson.loads(data))
    return found


async def test_who_sees_a_server_by_the_uri_of_a_resource_reads_that(
    tmp_path: Path, server: FaultyServer
) -> None:
    server.handler = offering()
    scopes = {**SECTIONS["scopes"], "some": {"verbs": ["call"], "resources": ["docs:///public/*"]}}
    async with guarded(tmp_path, {**SECTIONS, "scopes": scopes}, gateway=True) as ask:
        document = {"resources": [{"uri": "docs:///public/a", "name": "A"}]}
        body = leased("a", name="gate", url=server.url, document=document)
        assert (await ask("POST", "/servers", body, headers=bearer("operator"))).status == 201
        employee = bearer("employee")
        seen = (await ask("GET", "/servers", headers=employee)).json["servers"]
        assert [each["id"] for each in seen] == ["a"]
        read = request("resources/read", uri="docs:///public/a")
        assert (await ask("POST", PATH, read, headers=employee)).status == 200
        read = request("resources/read", uri="docs:///secret/a")
        reply = await ask("POST", PATH, read, headers=employee)
        assert reply.json["error"]["code"] == -32002


async def test_what_a_caller_may_not_see_is_not_there(tmp_path: Path, server: FaultyServer) -> None:
    async with gate(tmp_path, server.url) as ask:
        for method in ("POST", "GET", "DELETE"):
            body = request("tools/list") if method == "POST" else None
            fixed = {**bearer("admin"), "X-Request-Id": "same"}
            hidden = await ask(method, PATH, body, headers=fixed)
            absent = await ask(method, "/gateway/gone/mcp", body, headers=fixed)
            assert hidden.status == absent.status == 404
            same = [each.body.replace(b"gone", b"gate") for each in (hidden, absent)]
            assert same[0] == same[1]
            session = {**fixed, SESSION: "a.b.c"}
            hidden = await ask(method, PATH, body, headers=session)
            absent = await ask(method, "/gateway/gone/mcp", body, headers=session)
            assert hidden.status == absent.status == 404
        seen_only = await ask("POST", PATH, request("tools/list"), headers=bearer("reader"))
        assert seen_only.status == 403
        assert seen_only.json["needs"] == "call"
        assert (await ask("POST", PATH, request("tools/list"))).status == 401
    assert server.requests == []


async def test_a_server_that_is_seen_and_not_called_is_refused(
    tmp_path: Path, server: FaultyServer
) -> None:
    scopes = {**SECTIONS["scopes"], "sees": {"verbs": ["read"], "names": ["gate"]}}
    roles = {**SECTIONS["roles"], "admin": "others sees"}
    sections = {**SECTIONS, "scopes": scopes, "roles": roles}
    async with guarded(tmp_path, sections, gateway=True) as ask:
        body = leased("a", name="gate", url=server.url)
        await ask("POST", "/servers", body, headers=bearer("operator"))
        reply = await ask("POST", PATH, request("tools/list"), headers=bearer("admin"))
        assert reply.status == 403
        assert "no right to call 'gate'" in reply.json["error"]["message"]
        assert 'error="insufficient_scope"' in reply.headers["WWW-Authenticate"]
    assert server.requests == []


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
async def test_lists_have_what_the_caller_may_call(
    tmp_path: Path, server: FaultyServer, events: bool, version: str
) -> None:
    server.handler = offering(events)
    async with gate(tmp_path, server.url) as ask:
        for method, member in LISTS.items():
            more = {"MCP-Protocol-Version": version, "Accept-Encoding": "gzip"}
            more |= {"Mcp-Method": method} if version > "2026" else {}
            whole = await ask("POST", PATH, request(method), headers=more | bearer("manager"))
            assert b"drop_all" in whole.body and b"public" in whole.body
            reply = await ask("POST", PATH, request(method), headers=more | bearer("employee"))
            assert reply.status == 200
            assert b"drop_all" not in reply.body
            messages = events_of(reply.body) if events else [reply.json]
            result = messages[-1]["result"]
            # A cache that others share must not give them this caller's part of it.
            assert (len(result[member]), result["cacheScope"]) == (1, "private")
            assert (result["nextCursor"], result["ttlMs"]) == ("2", 60_000)
            if events:  # what is no list comes as it is
                assert messages[0]["method"] == "notifications/tools/list_changed"
                assert reply.body.startswith(b": hello\r\n\r\nid: 1\r\ndata:\r\n\r\n")
                assert b"id: 3\n" in reply.body
    assert {each.headers["Accept-Encoding"] for each in server.requests[1::2]} == {"identity"}
    assert {each.headers["Accept-Encoding"] for each in server.requests[::2]} == {"gzip"}


async def test_what_a_stream_replays_is_filtered_too(tmp_path: Path, server: FaultyServer) -> None:
    async def replay(request: web.Request) -> web.Response:
        told = {"jsonrpc": "2.0", "id": 1, "result": OFFERED}
        updates = [
            {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}
            for uri in ("docs:///secret/drop_all", "docs:///public/a")
        ]
        body = b"".join(b"id: 7\ndata: %b\n\n" % orjson.dumps(each) for each in (told, *updates))
        return web.Response(body=body.removesuffix(b"\n\n"), content_type="text/event-stream")

    server.handler = replay
    async with gate(tmp_path, server.url) as ask:
        reply = await ask("GET", PATH, headers={"Last-Event-ID": "3", **bearer("employee")})
        assert b"drop_all" not in reply.body
        first, second = events_of(reply.body)
        assert [each["name"] for each in first["result"]["tools"]] == ["get_ticket"]
        assert second["params"]["uri"] == "docs:///public/a"
        assert reply.body.count(b"id: 7") == 3


async def test_a_batch_is_judged_and_filtered(tmp_path: Path, server: FaultyServer) -> None:
    server.handler = offering()
    async with gate(tmp_path, server.url) as ask:
        fine = [request("tools/list", 1), request("tools/call", "two", name="get_ticket")]
        reply = await ask("POST", PATH, fine, headers=bearer("employee"))
        assert [each["id"] for each in reply.json] == [1, "two"]
        assert b"drop_all" not in reply.body
        count = len(server.requests)
        mixed = [*fine, request("tools/call", 3, name="drop_all"), {"jsonrpc": "2.0", "id": 9,
                 "result": {}}]  # fmt: skip
        reply = await ask("POST", PATH, mixed, headers=bearer("employee"))
        assert reply.status == 200
        errors = {each["id"]: each["error"]["message"] for each in reply.json}
        assert errors.keys() == {1, "two", 3}
        assert errors[3] == "Unknown tool: drop_all"
        assert "not sent" in errors[1]
        assert len(server.requests) == count


CALL = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%s}}'
JSON = {"Content-Type": "application/json"}
DROP, GET = '"drop_all"', '"get_ticket"'


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (CALL % DROP, -32602),
        (CALL % '"drop\\u005fall"', -32602),
        (CALL % '"\\ud800"', -32602),
        (json.dumps(request("prompts/get", name="drop_all")), -32602),
        (json.dumps(request("resources/read", uri="docs:///secret/x")), -32002),
        (json.dumps(request("resources/read", uri="docs:///public/../secret/x")), -32002),
        (json.dumps(request("resources/read", uri="docs:///public/%252e%2E/secret/x")), -32002),
        (json.dumps(request("resources/read", uri="docs:///public/..\\secret")), -32002),
        (json.dumps(request("resources/subscribe", uri="docs:///secret/x")), -32002),
        (json.dumps(request("resources/unsubscribe", uri="docs:///secret/x")), -32002),
        (
            json.dumps(
                request("completion/complete", ref={"type": "ref/prompt", "name": "drop_all"})
            ),
            -32602,
        ),
        (
            json.dumps(
                request("completion/complete", ref={"type": "ref/resource", "uri": "docs:///s"})
            ),
            -32002,
        ),
        (json.dumps(request("completion/complete", ref={"type": "ref/else"})), -32602),
        (
            json.dumps(
                request(
                    "subscriptions/listen",
                    notifications={"resourceSubscriptions": ["docs:///public/a", "docs:///s"]},
                )
            ),
            -32002,
        ),
        *(
            (json.dumps(request("skills/get", uri=uri)), -32602)
            for uri in (
                "skill://desk/drop_all/SKILL.md",
                "skill://desk/drop_all/SKILL.md?/refunds/SKILL.md",
                "skill://desk/drop_all/SKILL.md#/refunds/SKILL.md",
                "skill://desk%2Fdrop_all%2FSKILL.md%00/refunds/SKILL.md",
                "skill://desk/drop_all\\refunds/SKILL.md",
                "skill://desk/refunds/../drop_all/SKILL.md",
                "skill://desk/refunds/SKILL.md/",
                "refunds/SKILL.md",
            )
        ),
        (json.dumps(request("resources/read", uri="skill://desk/refunds/SKILL.md")), -32002),
        (json.dumps(request("resources/directory/read", uri="docs:///secret")), -32002),
        (json.dumps(request("tasks/list")), -32601),
        (json.dumps(request("debug/everything")), -32601),
        # What servers may read in another way than the gateway.
        (CALL % f'{GET},"name":{DROP}', -32700),
        (CALL % f'{GET},"Name":{DROP}', -32600),
        (CALL % f'{GET},"n\\u0061me":{DROP}', -32700),
        ((CALL % GET).replace('"params"', '"Params":{"name":"drop_all"},"params"'), -32600),
        ((CALL % GET).replace('"params"', '"param\u017f":{"name":"drop_all"},"params"'), -32600),
        ((CALL % GET).replace('"method"', '"METHOD":"x","method"'), -32600),
        (CALL % f"[{DROP}]", -32600),
        (CALL % "null", -32600),
        ("[]", -32600),
        (f"[[{CALL % DROP}]]", -32600),
        (CALL % f"{GET}, /* {DROP} */", -32700),
        (CALL % "NaN", -32700),
        ("\ufeff" + CALL % GET, -32700),
        ((CALL % GET) + CALL % DROP, -32700),
        ("[" * 5000, -32700),
        ("", -32700),
    ],
)
async def test_what_is_not_the_callers_is_never_sent(
    tmp_path: Path, server: FaultyServer, body: str, code: int
) -> None:
    async with gate(tmp_path, server.url) as ask:
        headers = {"Content-Type": "application/json", **bearer("employee")}
        reply = await ask("POST", PATH, body.encode(errors="replace"), headers=headers)
        assert reply.json["error"]["code"] == code, reply.body
        assert reply.status == (400 if code in (-32700, -32600) else 200)
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": "get_ticket"}
        headers |= {"MCP-Protocol-Version": "2026-07-28"}
        modern = await ask("POST", PATH, body.encode(errors="replace"), headers=headers)
        assert modern.status in (400, 404)
        encoded = {**bearer("employee"), "Content-Encoding": "gzip"}
        packed = await ask("POST", PATH, gzip.compress(body.encode()), headers=encoded)
        assert packed.status == 415
    assert server.requests == []


@pytest.mark.parametrize(
    "asked",
    [
        request("skills/get", uri="skill://desk/refunds/SKILL.md"),
        request("skills/get", uri="skill://open/drop_all/SKILL.md"),
        request("resources/directory/read", uri="docs:///public/a"),
    ],
)
async def test_what_is_the_callers_is_sent_as_it_is(
    tmp_path: Path, server: FaultyServer, asked: dict[str, Any]
) -> None:
    server.handler = offering()
    async with gate(tmp_path, server.url) as ask:
        reply = await ask("POST", PATH, asked, headers=bearer("employee"))
        assert "error" not in reply.json
    assert len(server.requests) == 1


async def test_a_body_that_takes_long_to_judge_is_refused(
    tmp_path: Path, server: FaultyServer
) -> None:
    async with gate(tmp_path, server.url) as ask:
        for values, status in (
            ("[]," * 300_000, 413),
            (f'"{"x" * 900_000}",', 200),
            (f'"{"x" * 1_100_000}",', 413),
        ):
            body = (CALL % f'{GET},"arguments":{{"a":[{values}1]}}').encode()
            reply = await ask("POST", PATH, body, headers=JSON | bearer("employee"))
            assert reply.status == status
            assert reply.json["id"] == 1


async def test_a_notification_is_judged_and_not_answered(
    tmp_path: Path, server: FaultyServer
) -> None:
    async with gate(tmp_path, server.url) as ask:
        body = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "drop_all"}}
        reply = await ask("POST", PATH, body, headers=bearer("employee"))
        assert (reply.status, reply.body) == (202, b"")
        assert server.requests == []
        for fine in ({"jsonrpc": "2.0", "method": "notifications/initialized"},
                     {"jsonrpc": "2.0", "id": 4, "result": {}}):  # fmt: skip
            assert (await ask("POST", PATH, fine, headers=bearer("employee"))).json == fine
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"Mcp-Method": "tools/list"},
        {"Mcp-Method": "tools/call", "Mcp-Name": "drop_all"},
        {"Mcp-Name": "=?base64?ZHJvcF9hbGw=?="},
    ],
)
async def test_headers_that_say_something_else_than_the_body(
    tmp_path: Path, server: FaultyServer, headers: dict[str, str]
) -> None:
    async with gate(tmp_path, server.url) as ask:
        call = request("tools/call", name="get_ticket")
        reply = await ask("POST", PATH, call, headers=headers | bearer("employee"))
        assert reply.status == 400
        assert reply.json["error"]["code"] == -32020
        assert reply.json["id"] == 1
        named = {"Mcp-Name": "=?base64?Z2V0X3RpY2tldA==?="}
        assert (await ask("POST", PATH, call, headers=named | bearer("employee"))).status == 200
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "kind", "encoding", "status"),
    [
        (b'{"result": {"tools": [', "application/json", None, 502),
        (b'{"result": {}}', "application/json", "gzip", 502),
        (b"<p>nobody", "text/html", None, 200),
        (b"", "application/json", None, 200),
        (b'{"result": {"tools": [{"name": 7}, 8, {"name": "drop_all"}]}}', "text/plain", None, 200),
        (b'{"id": 123456789012345678901234567890}', "application/json", None, 200),
    ],
)
async def test_answers_that_cannot_be_filtered(
    tmp_path: Path, server: FaultyServer, body: bytes, kind: str, encoding: str | None, status: int
) -> None:
    async def answer(_: web.Request) -> web.Response:
        headers = {} if encoding is None else {"Content-Encoding": encoding}
        return web.Response(body=body, content_type=kind, headers=headers)

    server.handler = answer
    async with gate(tmp_path, server.url) as ask:
        reply = await ask("POST", PATH, request("tools/list"), headers=bearer("employee"))
        assert reply.status == status
        assert b"drop_all" not in reply.body
        if status == 200 and b"drop_all" not in body:
            assert reply.body == body


async def test_sessions_belong_to_their_caller(tmp_path: Path, server: FaultyServer) -> None:
    async def begin(request: web.Request) -> web.Response:
        return web.json_response({}, headers={SESSION: "its.own"})

    server.handler = begin
    async with gate(tmp_path, server.url) as ask:

        async def using(session: str, role: str) -> Reply:
            headers = {SESSION: session, **bearer(role)}
            return await ask("POST", PATH, request("ping"), headers=headers)

        begun = await ask("POST", PATH, request("initialize"), headers=bearer("employee"))
        session = begun.headers[SESSION]
        assert session.startswith("a.")
        assert session.endswith(".its.own")
        assert (await using(session, "employee")).status == 200
        assert server.requests[-1].headers[SESSION] == "its.own"
        count = len(server.requests)
        made_up = (session[:-1], session.upper(), *("a.its.own", "a..its.own", "a.x.its.own", "."))
        for other, role in [
            *((session, role) for role in ("manager", "operator", "registrar")),
            *((each, "employee") for each in made_up),
        ]:
            reply = await using(other, role)
            assert reply.status == 404, other
            assert "not one that the gateway gave you" in reply.json["error"]["message"]
        assert len(server.requests) == count

        # A change of the file is not the end of sessions that began before.
        path = tmp_path / "auth.yaml"
        write_auth_file(path, **SECTIONS, tokens={
            role: {"hash": hash_of(TOKENS[role]), "roles": role, "note": "new"} for role in ROLES
        })  # fmt: skip
        for _ in range(2):
            assert (await using(session, "employee")).status == 200


async def test_a_session_without_its_tag_is_none_of_anonymous_callers(
    tmp_path: Path, server: FaultyServer
) -> None:
    async def begin(request: web.Request) -> web.Response:
        return web.json_response({}, headers={SESSION: "its.own"})

    server.handler = begin
    async with gate(tmp_path, server.url) as ask:
        write_auth_file(tmp_path / "auth.yaml", **SECTIONS, anonymous="manager")

        async def admitted() -> bool:
            return (await ask("POST", PATH, request("ping"))).status == 200

        await until(admitted, timeout=10.0, what="anonymous callers being let in")
        for headers in (bearer("employee"), {}):
            begun = await ask("POST", PATH, request("initialize"), headers=headers)
            session = begun.headers[SESSION]
            for used, by in ((session, {}), ("a.its.own", {}), (session, bearer("employee"))):
                reply = await ask("POST", PATH, request("ping"), headers={SESSION: used, **by})
                assert reply.status == (200 if (used, by) == (session, headers) else 404)


ERAS: tuple[ConnectMode, ...] = ("auto", "legacy")


@pytest.mark.parametrize("mode", ERAS)
async def test_the_sdks_client_sees_and_calls_its_part(tmp_path: Path, mode: ConnectMode) -> None:
    async with gate(tmp_path, "http://127.0.0.1:9/mcp") as ask:
        await ask("DELETE", "/servers/a", headers=bearer("operator"))
        async with running(PROGRAM, "--who", "b") as server:
            names = {"tools": ["whoami", "echo"]}
            body = leased("b", name="gate", url=server.url, capabilities=names)
            await ask("POST", "/servers", body, headers=bearer("operator"))
            auth = httpx2.AsyncClient(headers=bearer("employee"))
            transport = streamable_http_client(ask.url + PATH, http_client=auth)
            async with auth, McpClient(transport, mode=mode) as mcp:
                assert [each.name for each in (await mcp.list_tools()).tools] == ["whoami"]
                result = await mcp.call_tool("whoami", {})
                assert result.content[0].text == "b"  # type: ignore[union-attr]
                with pytest.raises(MCPError, match="Unknown tool: echo"):
                    await mcp.call_tool("echo", {"text": "x"})
            counts = (await seen(server))["counts"]
            assert "authorization" not in (await seen(server))["headers"]
            assert counts["whoami"] == 1
