"""The gateway's own credentials: by name and origin, from a file that is followed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.gateway.credentials import follow, schema
from tests.facade.gateway.conftest import list_it
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import served
from tests.facade.mcp.wire import modern
from tests.mcp_discovery.client.test_credentials import legacy
from tests.stores.waiting import until

PATH = "/gateway/gate/mcp"
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "pay"}}


def write(path: Path, *servers: Any) -> str:
    path.write_text(yaml.safe_dump({"servers": list(servers)}))
    return str(path)


@asynccontextmanager
async def gate(tmp_path: Path, entry: Callable[[str], Any], **more: Any) -> AsyncIterator[Any]:
    """A facade with credentials for a server, that server, and another one of its name."""
    async with faulty() as server, faulty() as other:
        server.handler = other.handler = legacy
        file = write(tmp_path / "credentials.yaml", entry(server.url))
        async with served(gateway=True, gateway_credentials=file, **more) as ask:
            names = {"tools": ["pay"]}
            await list_it(ask, "real", server.url, capabilities=names)
            yield ask, server, other


def sent(server: FaultyServer, name: str = "Authorization") -> str | None:
    return server.requests[-1].headers.get(name)


async def test_they_are_for_a_name_and_an_origin(tmp_path: Path) -> None:
    def entry(url: str) -> Any:
        return {
            "names": "ga*",
            "origins": url,
            "token": "secret-token",
            "headers": {"X-Api-Key": "secret-key"},
        }

    async with gate(tmp_path, entry) as (ask, server, other):
        mine = {"Authorization": "Bearer mine", "X-Api-Key": "mine"}
        assert (await ask("POST", PATH, CALL, headers=mine)).status == 200
        assert sent(server) == "Bearer secret-token"
        assert sent(server, "X-Api-Key") == "secret-key"
        # Under the name, and somewhere else.
        await ask("DELETE", "/servers/real")
        await list_it(ask, "evil", other.url)
        assert (await ask("POST", PATH, CALL)).status == 200
        assert sent(other) is None
        assert sent(other, "X-Api-Key") is None
        # Somewhere else under another name.
        body = {"id": "x", "name": "other", "url": server.url, "lease": {"ttl": 60}}
        await ask("POST", "/servers", body)
        await ask("POST", "/gateway/other/mcp", CALL)
        assert sent(server) is None


async def test_a_token_that_was_rotated_is_read_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    wanted = ["Bearer old"]

    async def picky(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") not in wanted:
            return web.Response(status=401)
        return await legacy(request)

    def entry(url: str) -> Any:
        return {"names": "gate", "origins": url, "token": {"file": "token"}}

    async with gate(tmp_path, entry) as (ask, server, _):
        server.handler = picky
        assert (await ask("POST", PATH, CALL)).status == 200
        token.write_text("new\n")
        wanted[:] = ["Bearer new"]
        reply = await ask("POST", PATH, CALL)  # without a failed call
        assert (reply.status, reply.json["id"]) == (200, 7)
        wanted[:] = ["Bearer newest"]
        reply = await ask("POST", PATH, CALL)
        assert reply.status == 502
        assert "--gateway-credentials" in reply.json["error"]["message"]


@pytest.mark.slow
async def test_a_change_of_the_file_is_followed(tmp_path: Path) -> None:
    def entry(url: str) -> Any:
        return {"names": "gate", "origins": url, "token": "first"}

    async with gate(tmp_path, entry) as (ask, server, _):
        await ask("POST", PATH, CALL)
        write(tmp_path / "credentials.yaml", {**entry(server.url), "token": "second"})

        async def other() -> bool:
            await ask("POST", PATH, CALL)
            return sent(server) == "Bearer second"

        await until(other, timeout=20, what="the other token being sent")


async def test_calls_of_call_tool_have_them_too(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    wanted = ["Bearer old"]

    async def picky(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") not in wanted:
            return web.Response(status=401)
        return await legacy(request)

    def entry(url: str) -> Any:
        return {"names": "gate", "origins": url, "token": {"file": str(token)}}

    async with gate(tmp_path, entry, mcp_call_tool=True) as (ask, server, other):
        server.handler = picky
        params = {"name": "call_tool", "arguments": {"name": "pay", "timeout": 10}}
        for word in ("old", "new"):
            token.write_text(word)
            wanted[:] = [f"Bearer {word}"]
            reply = await modern(ask, "tools/call", params)
            assert reply.json["result"]["content"][0]["text"] == "paid"
        await list_it(ask, "evil", other.url, capabilities={"tools": ["pay"]})
        await ask("DELETE", "/servers/real")
        reply = await modern(ask, "tools/call", params)
        assert reply.json["result"]["content"][0]["text"] == "paid"
        assert {each.headers.get("Authorization") for each in other.requests} == {None}


FINE = {"names": "payments-*", "origins": "https://*.example.com", "token": "x"}


@pytest.mark.parametrize(
    ("servers", "says"),
    [
        ([{**FINE, "origins": "https://*"}], "any host at all"),
        ([{**FINE, "origins": []}], "servers.0.origins"),
        ([{**FINE, "origin": "https://a.example"}], "servers.0.origin is not known"),
        ([{"names": "a", "origins": "https://a.example"}], "neither a token nor headers"),
        ([{**FINE, "token": {"file": "a", "env": "b"}}], "one of file and env"),
        ([{**FINE, "token": {"file": "no-such-file"}}], "no-such-file"),
        ([{**FINE, "token": {"env": "NO_SUCH_VARIABLE_HERE"}}], "NO_SUCH_VARIABLE_HERE is not set"),
        ([{**FINE, "token": "a\nb"}], "no HTTP header carries"),
        ([{**FINE, "headers": {"Host": "x"}}], "'Host' is no header for credentials"),
        ([{**FINE, "headers": {"Authorization": "x"}}], "give one of them"),
        (["x"], "servers.0"),
    ],
)
def test_what_the_file_may_not_say(tmp_path: Path, servers: list[Any], says: str) -> None:
    file = write(tmp_path / "credentials.yaml", *servers)
    with pytest.raises(InvalidInputError) as told:
        follow(file)
    assert says in str(told.value)
    assert "credentials.yaml" in str(told.value)


def test_the_schema_fits(tmp_path: Path) -> None:
    Draft202012Validator.check_schema(schema())
    fits = Draft202012Validator(schema())
    fits.validate({"servers": [FINE]})
    follow(write(tmp_path / "credentials.yaml", FINE))
    with pytest.raises(ValidationError):
        fits.validate({"servers": [{**FINE, "more": 1}]})
