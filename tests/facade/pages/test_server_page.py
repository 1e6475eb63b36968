"""The page of one server, as the facade sends it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import partial
from html import unescape
from typing import Any

import pytest

from mcp_discovery.facade.pages.connecting import ways_to_connect
from tests.facade.harness import Client, leased, served
from tests.facade.pages.fleet import HOSTILE, hostile
from tests.stores.waiting import until

HTML = {"Accept": "text/html"}


async def fill(ask: Client, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        reply = await ask("POST", "/servers", body)
        assert reply.status == 201, reply.body


async def page(ask: Client, path: str, status: int = 200) -> str:
    reply = await ask("GET", f"/ui/servers/{path}", headers=HTML, allow_redirects=False)
    assert reply.status == status, reply.body
    return reply.body.decode()


def words(text: str) -> str:
    """The page as text."""
    plain = re.sub(r"<[^>]*>", " ", text[text.index("<main") : text.index("</main>")])
    return re.sub(r"\s+", " ", unescape(plain))


def section(text: str, id: str) -> str:
    """What stands below one heading, as text."""
    found = re.search(rf'aria-labelledby="{id}".*?</section>', text, re.DOTALL)
    assert found is not None
    return words(f"<main>{found[0]}</main>")


def tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"name": name, "description": description, "inputSchema": schema}


async def test_instances_the_record_and_what_it_offers(ask: Client) -> None:
    offer = {
        "tools": [tool("buy/now", "Buys <b>a</b> thing.")],
        "prompts": [{"name": "greet", "description": "Says hello."}],
        "resources": [{"name": "stock", "uri": "shop://stock"}],
        "resourceTemplates": [{"name": "item", "uriTemplate": "shop://item/{id}"}],
    }
    await fill(
        ask,
        leased("shop-1", name="shop", title="The shop", zone="eu", document=offer),
        leased("shop-2", name="shop", title="The shop", zone="us", document=offer, version="1.1.0"),
    )
    await ask("POST", "/servers/shop-2/drain")
    text = await page(ask, "shop")
    assert "1 healthy" in words(text)
    assert "1 draining" in words(text)
    instances = section(text, "server-instances")
    assert instances.index("shop-1") < instances.index("shop-2")
    assert "http://127.0.0.1:9/shop-1" in instances
    offers = section(text, "server-offers")
    for each in ("Tools 1", "Resources 1", "Resource templates 1", "Prompts 1", "Buys <b>a</b>"):
        assert each in offers
    assert 'href="../../ui/tools/shop/buy%2Fnow"' in text
    record = section(text, "server-record")
    assert "Version 0.0.0" in record
    assert "Version 1.1.0" in section(await page(ask, "shop?instance=shop-2"), "server-record")
    assert "a sidecar on" in record


async def test_a_command_and_an_agent_have_a_page(ask: Client) -> None:
    command = {"transport": "stdio", "command": "npx", "args": ["-y", "x"]}
    await fill(
        ask,
        {"id": "c-1", "name": "local", "endpoint": command},
        leased(
            "a-1",
            name="agent",
            kind="agent",
            endpoint={"transport": "a2a", "url": "http://127.0.0.1:9/a-1"},
        ),
    )
    assert "Command npx -y x" in section(await page(ask, "local"), "server-record")
    assert "Kind agent" in section(await page(ask, "agent"), "server-record")


async def test_an_instances_id_leads_to_its_server(ask: Client) -> None:
    await fill(ask, leased("shop-1", name="shop"))
    reply = await ask("GET", "/ui/servers/shop-1", headers=HTML, allow_redirects=False)
    assert (reply.status, reply.headers["Location"]) == (302, "shop?instance=shop-1")


async def test_what_is_not_there_names_what_is_most_like_it(ask: Client) -> None:
    await fill(ask, leased("shop-1", name="shopping"))
    text = await page(ask, "shoping", 404)
    assert "There is no server called shoping" in words(text)
    assert 'href="../../ui/servers/shopping"' in text


async def test_what_was_there_says_what_became_of_it(ask: Client) -> None:
    await fill(ask, leased("shop-1", name="shop"))
    await page(ask, "shop")  # its history has begun
    assert (await ask("DELETE", "/servers/shop-1")).status in (200, 204)

    async def told() -> bool:
        text = words(await page(ask, "shop", 404))
        return "What became of it" in text and "it was deregistered" in text

    await until(told, timeout=20, what="the end in the history")


async def test_a_missing_name_is_text(ask: Client) -> None:
    text = await page(ask, "%3Cscript%3Ealert(1)", 404)
    assert "<script>alert" not in text
    assert "<script>alert(1)" in words(text)


async def test_its_health_is_a_drawing_and_a_table(ask: Client) -> None:
    await fill(ask, leased("shop-1", name="shop"), leased("shop-2", name="shop"))
    await ask("POST", "/servers/shop-2/drain")

    async def drawn() -> str | None:
        text = await page(ask, "shop")
        return text if "server-is-draining" in text else None

    text = await until(drawn, timeout=20, what="the drained instance in the history")
    assert text is not None
    for each in ("shop-1", "shop-2"):
        assert re.search(rf'role="img" aria-label="{each}: \d+ state', text)
    health = section(text, "server-health")
    assert "24 hours" in health
    assert "100.00 % healthy" in health
    assert "registered" in health
    assert re.search(r"draining.*: .*</title>", text)
    for span in ("hour", "day", "week", "month"):
        assert 'aria-current="true">' + span.capitalize() in await page(ask, f"shop?span={span}")


async def test_without_a_history_the_rest_is_there() -> None:
    async with served(history_keep=0.0) as ask:
        await fill(ask, leased("shop-1", name="shop"))
        assert "no history is kept here" in words(await page(ask, "shop"))


async def test_versions_differ_readably(ask: Client) -> None:
    before = [tool("buy", "Buys one thing.", count={"type": "integer"}), tool("sell", "Sells.")]
    after = [
        tool("buy", "Buys many things.", count={"type": "number"}, note={"type": "string"}),
        tool("lend", "Lends."),
    ]
    await fill(ask, leased("shop-1", name="shop", document={"tools": before}))
    assert "has not changed" in section(await page(ask, "shop"), "server-versions")
    await fill(ask, leased("shop-1", name="shop", document={"tools": after}, version="2.0.0"))

    async def compared() -> str | None:
        text = await page(ask, "shop")
        return text if "server-diff" in text else None

    text = await until(compared, timeout=20, what="the second document in the history")
    assert text is not None
    versions = section(text, "server-versions")
    for each in ("added: lend", "removed: sell", "parameter count : integer number", "note"):
        assert each in versions, versions
    assert "<ins>many things</ins>" in text
    assert "<del>one thing</del>" in text


async def test_a_server_that_changes_everything_has_a_short_page(ask: Client) -> None:
    for version in (1, 2):
        text = " ".join(f"word{number * version % 97}" for number in range(60))
        given = {f"p{number}": {"type": ("string", "integer")[version - 1]} for number in range(30)}
        document = {"tools": [tool(f"tool_{each}", text, **given) for each in range(300)]}
        await fill(ask, leased("s-1", name="s", document=document, version=f"{version}.0.0"))
        what = f"document {version} in the history"
        await until(partial(kept, ask, "s", version), timeout=20, what=what)
    text = await page(ask, "s")
    assert "0 removed and 300 changed" in section(text, "server-versions")
    assert "and 10 more parameters" in text
    assert len(text) < 250_000


async def kept(ask: Client, name: str, number: int) -> bool:
    known = (await ask("GET", f"/servers/{name}/documents")).json["documents"]
    return len(known) == number and all(each["kept"] for each in known)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
async def test_hostile_texts_stay_text(ask: Client, number: int) -> None:
    await fill(ask, hostile(number))
    text = await page(ask, f"hostile-{number}")
    for tag in ("<script>document", "<img", "<svg onload", "49{%"):
        assert tag not in text
    assert "\u202e" not in text


def entry(**more: Any) -> dict[str, Any]:
    url = "https://mcp.example.com/mcp"
    found = {"id": "s-1", "name": "my-shop", "status": "healthy", "transport": "streamable-http"}
    return found | {"endpoint": {"url": url}, "url": url, "auth": {"type": "none"}} | more


def copied(given: dict[str, Any], **more: bool) -> dict[str, str]:
    options = {"gateway": False, "facade_wants_token": False} | more
    return {each.key: each.text for each in ways_to_connect(given, "http://f:4000", **options)}


def test_how_to_connect_over_http() -> None:
    ways = copied(entry(auth={"type": "bearer"}))
    assert list(ways) == [
        "claude-code",
        "claude-desktop",
        "vscode",
        "cursor",
        "python",
        "python-sdk",
        "curl",
    ]
    assert ways["claude-code"] == (
        "claude mcp add --transport http my-shop https://mcp.example.com/mcp"
        ' --header "Authorization: Bearer $MY_SHOP_MCP_TOKEN"'
    )
    server = json.loads(ways["vscode"])["servers"]["my-shop"]
    assert server["headers"] == {"Authorization": "Bearer ${input:my-shop-token}"}
    server = json.loads(ways["cursor"])["mcpServers"]["my-shop"]
    assert server["headers"] == {"Authorization": "Bearer ${env:MY_SHOP_MCP_TOKEN}"}
    for key in ("python", "python-sdk"):
        compile(ways[key], key, "exec")
    assert "os.environ['MY_SHOP_MCP_TOKEN']" in ways["python-sdk"]
    assert '-H "Authorization: Bearer $MY_SHOP_MCP_TOKEN"' in ways["curl"]


def test_through_the_gateway_the_token_is_the_facades() -> None:
    open_ = copied(entry(auth={"type": "bearer"}), gateway=True)
    assert "http://f:4000/gateway/my-shop/mcp" in open_["claude-code"]
    assert "TOKEN" not in open_["claude-code"]
    assert "TOKEN" in copied(entry(), gateway=True, facade_wants_token=True)["claude-code"]


def test_a_command_is_started_by_its_host() -> None:
    given = entry(
        transport="stdio",
        url=None,
        endpoint={"transport": "stdio", "command": "npx", "args": ["-y", "it's", "a\u202eb\n"]},
    )
    ways = copied(given, gateway=True, facade_wants_token=True)
    assert set(ways) == {
        "claude-code",
        "claude-desktop",
        "vscode",
        "cursor",
        "python",
        "python-sdk",
    }
    assert ways["claude-code"] == (
        "claude mcp add my-shop -- npx -y 'it'\"'\"'s' $'a\\U0000202eb\\U0000000a'"
    )
    assert "\u202e" not in "".join(ways.values())
    compile(ways["python-sdk"], "python-sdk", "exec")
    assert "allow_stdio=['my-shop']" in ways["python"]


def test_no_server_takes_what_hosts_fill_in() -> None:
    url = "https://mcp.example.com/${env:AWS_SECRET_ACCESS_KEY}/${HOME}/mcp"
    given = entry(endpoint={"url": url}, url=url, name="aws-session", auth={"type": "bearer"})
    ways = copied(given)
    for key in ("claude-code", "claude-desktop", "vscode", "cursor", "curl"):
        assert "${env:AWS_SECRET" not in ways[key], ways[key]
        assert "${HOME}" not in ways[key]
    assert "%7Benv:AWS_SECRET_ACCESS_KEY%7D" in ways["vscode"]
    # The name is the server's own choice, and AWS_SESSION_TOKEN somebody's secret.
    assert "AWS_SESSION_TOKEN" not in "".join(ways.values())
    assert "$_9LIVES_MCP_TOKEN" in copied(entry(name="9lives", auth={"type": "bearer"}))["curl"]


def test_what_only_the_library_speaks() -> None:
    given = entry(transport="websocket", url="wss://mcp.example.com/mcp")
    assert list(copied(given)) == ["python"]
    agent = copied(entry(transport="a2a", url="http://agent.example.com/"))
    assert agent == {"curl": "curl -sS http://agent.example.com/.well-known/agent-card.json"}


async def test_what_is_copied_for_curl_and_python_works() -> None:
    """The facade is an MCP server as well: it is its own example, in both eras."""
    async with served() as ask:
        url = f"{ask.url}/mcp"
        for era in ("modern", "legacy"):
            given = entry(url=url, endpoint={"url": url}, protocol={"era": era})
            ways = copied(given)
            for command in (
                ["bash", "-c", ways["curl"]],
                [sys.executable, "-c", ways["python-sdk"]],
            ):
                process = await asyncio.create_subprocess_exec(
                    *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
                )
                async with asyncio.timeout(60):
                    out, err = await process.communicate()
                assert process.returncode == 0, err
                wanted = (
                    b'"serverInfo"' if command[0] == "bash" and era == "legacy" else b"find_tools"
                )
                assert wanted in out, out
