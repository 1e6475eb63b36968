"""Bad input: one clear sentence each, the right status, and nothing lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.facade.connections.bodies import files, ids, register
from tests.facade.harness import Client, Reply

STDIO = files()["endpoint"]


def is_problem(reply: Reply, status: int, words: str) -> None:
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"].startswith("application/problem+json")
    assert words in reply.json["detail"], reply.json["detail"]
    assert "\n" not in reply.json["detail"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b'{"name": "\\ud800"}', 400, "not JSON"),
        (b" " * (2**20 + 1), 413, "over the limit"),
        ([], 400, "JSON array"),
        ({}, 422, "name: is missing"),
        ({"name": "a"}, 422, "endpoint: is missing"),
        (files(name="Filesystem MCP"), 422, "use 'filesystem-mcp'"),
        (files(name=5), 422, "name: is not text"),
        (files(id="../etc"), 422, "id: '../etc' is not a DNS label"),
        (files(type="sever"), 422, "type: is not one of 'server' or 'client'"),
        (files(protocol="grpc"), 422, "protocol: is not one of"),
        (files(protocol="http"), 422, "has a url and no command"),
        (files(endpoint=STDIO | {"transport": "sse"}), 422, "the endpoint's transport is 'sse'"),
        (files(endpoint=7), 422, "endpoint: is not an object or text"),
        (files(endpoint={}), 422, "neither a command nor a url"),
        (files(endpoint={"commnad": "npx"}), 422, "did you mean 'command'"),
        (files(endpoint={"command": "npx", "args": "-y"}), 422, "endpoint.args: is not a list"),
        (files(endpoint={"command": "npx", "args": [1]}), 422, "endpoint.args.0: is not text"),
        (files(endpoint=STDIO | {"url": "http://a"}), 422, "no url"),
        (files(protocol=None, endpoint="not a url"), 422, "write an absolute URL"),
        (files(protocol=None, endpoint="ws://"), 422, "write an absolute URL"),
        (files(protocol=None, endpoint="http://[::1"), 422, "is not a URL"),
        (files(endpoint={"command": "x", "args": ["--token", "s3cr3t"]}), 422, "${NAME}"),
        (files(endpoint={"command": "x", "args": ["API_KEY=s3cr3t"]}), 422, "${NAME}"),
        (files(metadata={"password": "hunter2"}), 422, "metadata.password"),
        (files(metadata={"a": [1]}), 422, "metadata.a: is not text"),
        (files(metadata=[]), 422, "metadata: is not an object"),
        (files(metadata={str(n): "x" for n in range(65)}), 422, "metadata: "),
        (files(capabilities="read"), 422, "capabilities: is not a list"),
        (files(capabilities=[""]), 422, "capabilities.0: "),
        (files(capabilities=[{"nam": "read"}]), 422, "capabilities.0"),
        (files(capabilities=[{"name": "a", "schema": 5}]), 422, "capabilities.0.schema"),
        (files(tags=["Not A Label"]), 422, "tags.0"),
        (files(tags=["a"] * 10_000), 422, "tags: "),
        (files(healthCheck={"interval": 0}), 422, "healthCheck.interval"),
        (files(healthCheck={"interval": "30"}), 422, "healthCheck.interval: is not a number"),
        (files(healthCheck={"timeout": 0}), 422, "healthCheck.timeout"),
        (files(healthCheck={"timeout": 10**9}), 422, "healthCheck.timeout"),
        (files(healthCheck={"enabled": "yes"}), 422, "healthCheck.enabled: is not true or false"),
        (files(healthCheck={"inteval": 5}), 422, "did you mean 'interval'"),
        (files(status="error"), 422, "status: is not one of 'active' or 'idle'"),
        (files(version="two"), 422, "semantic version"),
        (files(weight=-1), 422, "weight"),
        (files(weight=1.5), 422, "weight: is not a whole number"),
        (files(capabilites=["read"]), 422, "did you mean 'capabilities'"),
        (files(lease={"ttl": 10}), 422, "lease: is not known"),
        ({"name": "a", "endpoint": "http://169.254.169.254/"}, 422, "169.254.169.254"),
    ],
)
async def test_a_connection_that_cannot_be(ask: Client, body: Any, status: int, words: str) -> None:
    is_problem(await ask("POST", "/connections", body), status, words)
    assert await ids(ask) == []


async def test_deep_nesting_is_refused(ask: Client) -> None:
    deep = b"[" * 500 + b"]" * 500
    for field in (b"metadata", b"capabilities", b"endpoint", b"icons", b"auth", b"other"):
        body = b'{"name":"x","endpoint":"http://127.0.0.1:9","%b":%b}' % (field, deep)
        assert (await ask("POST", "/connections", body)).status == 422, field


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"statsu": "idle"}, "did you mean 'status'"),
        ({"name": "other"}, "name: is not known"),
        ({"status": "disconnected"}, "status: is not one of 'active' or 'idle'"),
        ({"status": []}, "status: is not one of"),
        ({"metadata": {"maintenance": {}}}, "metadata.maintenance: is not text"),
        ({"healthCheck": {"interval": 0.5}}, "healthCheck.interval"),
        ({"healthCheck": 5}, "healthCheck: is not an object"),
        ({"tags": ["A B"]}, "tags.0"),
        ({"capabilities": [5]}, "capabilities.0: is not"),
    ],
)
async def test_a_patch_that_cannot_be(ask: Client, body: Any, words: str) -> None:
    id = await register(ask, files())
    before = (await ask("GET", f"/servers/{id}")).json
    is_problem(await ask("PATCH", f"/connections/{id}", body), 422, words)
    assert (await ask("GET", f"/servers/{id}")).json == before


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"capabilities": "read"}, "capabilities: is not a list"),
        ({"capabilities": [5]}, "capabilities.0: is not text"),
        ({"capabilities": ["x"] * 257}, "capabilities: "),
        ({"filter": {}}, "did you mean 'filters'"),
        ({"filters": {"minUptim": 1}}, "did you mean 'minUptime'"),
        ({"filters": {"minUptime": -1}}, "filters.minUptime"),
        ({"filters": {"minUptime": "1h"}}, "filters.minUptime: is not a number"),
        ({"filters": {"status": "healthy"}}, "filters.status: is not one of"),
        ({"filters": {"status": ["active", "x"]}}, "filters.status.1: is not one of"),
        ({"filters": {"protocol": "sse"}}, "filters.protocol: is not one of"),
        ({"filters": {"version": "newest"}}, "filters.version: is no range"),
        ({"loadBalancing": {"strategy": "best"}}, "loadBalancing.strategy: is not one of"),
        ({"loadBalancing": {"maxConnections": 0}}, "loadBalancing.maxConnections"),
        ({"loadBalancing": {"maxConnections": 1.5}}, "loadBalancing.maxConnections: is not a wh"),
        ({"loadBalancing": {"maxConnections": True}}, "loadBalancing.maxConnections"),
        ({"loadBalancing": {"strategy": "consistent-hash"}}, "loadBalancing.key: is missing"),
        ({"loadBalancing": {"strategy": "random", "key": "u"}}, "means nothing to random"),
    ],
)
async def test_a_search_that_cannot_be(ask: Client, body: Any, words: str) -> None:
    await register(ask, files())
    is_problem(await ask("POST", "/connections/discover", body), 422, words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "connectionIds: is missing"),
        ({"connectionIds": "a"}, "connectionIds: is not a list"),
        ({"connectionIds": [1]}, "connectionIds.0: is not text"),
        ({"connectionIds": ["a"] * 1001}, "connectionIds: "),
        ({"connectionIds": ["a"], "timeout": 0}, "timeout: "),
        ({"connectionIds": ["a"], "timeout": "5s"}, "timeout: is not a number"),
        ({"connectionIds": ["a"], "timeout": 61_000}, "timeout: "),
        ({"connectionId": ["a"]}, "connectionIds"),
    ],
)
async def test_a_batch_that_cannot_be(ask: Client, body: Any, words: str) -> None:
    is_problem(await ask("POST", "/connections/health-check/batch", body), 422, words)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("stauts=active", "did you mean 'status'"),
        ("status=healthy", "use one of active, idle, disconnected, error"),
        ("protocol=sse", "use one of stdio, http, websocket"),
        ("type=peer", "use one of server, client"),
        ("match=most", "use one of any, all"),
        ("limit=0", "no whole number from 1 to 1000"),
        ("limit=many", "no whole number from 1 to 1000"),
        ("cursor=elsewhere", "was not made here"),
        ("capability=%00", "control characters"),
        ("name=%FF", "no UTF-8"),
        ("tags=" + ",".join(f"t{number}" for number in range(1000)), "256 at most"),
    ],
)
async def test_unknown_filters(ask: Client, query: str, words: str) -> None:
    is_problem(await ask("GET", f"/connections?{query}"), 400, words)


async def test_what_is_not_there(ask: Client) -> None:
    for method, path, body in (
        ("GET", "/connections/nobody", None),
        ("GET", "/connections/..%2F..%2Fetc", None),
        ("GET", "/connections/%00", None),
        ("PATCH", "/connections/nobody", {"status": "idle"}),
        ("DELETE", "/connections/nobody", None),
        ("POST", "/connections/nobody/health-check", None),
    ):
        is_problem(await ask(method, path, body), 404, "there is no server with id")
    assert (await ask("PUT", "/connections/a", {})).status == 405
    assert (await ask("GET", "/connections/a/health-check")).status == 405
