"""No body below its limit holds up the event loop, whichever operation reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from mcp_discovery.facade.app import OPERATIONS
from tests.facade.harness import Client, leased, served
from tests.facade.mcp.wire import enveloped
from tests.facade.stalls import MOST_SECONDS, collected_as_when_serving, longest_stall, shortest

#: Of an import of many entries that are each as large as can be: some 30 ms, and the collector.
_MOST_OF_MANY = 0.1
_SIZE = 900_000
pytestmark = pytest.mark.usefixtures(collected_as_when_serving.__name__)
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


def _reading() -> list[tuple[str, str]]:
    found = {
        (each.method, re.sub(r"\{\w+\}", "a", each.path.replace("{digest}", "0" * 64)))
        for each in OPERATIONS
        if each.body is not None and each.group != "platform"
    }
    return sorted({*found, ("POST", "/mcp")})


@pytest.mark.parametrize(("method", "path"), _reading())
@pytest.mark.slow
async def test_no_body_holds_up_the_loop(method: str, path: str) -> None:
    assert {name for name, data in _BODIES.items() if len(data) > 2**20} == set()
    stalls = {}
    async with served(first_probe=0.01, probe_interval=600.0) as ask:
        await ask("POST", "/servers", leased("a", lease={"holder": "h" * 16, "ttl": 60}))
        for name, data in _BODIES.items():
            stalls[name] = await shortest(
                lambda _, data=data: longest_stall(ask, method, path, data, _JSON)  # type: ignore[misc]
            )
    assert {k: f"{v * 1000:.0f} ms" for k, v in stalls.items() if v > MOST_SECONDS} == {}


async def test_calls_of_mcp_tools_do_not_either(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", capabilities=["find"]))
    stalls = {}
    for tool in ("find_servers", "find_tools", "describe_tool", "nothing"):
        for text in (_long("tool "), _long("a"), _long("ﷺ")):
            arguments = {"name": text} if tool == "describe_tool" else {"q": text}
            body, headers = enveloped("tools/call", {"name": tool, "arguments": arguments})
            data = orjson.dumps(body)
            stalls[tool, text[:1]] = await shortest(
                lambda _, data=data, headers=headers: longest_stall(  # type: ignore[misc]
                    ask, "POST", "/mcp", data, headers
                )
            )
    assert max(stalls.values()) <= MOST_SECONDS, stalls


# -- what is accepted: the body is within each limit, and as large as these allow ----------------

_SHELL = ('"a b" ', "\"'$ ", "a ", "a=b ", "--token ${A} ", "\"'a b' c\" ", "a\\ b ", "x://a?b=c ")
_PROSE = ("a b ", "-eyJaaaaaaaa", "Bearer ", "-----BEGIN ", "a=b&", "${A}", "wwwwwwwwwwwwwwwwwwww ")


def _largest(text: str, seed: str) -> dict[str, Any]:
    """The members of a server whose arguments, or metadata, are as much as is accepted; what has
    another ``seed`` is equal in no member."""
    if text in _SHELL:
        args = [f"{seed} " + text * (110 // len(text)) + str(n) for n in range(256)]
        return {"endpoint": {"command": "x", "args": args}}
    metadata = {f"k{n}": f"http://{seed}?" + text * (4000 // len(text)) for n in range(60)}
    return {"endpoint": {"url": "http://127.0.0.1:1/mcp"}, "metadata": metadata}


def _replaced(text: str, seed: str) -> dict[str, Any]:
    return _server(text, seed, name="a") | {"id": "a"}


def _server(text: str, seed: str, name: str | None = None) -> dict[str, Any]:
    largest = _largest(text, seed)
    stdio = "command" in largest["endpoint"]
    kind = {"transport": "stdio"} if stdio else {}
    return {"name": name or seed} | largest | {"endpoint": largest["endpoint"] | kind}


def _connection(text: str, seed: str) -> dict[str, Any]:
    largest = _largest(text, seed)
    protocol = "stdio" if "command" in largest["endpoint"] else "http"
    return {"name": seed, "protocol": protocol} | largest


def _export(text: str, seed: str) -> dict[str, Any]:
    return {"connections": [_connection(text, f"{seed}-{n}") for n in range(40)]}


@pytest.mark.parametrize(
    ("method", "path", "make", "status", "most"),
    [
        ("POST", "/servers", _server, 201, MOST_SECONDS),
        ("PUT", "/servers/a", _replaced, 200, MOST_SECONDS),
        ("POST", "/connections", _connection, 201, MOST_SECONDS),
        ("POST", "/registry/import", _export, 200, _MOST_OF_MANY),
    ],
    ids=["posted", "put", "connected", "imported"],
)
@pytest.mark.slow
async def test_what_is_accepted_does_not_either(
    method: str, path: str, make: Callable[[str, str], Any], status: int, most: float
) -> None:
    async with served(first_probe=0.01, probe_interval=600.0) as ask:
        await ask("POST", "/servers", leased("a"))
        stalls = {}
        for at, text in enumerate((*_SHELL, *_PROSE)):

            async def once(number: int, at: int = at, text: str = text) -> float:
                data = orjson.dumps(make(text, f"s{at}-{number}"))
                return await longest_stall(ask, method, path, data, _JSON, wanted=status)

            stalls[text] = await shortest(once, most)
    assert {k: f"{v * 1000:.0f} ms" for k, v in stalls.items() if v > most} == {}
