"""A page that is open while its facade goes, or while its session ends, says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.facade.access.tokens import TOKENS, guarded, write_auth_file
from tests.facade.harness import served
from tests.facade.pages.browsing import browsed

SOON = 30_000.0


@pytest.mark.parametrize("path", ["ui/status", "ui/topology"])
async def test_a_facade_that_is_away(browser: Browser, path: str) -> None:
    async with browsed(browser) as shown:
        async with served() as ask:
            await shown.page.goto(f"{ask.url}/{path}")
        said = shown.page.locator("#not-current")
        await expect(said).to_contain_text("The facade cannot be reached", timeout=SOON)
        assert await said.get_attribute("role") == "alert"
        assert await shown.findings() == []


async def test_a_search_for_tools_that_no_facade_answers(browser: Browser) -> None:
    async with browsed(browser) as shown:
        async with served() as ask:
            await shown.page.goto(f"{ask.url}/ui/tools")
        await shown.page.get_by_role("searchbox").fill("meet")
        said = shown.page.locator("#not-current")
        await expect(said).to_contain_text("The facade cannot be reached", timeout=SOON)


async def test_a_session_that_has_ended(browser: Browser, tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask, browsed(browser) as shown:
        page = shown.page
        await page.goto(f"{ask.url}/ui/login?next=/ui/status")
        await page.fill("#token", TOKENS["reader"])
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{ask.url}/ui/status")
        write_auth_file(tmp_path / "auth.yaml", tokens={})
        await page.get_by_role("link", name="Sign in again").click(timeout=SOON)
        await page.wait_for_url(re.compile(r"/ui/login\?next=%2Fui%2Fstatus$"))
