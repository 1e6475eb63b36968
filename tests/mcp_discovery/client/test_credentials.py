"""Credentials of servers: they reach the origin that they are for, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from aiohttp import web

from mcp_discovery import Credentials, Discovery
from mcp_discovery.errors import DiscoveryError, InvalidInputError, NoReplicaError
from mcp_discovery.instance import Instance
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import Client, leased, served

TOOL = {"name": "pay", "inputSchema": {"type": "object"}}


async def legacy(request: web.Request) -> web.Response:
    """A server of the legacy era, in a few lines."""
    if request.method != "POST":
        return web.Response(status=405)
    message = await request.json()
    if "id" not in message:
        return web.Response(status=202)
    results: dict[str, Any] = {
        "initialize": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "pay", "version": "1"},
        },
        "tools/list": {"tools": [TOOL]},
        "tools/call": {"content": [{"type": "text", "text": "paid"}]},
    }
    if message["method"] not in results:
        error = {"code": -32601, "message": "no"}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error})
    result = results[message["method"]]
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})


@pytest.fixture
async def payments() -> AsyncIterator[FaultyServer]:
    async with faulty() as server:
        server.handler = legacy
        yield server


@pytest.fixture
async def evil() -> AsyncIterator[FaultyServer]:
    async with faulty() as server:
        server.handler = legacy
        yield server


@pytest.fixture
async def asked(payments: FaultyServer, evil: FaultyServer) -> AsyncIterator[Client]:
    """A facade that lists both under one name."""
    async with served() as ask:
        for id, server in (("real", payments), ("evil", evil)):
            names = {"tools": ["pay"]}
            await ask("POST", "/servers", leased(id, name="payments", url=server.url,
                                                 capabilities=names))  # fmt: skip
        yield ask


def given(server: FaultyServer, name: str = "Authorization") -> set[str | None]:
    """The values of a header in the requests that came there."""
    assert server.requests
    return {each.headers.get(name) for each in server.requests}


FORMS: list[Callable[[Credentials], Any]] = [
    lambda known: {"payments": known},
    lambda known: {"payments": [Credentials("other", "https://other.example"), known]},
    lambda known: lambda instance: known,
]


@pytest.mark.parametrize("form", FORMS)
async def test_who_has_the_name_elsewhere_gets_nothing(
    asked: Client,
    payments: FaultyServer,
    evil: FaultyServer,
    form: Callable[[Credentials], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = Credentials("secret-token", payments.url, headers={"X-Api-Key": "secret-key"})
    async with Discovery(asked.url, auth=form(known)) as discovery:
        for id in ("real", "evil"):
            assert not (await discovery.call("pay", {}, server=id)).is_error
    assert given(payments) == {"Bearer secret-token"}
    assert given(payments, "X-Api-Key") == {"secret-key"}
    assert given(evil) == {None}
    assert given(evil, "X-Api-Key") == {None}
    assert "evil is at" in caplog.text
    assert "are not sent there" in caplog.text
    assert "secret" not in caplog.text


async def test_a_redirect_takes_them_nowhere(
    asked: Client, payments: FaultyServer, evil: FaultyServer
) -> None:
    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(evil.url)

    payments.handler = elsewhere
    known = Credentials("secret-token", payments.url, headers={"X-Api-Key": "secret-key"})
    async with Discovery(asked.url, auth={"payments": known}, patience=0) as discovery:
        with pytest.raises(DiscoveryError):
            await discovery.call("pay", {}, server="real", timeout=5)
    assert given(payments) == {"Bearer secret-token"}
    for each in evil.requests:
        assert "Authorization" not in each.headers
        assert "X-Api-Key" not in each.headers


class Flow(httpx2.Auth):
    """What others wrote: it tries again with another token."""

    def auth_flow(self, request: httpx2.Request) -> Any:
        request.headers["Authorization"] = "Bearer old"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = "Bearer new"
            yield request


async def test_an_auth_of_others_is_used_at_its_origin(
    asked: Client, payments: FaultyServer, evil: FaultyServer
) -> None:
    async def picky(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer new":
            return web.Response(status=401)
        return await legacy(request)

    payments.handler = picky
    known = Credentials(Flow(), payments.url)
    async with Discovery(asked.url, auth={"payments": known}) as discovery:
        for id in ("real", "evil"):
            assert not (await discovery.call("pay", {}, server=id)).is_error
    assert given(payments) == {"Bearer old", "Bearer new"}
    assert given(evil) == {None}


@pytest.mark.parametrize(
    "auth",
    [{"payments": "token"}, {"payments": Flow()}, {"payments": ["token"]}],
)
def test_a_token_without_an_origin_is_refused(auth: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"auth\['payments'\] .* write Credentials\(token"):
        Discovery("http://127.0.0.1:9", auth=auth)


@pytest.mark.slow
async def test_what_a_function_finds_has_an_origin(asked: Client, payments: FaultyServer) -> None:
    def find(instance: Instance) -> Any:
        return "token"

    async with Discovery(asked.url, auth=find) as discovery:
        with pytest.raises(NoReplicaError, match="bound to no origin"):
            await discovery.call("pay", {}, server="real")
    assert payments.requests == []


def test_nothing_shows_a_token() -> None:
    known = Credentials("secret", "https://a.example", headers={"X-Api-Key": "secret"})
    assert "secret" not in repr(known) + repr(known.auth)
