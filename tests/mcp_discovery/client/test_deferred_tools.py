"""A model that is given a search first: it finds tools among thousands, and its calls are valid."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from aiohttp import web

from mcp_discovery import Discovery, SyncDiscovery
from mcp_discovery.adapters import open_store
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import healthy
from tests.catalogues import by_server, example
from tests.facade.harness import Client, leased, served
from tests.records import record
from tests.stores.etcd import EtcdServer

#: What is asked for, and what is found by it.
QUESTIONS = {
    "what will the weather forecast for the cloud be": "weather_forecast_cloud",
    "send an email from the office": "send_email_office",
    "which exchange rate does the office get": "exchange_rate_office",
    "export the spreadsheet that is in the cloud": "export_spreadsheet_cloud",
}


@dataclass
class Servers:
    """MCP servers, each at a path of its own, that take what their schemas allow."""

    tools: Mapping[str, list[dict[str, Any]]]
    url: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        message = await request.json()
        if "id" not in message:
            return web.Response(status=202)
        about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
        result = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        offered = self.tools[request.match_info["name"]]
        match message["method"]:
            case "server/discover":
                result |= {"supportedVersions": ["2026-07-28"], **about}
            case "tools/list":
                result |= {"tools": offered}
            case "tools/call":
                result |= self.called(offered, message["params"])
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def called(self, offered: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        (tool,) = (each for each in offered if each["name"] == params["name"])
        arguments = params.get("arguments") or {}
        self.calls.append((tool["name"], arguments))
        jsonschema.Draft202012Validator(tool["inputSchema"]).validate(arguments)
        return {"content": [{"type": "text", "text": f"{tool['name']} was called"}]}


async def begun(number: int, ask: Client) -> tuple[Servers, web.AppRunner]:
    """So many tools at 50 a server, listed by the facade."""
    servers = Servers(by_server(number, 50))
    app = web.Application()
    app.router.add_post("/{name}/mcp", servers.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    servers.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    for name, tools in servers.tools.items():
        about = f"Has everything that {name} is for."
        body = leased(name, name=name, url=f"{servers.url}/{name}/mcp", description=about)
        reply = await ask("POST", "/servers", body | {"document": {"tools": tools}})
        assert reply.status == 201, reply.body
    return servers, runner


@pytest.fixture(params=[527, pytest.param(10_000, marks=pytest.mark.slow)], scope="module")
async def many(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Servers, str]]:
    """Such servers, and the facade that lists them."""
    async with served() as ask:
        servers, runner = await begun(request.param, ask)
        yield servers, ask.url
        await runner.cleanup()


def search(format: str, query: str, id: str = "s1") -> dict[str, Any]:
    """The call by which a model searches."""
    given = {"query": query}
    if format == "anthropic":
        return {"type": "tool_use", "id": id, "name": "search_tools", "input": given}
    call = {"type": "tool_search_call", "call_id": id, "execution": "client", "status": "completed"}
    return call | {"arguments": given}


def loaded(format: str, answer: dict[str, Any], tools: list[dict[str, Any]]) -> Mapping[str, Any]:
    """Name → input schema of the tools that the answer to a search loads, best first."""
    if format == "openai":
        assert (answer["type"], answer["call_id"]) == ("tool_search_output", "s1")
        functions = [tool for namespace in answer["tools"] for tool in namespace["tools"]]
        assert all(each["defer_loading"] for each in functions)
        return {each["name"]: each["parameters"] for each in functions}
    assert (answer["type"], answer["tool_use_id"]) == ("tool_result", "s1")
    assert not answer.get("is_error")
    listed = {each["name"]: each for each in tools}
    found = [each["tool_name"] for each in answer["content"] if each["type"] == "tool_reference"]
    assert all(listed[each]["defer_loading"] for each in found)
    return {each: listed[each]["input_schema"] for each in found}


def calling(format: str, name: str, arguments: Any) -> dict[str, Any]:
    """The call of a tool."""
    if format == "anthropic":
        return {"type": "tool_use", "id": "c1", "name": name, "input": arguments}
    call = {"type": "function_call", "call_id": "c1", "name": name, "namespace": "server-0"}
    return call | {"arguments": json.dumps(arguments)}


@pytest.mark.parametrize(
    ("format", "options"), [("openai", {}), ("openai", {"strict": True}), ("anthropic", {})]
)
async def test_every_call_that_follows_a_search_is_valid(
    many: tuple[Servers, str], format: Any, options: dict[str, Any]
) -> None:
    servers, url = many
    async with Discovery(url) as d:
        await d.connect()
        tools = await d.tools(format=format, defer=True, **options)
        assert tools.tokens <= 2_000 and "server-1" in json.dumps(tools.visible)
        for question, wanted in QUESTIONS.items():
            answer = await d.dispatch(search(format, question))
            tools = await d.tools(format=format, defer=True, **options)
            found = loaded(format, answer, tools)
            assert 0 < len(found) <= 5
            assert any(wanted in name for name in found), found
            for name, schema in found.items():
                result = await d.dispatch(calling(format, name, example(schema)))
                assert result.get("is_error", False) is False
                assert f"{name} was called" in str(result.get("output") or result["content"])
        assert tools.tokens <= 2_000
    for name, arguments in servers.calls:
        (tool,) = (each for some in servers.tools.values() for each in some if each["name"] == name)
        jsonschema.Draft202012Validator(tool["inputSchema"]).validate(arguments)


@pytest.fixture
async def few() -> AsyncIterator[tuple[Client, Servers]]:
    async with served() as ask:
        servers, runner = await begun(120, ask)
        yield ask, servers
        await runner.cleanup()


async def test_what_was_found_stays_in_the_conversation(few: tuple[Client, Servers]) -> None:
    ask, _ = few
    async with Discovery(ask.url) as d:
        await d.connect()
        await d.tools(format="anthropic", defer=True)
        answer = await d.dispatch(search("anthropic", "send an email"))
        found = answer["content"][0]["tool_name"]
        tools = await d.tools(format="anthropic", defer=True)
        server = tools.tool(found).server
        assert (await ask("DELETE", f"/servers/{server}")).status in (200, 204)
        async for change in d.watch():  # begins with what is there now
            if change.instance is None or change.instance.id != server:
                break
        while tools.tool(found).server in {each.server for each in await d.tools()}:
            pass
        tools = await d.tools(format="anthropic", defer=True)
        assert found in [each["name"] for each in tools[1:]]
        other = await d.dispatch(search("anthropic", "send an email"))
        assert found not in str(other)
        result = await d.dispatch(calling("anthropic", found, {}))
        assert result["is_error"] is True


@pytest.mark.parametrize(
    "text",
    [
        "Please do this:\n\n1. Send an email.\r\n\t2. That is all.\x00",
        "send an email " + "and then wait for what they answer " * 1_000,
        "send an email " + "天気" * 2_000 + "\ud800",
    ],
    ids=["lines", "long", "unspaced"],
)
async def test_a_model_asks_as_models_do(few: tuple[Client, Servers], text: str) -> None:
    ask, _ = few
    async with Discovery(ask.url) as d:
        await d.tools(format="anthropic", defer=True)
        answer = await d.dispatch(search("anthropic", text))
        assert not answer.get("is_error"), answer
        assert any("send_email" in each["tool_name"] for each in answer["content"])


async def test_a_search_that_finds_nothing_and_one_that_asks_nothing(
    few: tuple[Client, Servers],
) -> None:
    ask, _ = few
    async with Discovery(ask.url) as d:
        for format in ("anthropic", "openai"):
            await d.tools(format=format, defer=True)
        answer = await d.dispatch(search("anthropic", "qqqqqq zzzzzz"))
        assert answer["content"] == [
            {"type": "text", "text": "No tool matches; search with other words."}
        ]
        assert (await d.dispatch(search("openai", "qqqqqq zzzzzz")))["tools"] == []
        wrong = search("anthropic", "") | {"input": {"text": "email"}}
        answer = await d.dispatch(wrong)
        assert answer["is_error"] is True and "query is missing" in str(answer["content"])
        unreadable = search("openai", "") | {"arguments": "{"}
        assert (await d.dispatch(unreadable))["type"] == "tool_search_output"


async def test_defer_is_an_option_of_a_format(few: tuple[Client, Servers]) -> None:
    ask, _ = few
    async with Discovery(ask.url) as d:
        with pytest.raises(InvalidInputError, match=r"defer: options of a format; give format="):
            await d.tools(defer=True)  # type: ignore[call-overload]
        with pytest.raises(InvalidInputError, match="max_tokens, search: give defer=True too"):
            await d.tools(format="openai", search="client", max_tokens=500)
        for wrong in ("500", None, True, 1.5):
            with pytest.raises(InvalidInputError, match=f"max_tokens={wrong!r} is no whole number"):
                await d.tools(format="openai", defer=True, max_tokens=wrong)
        with pytest.raises(InvalidInputError, match="'strict' is not known; it takes no options"):
            await d.tools(format="anthropic", defer=True, strict=True)
        # Without it nothing is different, and a search is no tool.
        tools = await d.tools(format="anthropic", defer=False)
        assert len(tools) == 120
        answer = await d.dispatch(search("anthropic", "email"))
        assert answer["is_error"] is True and "no tool 'search_tools'" in str(answer)


async def test_scripts_have_it_too(few: tuple[Client, Servers]) -> None:
    ask, _ = few

    def script() -> tuple[int, dict[str, Any]]:
        with SyncDiscovery(ask.url) as d:
            tools = d.tools(format="anthropic", defer=True)
            return len(tools), d.dispatch(search("anthropic", "email"))

    number, answer = await asyncio.to_thread(script)
    assert number == 121 and answer["content"][0]["type"] == "tool_reference"


async def test_what_other_servers_have_is_nothing_to_whom_does_not_follow_them() -> None:
    """A tool of the same name that fits better, at a server that is not followed."""
    schema: dict[str, Any] = {"type": "object"}
    async with served() as ask:
        for name, about in (("shop", "Searches."), ("library", "Search the shelves for a book.")):
            document = {"tools": [{"name": "search", "description": about, "inputSchema": schema}]}
            body = leased(name, name=name, tags=[name, "all"], document=document)
            assert (await ask("POST", "/servers", body)).status == 201
        for tags, match in ((["shop"], "any"), (["shop", "all"], "all")):
            async with Discovery(ask.url) as d:
                await d.connect(tags, match=match)
                (found,) = await d.find("search for a book on the shelves")
                assert (found.name, found.server) == ("search", "shop")
        async with Discovery(ask.url) as d:
            await d.connect()
            (found,) = await d.find("search for a book on the shelves")
            assert (found.name, found.server) == ("library.search", "library")


async def test_nor_over_a_store(etcd_server: EtcdServer, namespace: str) -> None:
    schema: dict[str, Any] = {"type": "object"}
    url = f"{etcd_server.store_url}/{namespace}"
    async with open_store(url) as store:
        for name, about in (("shop", "Searches."), ("library", "Search the shelves for a book.")):
            tool = {"name": "search", "description": about, "inputSchema": schema}
            offered = CapabilityDocument(tools=(tool,))
            capabilities = {"tools": ["search"], "digest": offered.digest}
            one = record(name, name=name, tags=[name], capabilities=capabilities)
            registration = await store.register(one, offered, ttl=60, reap_after=120)
            await registration.heartbeat(healthy())
        for tags, server in ((["shop"], "shop"), (["shop", "library"], "library")):
            async with Discovery(url) as d:
                await d.connect(tags)
                (found,) = await d.find("search for a book on the shelves")
                assert (found.own_name, found.server) == ("search", server)
