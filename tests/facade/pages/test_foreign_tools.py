"""Tools of servers that others wrote, called from a browser, through both doors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser import chromium
from tests.facade.harness import served
from tests.foreign.servers import SERVERS, running
from tests.servers.process import running as example

EVERYTHING = SERVERS[0]


@pytest.mark.parametrize("door", ["call_tool", "gateway"])
async def test_the_official_everything_server_and_an_example(tmp_path: Path, door: str) -> None:
    async with (
        running(EVERYTHING, tmp_path) as everything,
        example(("examples/product_catalog.py",)) as catalog,
        served(mcp_call_tool=True, gateway=True, probe_interval=2.0, probe_timeout=10.0) as ask,
        chromium() as browser,
    ):
        for name, url in (("everything", everything.url), ("product-catalog", catalog.url)):
            assert (await ask("POST", "/servers", {"id": name, "name": name, "url": url})).status
            await ask.until_status(name, "healthy", 60)
        page = await browser.new_page()

        async def call(server: str, tool: str, **arguments: str) -> None:
            await page.goto(f"{ask.url}/ui/tools/{server}/{tool}")
            await page.get_by_text("Options").click()
            await page.get_by_label("Through").select_option(door)
            for name, value in arguments.items():
                await page.get_by_label(re.compile(rf"^{name}\b")).fill(value)
            await page.get_by_role("button", name="Call", exact=True).click()

        done = page.locator("#result .notice").first
        await call("everything", "get-sum", a="2", b="40")
        await expect(page.locator("#result-body pre").first).to_contain_text("42")
        await call("everything", "get-tiny-image")
        await expect(page.locator("#result-body img")).to_have_js_property("complete", True)
        assert await page.locator("#result-body img").evaluate("each => each.naturalWidth > 0")
        await call("everything", "trigger-long-running-operation", duration="3", steps="6")
        bar = page.get_by_role("progressbar")
        await expect(bar).to_have_js_property("max", 6)
        await expect(done).to_contain_text("Done")
        await call("everything", "trigger-long-running-operation", duration="60", steps="60")
        await expect(bar).to_have_js_property("max", 60)
        await page.get_by_role("button", name="Cancel").click()
        await expect(done).to_contain_text("Cancelled")
        await call("product-catalog", "search_products", query="kettle")
        await expect(page.locator("#result-body table")).to_contain_text("Gooseneck kettle")
