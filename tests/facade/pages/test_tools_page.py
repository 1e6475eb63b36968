"""The pages of tools without a browser: what is found, what one tool shows, and to whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.facade.access.tokens import ROLES, bearer, guarded
from tests.facade.harness import Client, leased, served
from tests.facade.mcp.wire import modern
from tests.facade.tools.test_tools import BUY, ODD, find, post

HTML = {"Accept": "text/html"}
HOSTILE = "</code><script>run()</script>\u202e"


@pytest.fixture
async def filled(ask: Client) -> Client:
    """A shop of two replicas, another server with a tool of the same name, and one that is down."""
    await post(ask, "a", find(), BUY, name="shop", tags=["shop"])
    await post(ask, "b", find(), BUY, name="shop", tags=["shop"])
    await post(ask, "x", ODD, name="exchange", tags=["money"])
    gone = {"name": "gone", "inputSchema": {}}
    await post(ask, "z", gone, name="old", health={"status": "down", "reason": "power"})
    return ask


async def shown(ask: Client, path: str, **more: Any) -> str:
    reply = await ask("GET", path, headers=HTML, **more)
    assert reply.status == 200, reply.body
    return reply.body.decode()


def found(page: str) -> list[tuple[str, str]]:
    """Server and tool of each that a page lists, in its order."""
    return re.findall(r'<h2><a href="\.\./ui/tools/([^/"]+)/([^"]+)"', page)


async def test_tools_are_found_as_agents_find_them(filled: Client) -> None:
    for words in ("buy", "product", "find some product by words", "prodcut"):
        page = await shown(filled, f"/ui/tools?status=all&q={words.replace(' ', '+')}")
        call = {"name": "find_tools", "arguments": {"q": words, "status": ["all"]}}
        told = (await modern(filled, "tools/call", call)).json["result"]["structuredContent"]
        assert found(page) == [(each["server"], each["name"]) for each in told["tools"]] != []
        for each in told["tools"]:
            assert each["why"] in unescape(page)


async def test_without_words_all_are_there_with_what_they_cost(filled: Client) -> None:
    page = await shown(filled, "/ui/tools")
    assert found(page) == [("exchange", "buy"), ("shop", "buy"), ("shop", "find_product")]
    texts = [
        orjson.dumps(each, option=orjson.OPT_SORT_KEYS).decode() for each in (ODD, BUY, find())
    ]
    counts = (await filled("POST", "/tokens", {"texts": texts})).json
    assert re.findall(r"([\d,]+) tokens</span>", page) == list(map(str, counts["tokens"]))
    assert counts["countedBy"] in page
    assert found(await shown(filled, "/ui/tools?tags=money")) == [("exchange", "buy")]
    assert "the first 1 here" in await shown(filled, "/ui/tools?limit=1")


async def test_nothing_found_says_what_to_change(filled: Client) -> None:
    page = unescape(await shown(filled, "/ui/tools?name=shpo"))
    assert "No server has the name 'shpo'; did you mean 'shop'?" in page
    assert "status=all" in await shown(filled, "/ui/tools?name=old")
    assert "searched for" in await shown(filled, "/ui/tools?q=prodcut")
    reply = await filled("GET", "/ui/tools?q=%21", headers=HTML)
    assert (reply.status, b"no word to search for" in reply.body) == (400, True)
    reply = await filled("GET", "/ui/tools?status=hot", headers=HTML)
    assert (reply.status, b"is not known" in reply.body) == (400, True)


async def test_filters_without_a_field_stay_and_can_be_taken_away(filled: Client) -> None:
    page = await shown(filled, "/ui/tools?q=buy&zone=here")
    assert '<input type="hidden" name="zone" value="here">' in page
    assert 'href="../ui/tools?q=buy" aria-label="Without zone here"' in page


async def test_one_tool_has_its_definition_its_servers_and_their_health(filled: Client) -> None:
    page = await shown(filled, "/ui/tools/shop/find_product")
    schema = re.search(r'<code id="input-schema">(.*?)</code>', page, re.DOTALL)
    assert schema is not None
    assert orjson.loads(unescape(schema[1])) == find()["inputSchema"]
    assert [each in page for each in (">a</bdi>", ">b</bdi>", ">x</bdi>")] == [True, True, False]
    assert 'href="../../../ui/tools/exchange/buy"' in await shown(filled, "/ui/tools/shop/buy")
    gone = await shown(filled, "/ui/tools/old/gone")
    assert "mark-down" in gone
    assert "power" in gone


async def test_hostile_definitions_stay_text(ask: Client) -> None:
    schema = {"type": "object", "title": HOSTILE, "properties": {HOSTILE: {"default": HOSTILE}}}
    tool = {"name": HOSTILE, "title": HOSTILE, "description": HOSTILE, "inputSchema": schema}
    await post(ask, "a", tool, {"name": "a/b c", "inputSchema": {}}, name="shop")
    listed = await shown(ask, "/ui/tools")
    links = re.findall(r'href="\.\.(/ui/tools/shop/[^"]+)"', listed)
    assert len(links) == 2
    for link in links:
        reply = await ask.raw(link)
        assert reply.status == 200
        for page in (listed, reply.body.decode()):
            assert "<script>run" not in page
            assert "\u202e" not in re.sub(r"<[^>]*>", "", page)
            assert "%" not in (re.search(r"<h1>(.*?)</h1>", page) or [""])[0]
    schemas = re.findall(r'<code id="input-schema">(.*?)</code>', reply.body.decode(), re.DOTALL)
    both = [orjson.loads(unescape(each)) for each in schemas]
    assert both == [schema] or both == [{}]


async def test_a_definition_of_any_size_has_a_short_page(ask: Client) -> None:
    properties = {f"p{each}": {"type": "string", "description": "x" * 2000} for each in range(150)}
    schema = {"type": "object", "properties": properties}
    huge = {"name": "huge", "title": "\u202e" * 20_000, "inputSchema": schema}
    huge |= {"description": "<b>" * 30_000, "outputSchema": schema}
    await post(ask, "large", huge, name="large")
    page = await shown(ask, "/ui/tools/large/huge")
    assert len(page) < 400_000
    assert "too large to be shown here; GET /tools/huge has it. It can be called" in page
    assert '<code id="input-schema">true</code>' in page
    assert "not counted: it is too large" in page
    assert len(await shown(ask, "/ui/tools")) < 20_000


async def test_the_doors_that_are_open_are_said(filled: Client) -> None:
    assert "start it with --mcp-call-tool" in await shown(filled, "/ui/tools/shop/buy")
    for calls, doors in ((False, "gateway"), (True, "call_tool gateway")):
        async with served(mcp_call_tool=calls, gateway=True) as ask:
            await post(ask, "a", BUY, name="shop")
            page = await shown(ask, "/ui/tools/shop/buy")
            assert f'data-doors="{doors}" data-refused=""' in page


SECTIONS: Mapping[str, Any] = {
    "roles": dict(ROLES) | {"employee": "some", "manager": "read", "admin": "read"},
    "scopes": {"some": {"verbs": ["read", "call"], "names": ["shop"], "tools": ["pay"]}},
}


async def test_callers_see_and_call_their_own_alone(tmp_path: Path) -> None:
    async with guarded(tmp_path, SECTIONS, mcp_call_tool=True) as ask:
        for name in ("shop", "bank"):
            tools: Any = [{"name": each, "inputSchema": {}} for each in ("pay", "refund")]
            body = leased(name, name=name, document={"tools": tools})
            assert (await ask("POST", "/servers", body, headers=bearer("operator"))).status == 201
        page = await ask("GET", "/ui/tools", headers=bearer("employee"))
        assert found(page.body.decode()) == [("shop", "pay")]
        seen = await ask("GET", "/ui/tools/shop/pay", headers=bearer("employee"))
        assert b'data-refused=""' in seen.body
        assert b"bank" not in seen.body
        for hidden, absent in (("shop/refund", "shop/nofund"), ("bank/pay", "sink/pay")):
            replies = [
                await ask("GET", f"/ui/tools/{each}", headers=HTML | bearer("employee"))
                for each in (hidden, absent)
            ]
            assert [each.status for each in replies] == [404, 404]
            told = [each.body.decode() for each in replies]
            for one, other in zip(hidden.split("/"), absent.split("/"), strict=True):
                told[0] = told[0].replace(one, other)
            assert told[0] == told[1]
        reader = await ask("GET", "/ui/tools/bank/pay", headers=bearer("reader"))
        assert b"none of your roles has that right" in reader.body


async def test_texts_are_counted_as_find_tools_counts(ask: Client) -> None:
    told = (await ask("POST", "/tokens", {"texts": ["", "good day", "good day " * 50]})).json
    assert told["tokens"][0] < told["tokens"][1] < told["tokens"][2]
    for body in ({"texts": [1]}, {"texts": ["a"] * 101}, {}, {"texts": ["a"], "model": "x"}):
        assert (await ask("POST", "/tokens", body)).status == 422
