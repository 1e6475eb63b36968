"""Bad input: each gets one clear sentence and the right status, and loses nothing."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from tests.facade.harness import Client, Reply, leased
from tests.records import document

GOOD = {"name": "products", "url": "http://127.0.0.1:9"}


def is_problem(reply: Reply, status: int, words: str) -> None:
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"].startswith("application/problem+json")
    body = reply.json
    assert {"type", "title", "status", "detail", "instance"} <= body.keys()
    assert body["status"] == status
    assert words in body["detail"], body["detail"]
    assert "\n" not in body["detail"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b'{"name": "\xff\xfe"}', 400, "not JSON in UTF-8"),
        (b'{"name": "\\ud800"}', 400, "not JSON"),
        (b"[" * 60_000, 400, "not JSON"),
        (b"NaN", 400, "not JSON"),
        ([], 400, "is a JSON array"),
        ("text", 400, "is a JSON string"),
        (3, 400, "is a JSON number"),
        (False, 400, "is a JSON boolean"),
        (b"null", 400, "is a JSON null"),
        (b" " * (2**20 + 1), 413, "over the limit of 1,048,576 bytes"),
        (gzip.compress(b" " * (2**21), mtime=0), 413, "over the limit of 1,048,576 bytes"),
        (b"\x1f\x8bnothing", 400, "not the gzip data"),
        (gzip.compress(b'{"name": "x"}', mtime=0)[:-6], 400, "ends too early"),
        ({}, 422, "url: is missing"),
        ({"url": "http://127.0.0.1:9"}, 422, "name"),
        (GOOD | {"name": "Product Catalog"}, 422, "goes into 'title'"),
        (GOOD | {"name": ""}, 422, "name"),
        (GOOD | {"name": 5}, 422, "name"),
        (GOOD | {"name": None}, 422, "name"),
        (GOOD | {"name": "x" * 64}, 422, "DNS label"),
        (GOOD | {"id": "../etc/passwd"}, 422, "id"),
        (GOOD | {"id": "A B"}, 422, "use 'a-b'"),
        (GOOD | {"url": "not a url"}, 422, "write an absolute URL"),
        (GOOD | {"url": "ftp://example.com"}, 422, "http"),
        (GOOD | {"url": ["http://a"]}, 422, "endpoint.url"),
        (GOOD | {"url": "http://user:secret@host/"}, 422, "keep credentials out"),
        (GOOD | {"url": "http://" + "h" * 3000}, 422, "2048"),
        (GOOD | {"endpoint": {"url": "http://other:1"}}, 422, "give one of the two"),
        (GOOD | {"endpoint": 7}, 422, "endpoint"),
        (GOOD | {"transport": "carrier-pigeon"}, 422, "transport"),
        (GOOD | {"transport": "stdio"}, 422, "stdio"),
        ({"name": "x", "command": "srv", "args": ["--token", "s3cr3t"]}, 422, "${NAME}"),
        (GOOD | {"tags": "products"}, 422, "tags"),
        (GOOD | {"tags": ["a"] * 10_000}, 422, "tags"),
        (GOOD | {"tags": ["Not A Label"]}, 422, "tags.0"),
        (GOOD | {"tags": ["a", "t" * 63]}, 422, "room for 62"),
        (GOOD | {"name": "n" * 63}, 422, "room for 62"),
        (GOOD | {"version": "two"}, 422, "semantic version"),
        (GOOD | {"healthUrl": "file:///etc/passwd"}, 422, "healthUrl"),
        (GOOD | {"auth": {"type": "oauth2"}}, 422, "tokenEndpoint"),
        (GOOD | {"auth": "none"}, 422, "auth"),
        (GOOD | {"description": "d" * 5000}, 422, "description"),
        (GOOD | {"metadata": {"k" * 300: "v"}}, 422, "metadata"),
        (GOOD | {"metadata": {"password": "hunter2"}}, 422, "metadata.password"),
        (GOOD | {"capabilities": "find"}, 422, "capabilities"),
        (GOOD | {"capabilities": [1, 2]}, 422, "capabilities"),
        (GOOD | {"capabilities": {"digest": "abc"}}, 422, "hexadecimal"),
        (GOOD | {"capabilities": ["t" * 250 + str(n) for n in range(1100)]}, 422, "262,144"),
        (GOOD | {"document": []}, 422, "not a JSON object"),
        (GOOD | {"document": {"tools": [1]}}, 422, "list of objects"),
        (GOOD | {"lease": 5}, 422, "lease"),
        (GOOD | {"lease": {}}, 422, "lease.ttl"),
        (GOOD | {"lease": {"ttl": True}}, 422, "lease.ttl"),
        (GOOD | {"lease": {"ttl": 0.5}}, 422, "1 s is the least"),
        (GOOD | {"lease": {"ttl": 10, "reapAfter": 5}}, 422, "lease.reapAfter"),
        (GOOD | {"lease": {"ttl": 1e9}}, 422, "lease.ttl"),
        (GOOD | {"lease": {"ttl": 10, "holder": 5}}, 422, "lease.holder"),
        (GOOD | {"lease": {"ttl": 10, "by": "magic"}}, 422, "lease.by"),
        (GOOD | {"lease": {"ttl": 9}, "health": {"status": "fine"}}, 422, "health.status"),
        (GOOD | {"lease": {"ttl": 9}, "health": {"status": []}}, 422, "health.status"),
        (GOOD | {"lease": {"ttl": 9}, "health": "ok"}, 422, "health"),
        (GOOD | {"lease": {"ttl": 9}, "health": {"since": 5}}, 422, "health.since"),
    ],
)
async def test_a_post_that_cannot_be(ask: Client, body: Any, status: int, words: str) -> None:
    is_problem(await ask("POST", "/servers", body), status, words)
    assert (await ask("GET", "/servers?status=all")).ids == []


async def test_deep_nesting_is_refused(ask: Client) -> None:
    deep = b"[" * 500 + b"]" * 500
    for field in (b"metadata", b"x-other", b"icons", b"tags", b"document"):
        body = b'{"name":"x","url":"http://127.0.0.1:9","%b":%b}' % (field, deep)
        assert (await ask("POST", "/servers", body)).status == 422, field


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("tag=products", "known are tags, match"),
        ("status=alive", "healthy, degraded, draining, down, quarantined, all"),
        ("match=most", "any, all"),
        ("transport=smoke", "streamable-http, sse, websocket, stdio"),
    ],
)
async def test_unknown_filters(ask: Client, query: str, words: str) -> None:
    for path in ("/servers", "/events"):
        is_problem(await ask("GET", f"{path}?{query}"), 400, words)


async def test_what_is_not_there(ask: Client) -> None:
    is_problem(await ask("GET", "/nowhere"), 404, "there is nothing at /nowhere")
    for method, path in (
        ("GET", "/servers/nobody"),
        ("GET", "/servers/nobody/capabilities"),
        ("DELETE", "/servers/nobody"),
        ("PUT", "/servers/nobody"),
        ("POST", "/servers/nobody/heartbeat"),
        ("POST", "/servers/nobody/drain"),
        ("GET", "/servers/..%2F..%2Fetc"),
        ("GET", "/servers/%00"),
    ):
        body = GOOD if method == "PUT" else None
        is_problem(await ask(method, path, body), 404, "there is no server with id")
    is_problem(await ask("GET", f"/documents/{'0' * 64}"), 404, "no capability document")
    is_problem(await ask("GET", "/documents/short"), 404, "no capability document")


async def test_methods_that_are_not_for_it(ask: Client) -> None:
    reply = await ask("PATCH", "/servers")
    is_problem(reply, 405, "use GET, HEAD, OPTIONS, POST")
    assert reply.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.slow
async def test_documents_that_are_not_what_they_say(ask: Client) -> None:
    good = document("find")
    path = f"/documents/{good.digest}"
    is_problem(await ask("PUT", path, b"{}"), 422, "the capability document's digest is")
    is_problem(await ask("PUT", path, b"nonsense"), 422, "not JSON")
    is_problem(await ask("PUT", path, good.compressed()[:-9]), 400, "ends too early")
    is_problem(await ask("PUT", "/documents/xyz", b"{}"), 422, "is no digest")
    encoded = await ask("PUT", path, b"x", headers={"Content-Encoding": "br"})
    is_problem(encoded, 415, "send gzip or none")
    bomb = gzip.compress(b" " * (17 * 2**20))
    is_problem(await ask("PUT", path, bomb), 413, "over the limit of 16,777,216 bytes")
    is_problem(await ask("PUT", path, b" " * (17 * 2**20)), 413, "16,777,216 bytes")


async def test_a_put_cannot_change_the_id(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    is_problem(await ask("PUT", "/servers/a", leased("b")), 422, "an id cannot change")
    is_problem(await ask("PUT", "/servers/a", b"[]"), 400, "JSON array")
    is_problem(await ask("POST", "/servers/a/heartbeat", b"[]"), 400, "JSON array")
    is_problem(await ask("POST", "/servers/a/heartbeat", {"status": "x"}), 422, "health.status")
    is_problem(await ask("POST", "/servers/a/heartbeat", {"holder": 5}), 422, "holder")
    is_problem(await ask("DELETE", "/servers/a?holde=x"), 400, "known are holder")
    assert (await ask("GET", "/servers")).ids == ["a"]


async def test_a_body_that_does_not_come() -> None:
    import asyncio

    from tests.facade.harness import served

    async with served(body_timeout=0.3) as ask:
        host, port = ask.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /servers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()
        assert (await ask("GET", "/health")).status == 200
