"""The page that asks, in a browser: a fake of a model, a real server, texts that mean harm."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from playwright.async_api import Browser, expect

from tests.facade.harness import Client, served
from tests.facade.pages.browsing import browsed
from tests.facade.pages.fleet import HOSTILE
from tests.mcp_discovery.ask.fake_models import Fails, FakeModelServer, Hangs, Planned, Says
from tests.mcp_discovery.ask.fake_openai import FakeOpenAI
from tests.servers.process import McpServer, example
from tests.stores.waiting import bounded

QUESTION = "Search the products for a kettle."
Start = Callable[..., AbstractAsyncContextManager[tuple[Client, FakeModelServer]]]


@pytest.fixture(scope="module")
async def products() -> AsyncIterator[McpServer]:
    """The server whose tools are called."""
    async with example("product_catalog") as server:
        yield server


@pytest.fixture
def start(products: McpServer, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a facade that asks a fake with a script."""

    @asynccontextmanager
    async def started(*script: Planned) -> AsyncIterator[tuple[Client, FakeModelServer]]:
        async with FakeOpenAI(*script).running() as fake:
            fake.use(monkeypatch)
            async with served() as ask:
                body = {"id": "products-1", "name": "products", "url": products.url}
                reply = await ask("POST", "/servers", body)
                assert reply.status in (200, 201), reply.body
                await ask.until_status("products-1", "healthy")
                yield ask, fake

    return started


async def test_each_step_is_shown(browser: Browser, start: Start) -> None:
    called = ("products__search_products", {"query": "kettle"})
    hostile = " ".join(HOSTILE)
    missing = ("products__get_product", {"sku": HOSTILE[0]})
    script = (Says("Let me look.", (called, missing)), Says(f"One kettle. {hostile}"))
    async with start(*script) as (ask, _), browsed(browser, width=360) as opened:
        page = opened.page
        await page.goto(f"{ask.url}/ui/ask?question={QUESTION}")
        assert await page.input_value("#question") == QUESTION
        await page.get_by_role("button", name="Ask", exact=True).click()
        await expect(page.locator("#figures")).to_contain_text("2 turns, 2 calls", timeout=20_000)
        answer = await page.locator("#answer").inner_text()
        assert answer.startswith("One kettle. <script>") and "\\u{202E}" in answer
        steps = page.locator("#steps > li")
        told = await steps.all_inner_texts()
        assert told[0].startswith("Found products · ") and told[1] == "Let me look."
        assert "products · search_products" in told[2] and "done" in told[2]
        assert "products · get_product" in told[3] and "failed" in told[3]
        assert not await steps.nth(2).get_by_label("Result").is_visible()
        await steps.nth(2).locator("summary").press("Enter")
        assert "KET-100" in await steps.nth(2).get_by_label("Result").inner_text()
        await steps.nth(3).locator("summary").click()
        assert "<script>" in await steps.nth(3).get_by_label("Arguments").inner_text()
        assert await opened.findings() == []
        assert await opened.overflow() <= 0
        assert "owned" not in await page.title() and opened.complaints == []


async def test_a_question_can_be_stopped(browser: Browser, start: Start) -> None:
    script = (Hangs("I think"), Fails(400, "broken"))
    async with start(*script) as (ask, fake), browsed(browser) as opened:
        page = opened.page
        await page.goto(f"{ask.url}/ui/ask")
        await page.get_by_label("Question").fill(QUESTION)
        await page.get_by_label("Question").press("Control+Enter")
        await expect(page.locator("#answer")).to_contain_text("I think", timeout=20_000)
        await page.get_by_role("button", name="Stop").click()
        await bounded(fake.left.wait(), 20)
        assert "Stopped." in await page.locator("#steps").inner_text()
        assert await page.get_by_role("button", name="Stop").is_disabled()
        # What fails is said, with the id that the log and the audit have.
        await page.get_by_role("button", name="Ask", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("broken", timeout=20_000)
        assert "(request " in await page.get_by_role("alert").inner_text()
        assert opened.complaints == []


async def test_without_a_model_the_page_says_what_to_do(fleet: Client) -> None:
    reply = await fleet("GET", "/ui/ask", headers={"Accept": "text/html"})
    text = reply.body.decode()
    assert reply.status == 200 and "This facade answers no questions: start it with" in text
    assert "<form" not in text.partition("<main")[2] and "ask.js" not in text
