"""One tool in a real browser: its form, the call, progress, cancelling, questions, results."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.browser import chromium
from tests.facade.access.audit.recorded import logs
from tests.facade.access.tokens import TOKENS, bearer, guarded
from tests.facade.harness import Client, leased, served
from tests.facade.pages.workshop import HOSTILE_SCHEMAS, KINDS
from tests.servers.process import McpServer, running
from tests.stores.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ERAS = ("modern", "legacy")


class Bench:
    """A browser, and a facade that lists one server."""

    def __init__(self, browser: Browser, ask: Client, server: McpServer) -> None:
        self.browser, self.ask, self.server = browser, ask, server

    @asynccontextmanager
    async def tool(self, name: str, server: str = "workshop") -> AsyncIterator[Page]:
        """A tool's page, on which nothing may fail, and no script of a stranger may run."""
        page = await self.browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        await page.goto(f"{self.ask.url}/ui/tools/{server}/{name}")
        try:
            yield page
            assert errors == []
            assert await page.title() != "run"
        finally:
            await page.close()

    async def seen(self) -> dict[str, int]:
        """How the server's calls went."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.server.base_url}/seen") as response,
        ):
            found: dict[str, int] = await response.json()
            return found

    async def until_more(self, what: str, before: dict[str, int]) -> None:
        """Waits until one more call went that way."""

        async def one_more() -> bool:
            return (await self.seen()).get(what, 0) > before.get(what, 0)

        await until(one_more, timeout=20, what=f"one more call that {what}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    options: dict[str, Any] = {"mcp_call_tool": True, "gateway": True}
    async with (
        running(("-m", "tests.facade.pages.workshop")) as server,
        served(**options, probe_interval=60.0, probe_timeout=10.0, posted_ttl=600.0) as ask,
        chromium() as browser,
    ):
        async with aiohttp.ClientSession() as http:
            document = {"tools": await _tools(http, server.url)}
        for name in ("workshop", *ERAS):
            era = "legacy" if name == "legacy" else "modern"
            lease = {"ttl": 900}
            body = leased(name, name=name, url=server.url, document=document, lease=lease)
            reply = await ask("POST", "/servers", body | {"protocol": {"era": era}})
            assert reply.status == 201, reply.body
        yield Bench(browser, ask, server)


async def _tools(http: aiohttp.ClientSession, url: str) -> Any:
    from tests.facade.mcp.wire import enveloped

    body, headers = enveloped("tools/list")
    async with http.post(url, json=body, headers=headers) as response:
        text = await response.text()
    return json.loads(text.removeprefix("event: message").strip().removeprefix("data: "))["result"][
        "tools"
    ]


async def call(page: Page) -> None:
    await page.get_by_role("button", name="Call", exact=True).click()


async def result(page: Page, said: str = "Done") -> None:
    await expect(page.locator("#result .notice").first).to_contain_text(said)


async def structured(page: Page) -> Any:
    """The structured result, from the raw answer."""
    await page.locator("#result details > summary", has_text="Raw").click()
    raw = await page.locator("#result pre[aria-label=raw]").text_content()
    return json.loads(raw or "")["result"]["structuredContent"]


async def test_a_form_says_what_is_missing_and_then_calls(bench: Bench) -> None:
    async with bench.tool("book") as page:
        await call(page)
        city = page.get_by_role("textbox", name="city")
        await expect(city).to_be_focused()
        error = await city.evaluate(
            "each => each.getAttribute('aria-describedby').split(' ')"
            ".map(id => document.getElementById(id)?.textContent).join(' ')"
        )
        assert "This is required." in error
        await city.fill("lisbon")
        await page.get_by_label("when").fill("2026-12-24")
        await page.get_by_label("people").fill("10")
        await page.get_by_label("kind").select_option(label="3")
        await page.get_by_label("name required").fill("Ada")
        await call(page)
        await expect(page.get_by_text("This has to be like ^[A-Z].", exact=True)).to_be_visible()
        await expect(page.get_by_text("Write 9 or less.")).to_be_visible()
        await city.fill("Lisbon")
        await page.get_by_label("people").fill("3")
        await page.get_by_label("big").fill("12345678901234567890")
        await page.get_by_label("mail").fill("ada@example.com")
        await page.get_by_role("button", name="Add an item to tags").click()
        await page.get_by_label("tags 1").fill("sea")
        await page.get_by_role("button", name="Add second").click()
        await page.get_by_label("name required").nth(1).fill("Grace")
        pay = page.get_by_role("group", name="pay")
        await pay.get_by_role("combobox").first.select_option(label="Invoice")
        await page.get_by_label("days").fill("30")
        await page.get_by_role("button", name="Add labels").click()
        await page.get_by_role("button", name="Add a member").click()
        await page.get_by_label("Name", exact=True).last.fill("floor")
        await page.get_by_label("value").fill("4")
        await page.get_by_label("pair").fill('[1, "a"]')
        await call(page)
        await result(page)
        assert await structured(page) == {
            "big": 12345678901234567890,
            "city": "Lisbon",
            "contact": {"name": "Ada"},
            "kind": 3,
            "labels": {"floor": 4},
            "mail": "ada@example.com",
            "pair": [1, "a"],
            "pay": {"type": "invoice", "days": 30},
            "people": 3,
            "second": {"name": "Grace"},
            "tags": ["sea"],
            "when": "2026-12-24",
        }


async def test_json_and_back_keeps_the_values(bench: Bench) -> None:
    given = {
        "city": "Oslo",
        "people": 4,
        "when": "2027-01-02",
        "at": "2027-01-02T03:04:05+02:00",
        "kind": None,
        "contact": {"name": "Ada", "phones": ["1", "2"], "fax": {"a": [1]}},
        "pay": {"type": "card", "number": "4"},
        "mail": None,
        "urgent": False,
        "note": "",
        "labels": {},
        "tags": [],
        "anything": {"deep": [1, {"a": None}]},
        "unknown": "kept",
    }
    async with bench.tool("book") as page:
        await page.get_by_role("button", name="JSON", exact=True).click()
        text = page.get_by_label("Arguments as JSON")
        await text.fill(json.dumps(given))
        await page.get_by_role("button", name="Form", exact=True).click()
        await expect(page.get_by_role("textbox", name="city")).to_have_value("Oslo")
        await expect(page.get_by_label("number")).to_have_value("4")
        await page.get_by_role("button", name="JSON", exact=True).click()
        assert json.loads(await text.input_value()) == given
        await text.fill('{"city": ')
        await page.get_by_role("button", name="Form", exact=True).click()
        await expect(page.get_by_text("This is no JSON")).to_be_visible()
        await text.fill('{"city": 7, "contact": "nobody"}')
        await page.get_by_role("button", name="Form", exact=True).click()
        await page.get_by_role("button", name="JSON", exact=True).click()
        assert json.loads(await text.input_value()) == {"city": 7, "contact": "nobody"}


@pytest.mark.parametrize("name", HOSTILE_SCHEMAS)
async def test_hostile_schemas_neither_hang_nor_break_the_page(bench: Bench, name: str) -> None:
    async with bench.tool(name) as page:
        await expect(page.get_by_role("button", name="Call", exact=True)).to_be_visible(
            timeout=5000
        )
        fields = await page.locator("#call input, #call select, #call textarea").count()
        assert 1 < fields < 500
        if name == "evil":
            await page.get_by_label("word").fill("a" * 40 + "!")
            await call(page)
            await result(page)
        if name == "polluting":
            await page.get_by_role("textbox", name="polluted").fill("yes")
            await page.get_by_role("textbox", name="constructor").fill("none")
            await call(page)
            await result(page)
            assert await structured(page) == {
                "__proto__": {"polluted": "yes"},
                "constructor": "none",
            }
            assert await page.evaluate("({}).polluted === undefined")
        if name == "wide":
            await page.get_by_label("Add an optional member").fill("p4999")
            await page.get_by_role("button", name="Add", exact=True).click()
            await expect(page.get_by_role("textbox", name="p4999")).to_be_focused()
        wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not wide


@pytest.mark.parametrize("kind", KINDS)
async def test_results_of_every_kind(bench: Bench, kind: str) -> None:
    async with bench.tool("show") as page:
        await page.get_by_label("kind").select_option(label=kind)
        await call(page)
        await result(page, "The tool reports an error" if kind == "error" else "Done")
        shown = page.locator("#result-body")
        match kind:
            case "text":
                await expect(shown.locator("pre").first).to_have_text("Good day.\nThis is a text.")
            case "json":
                await expect(shown).to_contain_text("12345678901234567890")
            case "long" | "huge":
                text = await shown.locator("pre").first.text_content()
                assert len(text or "") == 4000
                await shown.get_by_role("button", name="Show").first.click()
                text = await shown.locator("pre").first.text_content()
                assert len(text or "") == (100_000 if kind == "long" else 200_000)
                if kind == "huge":
                    async with page.expect_download() as saving:
                        await shown.get_by_role("button", name="Save all of it").click()
                    saved = await (await saving.value).path()
                    assert saved.stat().st_size == 10 * 2**20
            case "image" | "svg":
                image = shown.locator("img")
                await expect(image).to_have_js_property("complete", True)
                width = await image.evaluate("each => each.naturalWidth")
                assert width == (64 if kind == "image" else 40)
            case "audio":
                audio = shown.locator("audio[controls]")
                await audio.evaluate("each => each.play().then(() => each.pause())")
            case "broken":
                await expect(shown.get_by_text("This cannot be shown")).to_be_visible()
            case "link":
                links = await shown.locator("a").evaluate_all("all => all.map(each => each.href)")
                assert links == ["https://example.com/a"]
                assert await shown.locator("a").get_attribute("rel") == "noopener noreferrer"
            case "embedded":
                await expect(shown.get_by_text("A note.")).to_be_visible()
                assert await shown.locator("a").count() == 0
            case "table":
                heading = shown.get_by_role("columnheader", name="size")
                for order, first in (("ascending", "0"), ("descending", "999")):
                    await heading.get_by_role("button").click()
                    await expect(heading).to_have_attribute("aria-sort", order)
                    await expect(shown.locator("tbody td.number").first).to_have_text(first)
            case "tree":
                await expect(shown.get_by_text("__proto__")).to_be_visible()
            case "hostile":
                await expect(shown.get_by_text("\\u{202E}\\u{200B}").first).to_be_visible()
                assert await shown.locator("img, script").count() == 0
            case "empty":
                await expect(shown.get_by_text("The result is empty.")).to_be_visible()
        assert not await page.evaluate("document.documentElement.scrollWidth > innerWidth")


async def through_gateway(page: Page) -> None:
    await page.get_by_text("Options").click()
    await page.get_by_label("Through").select_option("gateway")


@pytest.mark.parametrize(
    ("server", "door"), [("workshop", "call_tool"), *((era, "gateway") for era in ERAS)]
)
async def test_progress_is_shown_and_cancelling_reaches_the_server(
    bench: Bench, server: str, door: str
) -> None:
    async with bench.tool("work", server) as page:
        if door == "gateway":
            await through_gateway(page)
        await page.get_by_label("steps").fill("100")
        before = await bench.seen()
        await call(page)
        bar = page.get_by_role("progressbar")
        await expect(bar).to_have_js_property("max", 100)
        await expect(page.locator(".tools-progress")).to_contain_text("% : step".replace(" :", ":"))
        await page.get_by_role("button", name="Cancel").click()
        await result(page, "Cancelled")
        await bench.until_more("cancelled", before)
        # The next one is not disturbed.
        await page.get_by_label("steps").fill("2")
        await call(page)
        await result(page)


@pytest.mark.parametrize(
    ("server", "door"), [("workshop", "call_tool"), *((era, "gateway") for era in ERAS)]
)
async def test_leaving_the_page_cancels(bench: Bench, server: str, door: str) -> None:
    before = await bench.seen()
    async with bench.tool("work", server) as page:
        if door == "gateway":
            await through_gateway(page)
        await page.get_by_label("steps").fill("1000")
        await call(page)
        await bench.until_more("begun", before)
        await page.goto(f"{bench.ask.url}/ui/status")
        await bench.until_more("cancelled", before)


@pytest.mark.parametrize("era", ERAS)
async def test_a_question_of_the_tool_is_a_form(bench: Bench, era: str) -> None:
    for button, said in (("Answer", "accept: green"), ("Decline", "decline: None")):
        async with bench.tool("ask", era) as page:
            await through_gateway(page)
            await call(page)
            question = page.get_by_role("group", name="The tool asks: Which colour?")
            await question.get_by_label("colour").select_option(label="green")
            await question.get_by_role("button", name=button).click()
            await result(page)
            await expect(page.locator("#result pre").first).to_have_text(said)


async def test_what_destroys_wants_a_yes(bench: Bench) -> None:
    async with bench.tool("wipe") as page:
        before = await bench.seen()
        await call(page)
        dialog = page.get_by_role("dialog", name="This may destroy something")
        await expect(dialog).to_contain_text("wipe")
        await dialog.get_by_role("button", name="Do not call it").click()
        assert await bench.seen() == before
        await call(page)
        await dialog.get_by_role("button", name="Call wipe").click()
        await result(page)
        await bench.until_more("wiped", before)


@pytest.mark.parametrize("door", ["call_tool", "gateway"])
async def test_an_error_of_the_protocol_is_none_of_the_tool(bench: Bench, door: str) -> None:
    async with bench.tool("fault") as page:
        if door == "gateway":
            await through_gateway(page)
        await call(page)
        await result(page, "The server answered with an error of the protocol (code -32011)")
        await expect(page.locator("#result")).to_contain_text("no tool at all")


async def test_what_the_facade_refuses_is_said(bench: Bench) -> None:
    async with bench.tool("fault", "modern") as page:
        await bench.ask("DELETE", "/servers/modern")
        await through_gateway(page)
        await call(page)
        await result(page, "The facade refused it: ")


async def test_searching_while_typing_keeps_the_url(bench: Bench) -> None:
    page = await bench.browser.new_page()
    await page.goto(f"{bench.ask.url}/ui/tools")
    await page.get_by_role("searchbox").press_sequentially("boo")
    await expect(page).to_have_url(f"{bench.ask.url}/ui/tools?q=boo")
    await expect(page.locator(".tools-list h2").first).to_have_text("book")
    await expect(page.locator("#live")).to_have_text("2 tools")
    await page.reload()
    await expect(page.locator(".tools-list h2").first).to_have_text("book")
    await page.close()


async def test_a_tool_can_be_called_with_the_keyboard_alone(bench: Bench) -> None:
    async with bench.tool("show") as page:
        await page.get_by_label("kind").focus()
        await page.keyboard.type("table")
        for _ in range(2):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.textContent") == "Call":
                break
        await page.keyboard.press("Enter")
        await expect(page.locator("#result")).to_be_focused()


async def test_a_call_is_made_and_recorded_as_who_is_signed_in(
    bench: Bench, tmp_path: Path
) -> None:
    """The session's token goes with it, and the audit knows the caller."""
    audit = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")
    options: dict[str, Any] = {"mcp_call_tool": True, "gateway": True, "audit": audit}
    async with guarded(tmp_path, **options) as ask:
        tools = [{"name": "show", "inputSchema": {"properties": {"kind": {"enum": ["text"]}}}}]
        body = leased("a", name="shop", url=bench.server.url, document={"tools": tools})
        assert (await ask("POST", "/servers", body, headers=bearer("operator"))).status == 201
        context = await bench.browser.new_context()
        page = await context.new_page()
        await page.goto(f"{ask.url}/ui/tools/shop/show")
        await page.get_by_label("Token").fill(TOKENS["operator"])
        await page.get_by_role("button", name="Sign in").click()
        for door in ("call_tool", "gateway"):
            await page.goto(f"{ask.url}/ui/tools/shop/show")
            await page.get_by_label("kind").select_option(label="text")
            await page.get_by_text("Options").click()
            await page.get_by_label("Through").select_option(door)
            await call(page)
            await result(page)
            await expect(page.locator("#cost-result")).to_contain_text("tokens")

        async def both() -> bool:
            found = await logs(ask, "?eventType=call", headers=bearer("operator"))
            return [each["actor"]["userId"] for each in found] == ["operator", "operator"]

        await until(both, timeout=20, what="both calls recorded")
        # Without the session nothing is called.
        await context.clear_cookies()
        await call(page)
        await result(page, "The facade refused it: ")
        await expect(page.get_by_role("link", name="Sign in again")).to_be_visible()
        await context.close()


@pytest.mark.parametrize(
    ("door", "said"),
    [("call_tool", "The tool reports an error"), ("gateway", "It took too long")],
)
async def test_what_takes_too_long_is_given_up(bench: Bench, door: str, said: str) -> None:
    async with bench.tool("work") as page:
        await page.get_by_label("steps").fill("100")
        await page.get_by_text("Options").click()
        await page.get_by_label("Through").select_option(door)
        await page.get_by_label("Give up after").fill("1")
        before = await bench.seen()
        await call(page)
        await result(page, said)
        await bench.until_more("cancelled", before)


async def test_a_tool_that_asks_back_is_for_the_gateway(bench: Bench) -> None:
    async with bench.tool("ask") as page:
        await call(page)
        await result(page, "The server answered with an error of the protocol")
        await expect(page.locator("#result")).to_contain_text("call it through the gateway")
