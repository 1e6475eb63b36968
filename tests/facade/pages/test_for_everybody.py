"""Every page, for everybody: axe-core, three widths, two themes, hostile texts, without scripts."""

from __future__ import annotations

import time

import pytest
from playwright.async_api import Browser

from mcp_discovery.facade.app import OPERATIONS
from tests.facade.harness import Client
from tests.facade.pages.browsing import THEMES, WIDTHS, Theme, browsed

#: What stands for the placeholders of a page's path.
_PLACES = {
    "{name}": "calendar",
    "{server}": "calendar",
    "{tool}": "book_meeting",
    "{issuer}": "0",
}
PATHS = sorted(
    {
        each.path
        for each in OPERATIONS
        if each.group == "pages" and each.method == "GET" and "static" not in each.path
    }
)
#: What is below a facade's own pages and is no page: it leads elsewhere.
_NO_PAGES = {"/ui/login/callback", "/ui/login/{issuer}"}
PAGES = [each for each in PATHS if each not in _NO_PAGES]


async def address(ask: Client, path: str) -> str:
    for placeholder, value in _PLACES.items():
        path = path.replace(placeholder, value)
    if "{event}" in path:
        event = (await ask("GET", "/audit?limit=1")).json["logs"][0]["eventId"]
        path = path.replace("{event}", event)
    return ask.url + path


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(("width", "theme"), [(360, "light"), (1280, "dark")])
async def test_nothing_keeps_anybody_out(
    browser: Browser, fleet: Client, path: str, width: int, theme: Theme
) -> None:
    async with browsed(browser, width=width, theme=theme) as opened:
        await opened.page.goto(await address(fleet, path))
        await opened.page.wait_for_function("document.readyState == 'complete'")
        assert await opened.findings() == []
        assert opened.complaints == []


@pytest.mark.parametrize("path", PAGES)
async def test_no_page_is_wider_than_its_window(browser: Browser, fleet: Client, path: str) -> None:
    for width in WIDTHS:
        async with browsed(browser, width=width) as opened:
            await opened.page.goto(await address(fleet, path))
            assert await opened.overflow() <= 0, f"at {width} pixels"


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_shows_the_same_without_scripts(
    browser: Browser, fleet: Client, path: str
) -> None:
    async with browsed(browser, java_script_enabled=False) as opened:
        await opened.page.goto(await address(fleet, path))
        assert len((await opened.page.locator("main").inner_text()).strip()) > 20


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_small_and_there_at_once(
    browser: Browser, fleet: Client, path: str
) -> None:
    """Under 100 KB with all that it loads; how long that takes is measured by a benchmark."""
    async with browsed(browser) as opened:
        session = await opened.page.context.new_cdp_session(opened.page)
        await session.send("Network.enable")
        sizes: list[float] = []
        session.on("Network.loadingFinished", lambda each: sizes.append(each["encodedDataLength"]))
        began = time.monotonic()
        await opened.page.goto(await address(fleet, path))
        took = time.monotonic() - began
        assert sizes
        assert sum(sizes) < 100_000, f"{sum(sizes):,.0f} bytes in {took:.2f} s"


@pytest.mark.parametrize("theme", THEMES)
async def test_hostile_texts_do_nothing(browser: Browser, fleet: Client, theme: Theme) -> None:
    for path in PAGES:
        async with browsed(browser, theme=theme) as opened:
            await opened.page.goto(await address(fleet, path))
            assert "owned" not in await opened.page.title()
            assert opened.complaints == [], path


async def test_a_page_is_reached_by_the_keyboard_alone(browser: Browser, fleet: Client) -> None:
    async with browsed(browser) as opened:
        page = opened.page
        await page.goto(fleet.url + "/ui/status")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
        focused = []
        for _ in range(4):
            await page.keyboard.press("Tab")
            focused.append(await page.evaluate("document.activeElement.textContent.trim()"))
        assert all(focused), focused


async def test_a_chosen_theme_stays(browser: Browser, fleet: Client) -> None:
    async with browsed(browser, theme="light") as opened:
        page = opened.page
        await page.goto(fleet.url + "/ui/status")
        await page.select_option("#theme", "dark")
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = await page.evaluate(ground)
        await page.goto(fleet.url + "/ui/audit")
        assert await page.evaluate(ground) == dark
        assert await page.input_value("#theme") == "dark"
