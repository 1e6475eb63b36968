"""Bad input that any operation may get: each is refused as a problem, and none is a 500."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest

from mcp_discovery.facade.app import OPERATIONS
from tests.facade.harness import Client, leased


def concrete(path: str) -> str:
    return re.sub(r"\{\w+\}", "a", path)


def shape(path: str) -> str:
    """The type of errors: others have specified that of some paths."""
    if path.startswith("/ui/servers/"):  # what became of one that is not there is a page
        return "text/html; charset=utf-8"
    theirs = path.startswith(("/v0.1/", "/api/ard/", "/api/ask", "/api/platform/query"))
    return "application/json" if theirs else "application/problem+json"


def bodies() -> list[tuple[str, str]]:
    return [
        (each.method, concrete(each.path))
        for each in OPERATIONS
        if each.body is not None and each.group != "platform" and "{digest}" not in each.path
    ]


@pytest.mark.parametrize(("method", "path"), bodies())
async def test_bodies_of_the_wrong_kind(ask: Client, method: str, path: str) -> None:
    await ask("POST", "/servers", leased("a", capabilities=["a"]))
    for body, status in (
        (b"\x00", 400),
        (b'"\\ud800"', 400),
        (b'{"a": "\xed\xa0\x80"}', 400),
        (b"[1]", 400),
        (b'"text"', 400),
        (b"nul", 400),
        (b"{" * 2000, 400),
        # An import is allowed to be larger, and has too many values in it.
        (b"[" * (2**20 + 1), 413),
    ):
        reply = await ask(method, path, body)
        assert reply.status == status, (body[:20], reply.body)
        assert reply.headers["Content-Type"] == shape(path)
    reply = await ask(method, path, b"{}", headers={"Content-Encoding": "br"})
    assert reply.status == 415


@pytest.mark.parametrize(("method", "path"), bodies())
async def test_nul_in_every_text_of_a_body(ask: Client, method: str, path: str) -> None:
    await ask("POST", "/servers", leased("a", capabilities=["a"]))
    texts = "id", "name", "url", "description", "holder", "capability", "status", "reason"
    body = dict.fromkeys(texts, "a\x00b")
    reply = await ask(method, path, body)
    assert 400 <= reply.status < 500 or reply.status in (200, 204), reply.body


@pytest.mark.parametrize(
    "id",
    [
        "..%2F..%2Fetc%2Fpasswd",
        "%2e%2e",
        "a%2Fb",
        "%00",
        "%ff%fe",
        "a%0d%0aX:%20y",
        "a" * 5000,
        "{a}",
    ],
)
async def test_an_id_that_is_a_path(ask: Client, id: str) -> None:
    await ask("POST", "/servers", leased("a"))
    paths = {each.path for each in OPERATIONS if each.method == "GET" and "{" in each.path}
    for path in sorted(paths):
        reply = await ask.raw(re.sub(r"\{\w+\}", id, path))
        assert reply.status in (400, 404, 414), (path, reply.status)
        assert reply.headers["Content-Type"] == shape(path)
        assert "X" not in reply.headers


async def test_a_client_that_leaves_in_the_middle_of_an_answer(ask: Client) -> None:
    for number in range(40):
        await ask("POST", "/servers", leased(f"a{number}", description="x" * 4000))
    host, port = ask.url.removeprefix("http://").split(":")
    for path in ("/servers", "/tools", "/openapi.json", "/sd/prometheus"):
        with socket.create_connection((host, int(port))) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(None, connection.recv, 100)
    assert (await ask("GET", "/health")).status == 200
