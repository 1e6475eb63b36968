"""No body below its limit holds up the event loop, whichever operation reads it.

What is measured is the time that the loop's own thread works without a pause: it does not depend
on what else this machine does.
"""

from __future__ import annotations

import asyncio
import gc
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from mcp_discovery.facade.app import OPERATIONS
from mcp_discovery.facade.run import _SERVING
from tests.facade.harness import Client, leased, served

#: The promise is 50 ms; a garbage collection may fall into it, and the client is in this loop, too.
_MOST_SECONDS = 0.1
_SIZE = 900_000
_JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def _long(text: str) -> str:
    return text * (_SIZE // len(text.encode()))


def _args(text: str) -> list[str]:
    return [(text * 4096)[:4090]] * 220


def _bodies() -> Iterator[tuple[str, Any]]:
    server: dict[str, Any] = {"name": "a", "url": "http://127.0.0.1:1/mcp", "protocol": "http"}
    server["endpoint"] = {"url": server["url"]}
    stdio = {"transport": "stdio", "command": "x"}
    words = [f"a word {n}" for n in range(50_000)]
    yield "tags", server | {"tags": words}
    yield "names", server | {"capabilities": [f"t{n}" for n in range(60_000)]}
    yield "tools", server | {"document": {"tools": [{"name": f"t{n}"} for n in range(30_000)]}}
    yield "flags", {"name": "a", "endpoint": stdio | {"args": _args("--token ")}}
    yield "shell words", {"name": "a", "endpoint": stdio | {"args": _args("'a b' ")}}
    yield "a shell word", {"name": "a", "endpoint": stdio | {"args": [_long("a b ")]}}
    yield "args", {"name": "a", "protocol": "stdio", "endpoint": {"command": "x", "args": words}}
    yield "metadata", server | {"metadata": {each: [] for each in words}}
    yield "members", dict.fromkeys(words, 1)
    yield "lists", server | {"x": [[]] * 60_000}
    yield "label", server | {"name": _long("a\u0301\u0316")[:150_000]}
    yield "version", server | {"version": "1.0.0-" + _long("a.")}
    yield "host", server | {"url": "http://" + _long("ü.")[:300_000]}
    yield "tokens", server | {"x": _long("-eyJaaaaaaaa")}
    yield "filters", {"filters": {"version": [f"^{n}.0 || >={n}" for n in range(30_000)]}}
    yield "outcomes", {"outcomes": [{"id": "a", "success": True, "capability": "x" * 250}] * 1000}
    yield "import", {"connections": [{"name": f"a{n}", "endpoint": "x"} for n in range(15_000)]}


_BODIES = {name: orjson.dumps(body) for name, body in _bodies()}


async def _longest_stall(ask: Client, method: str, path: str, data: bytes) -> float:
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - began)

    ticking = asyncio.create_task(tick())
    try:
        reply = await ask(method, path, data, headers=_JSON)
        assert reply.status < 500, reply.body
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
    return longest


@pytest.fixture(autouse=True)
def _collected_as_when_serving() -> Iterator[None]:
    """The garbage collector as the command sets it: it looks at nothing that was there before."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_SERVING)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def _reading() -> list[tuple[str, str]]:
    found = {
        (each.method, re.sub(r"\{\w+\}", "a", each.path.replace("{digest}", "0" * 64)))
        for each in OPERATIONS
        if each.body is not None and each.group != "platform"
    }
    return sorted({*found, ("POST", "/mcp")})


@pytest.mark.parametrize(("method", "path"), _reading())
async def test_no_body_holds_up_the_loop(method: str, path: str) -> None:
    assert {name for name, data in _BODIES.items() if len(data) > 2**20} == set()
    stalls = {}
    async with served(first_probe=0.01, probe_interval=600.0) as ask:
        await ask("POST", "/servers", leased("a", lease={"holder": "h" * 16, "ttl": 60}))
        for name, data in _BODIES.items():
            stalls[name] = await _longest_stall(ask, method, path, data)
    assert {k: f"{v * 1000:.0f} ms" for k, v in stalls.items() if v > _MOST_SECONDS} == {}


async def test_calls_of_mcp_tools_do_not_either(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", capabilities=["find"]))
    stalls = {}
    for tool in ("find_servers", "find_tools", "describe_tool", "nothing"):
        for text in (_long("tool "), _long("a"), _long("ﷺ")):
            arguments = {"query": text, "name": text, "tags": [text], "version": text}
            call = {"name": tool, "arguments": arguments}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
            stalls[tool, text[:1]] = await _longest_stall(ask, "POST", "/mcp", orjson.dumps(body))
    assert max(stalls.values()) < _MOST_SECONDS, stalls
