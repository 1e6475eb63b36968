"""The page of all servers in Chromium: it is live, goes by the keyboard, and bears ten thousand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page
from playwright.async_api import Error as PlaywrightError

from mcp_discovery.facade.access.list_parts import PARTS
from mcp_discovery.facade.servers.events import STREAMS
from mcp_discovery.health import Health, Status, utcnow
from tests.facade.harness import Client, leased
from tests.facade.large_catalog import LargeCatalog, large_catalog
from tests.facade.pages.browsing import BrowsedPage, browsed
from tests.stores.waiting import NotYet, until

#: A task of the page's thread may take so many milliseconds of the processor's time: longer ones
#: than 50 are felt, and beside other tests the same work takes up to twice as long. The clock on
#: the wall would measure what else this machine does.
MOST_MILLISECONDS = 100.0
LIVE = "document.getElementById('servers-live').dataset.state === 'live'"
WHOLE = f"{LIVE} && !document.getElementById('servers-number').textContent.includes('…')"
ACTIVE = "document.activeElement.dataset.key ?? document.activeElement.id"


async def is_so(page: Page, sentence: str, timeout: float = 30.0) -> None:
    """Waits until an expression is true in the page."""

    async def tried() -> bool:
        try:
            return bool(await page.evaluate(sentence))
        except PlaywrightError as error:  # the page is being loaded anew
            raise NotYet(str(error)) from error

    await until(tried, timeout=timeout, what=sentence)


async def opened(browsed: BrowsedPage, url: str) -> Page:
    await browsed.page.goto(url)
    await is_so(browsed.page, WHOLE)
    return browsed.page


async def texts(page: Page) -> list[str]:
    """The rows that are shown, as text."""
    found = await page.locator("#servers-table tbody tr").all_inner_texts()
    return [" ".join(each.split()) for each in found]


async def fill(ask: Client, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        assert (await ask("POST", "/servers", body)).status == 201


async def test_what_happens_is_shown_without_a_reload(browser: Browser, ask: Client) -> None:
    await fill(ask, leased("maps-1", name="maps"), leased("shop-1", name="shop"))
    async with browsed(browser) as each:
        page = await opened(each, ask.url)
        await page.evaluate("window.stayed = true")
        await fill(ask, leased("calendar-1", name="calendar"), leased("shop-2", name="shop"))
        await ask("POST", "/servers/maps-1/drain")
        shown = "[...document.querySelectorAll('#servers-table tbody tr')].map(r => r.innerText)"
        await is_so(page, f"{shown}.length === 3 && {shown}[1].includes('draining')")
        rows = await texts(page)
        assert [row.split()[0] for row in rows] == ["calendar", "maps", "shop"]
        assert "2 healthy" in rows[2]
        await is_so(page, "document.querySelector('[data-count=draining]').textContent === '1'")
        await is_so(page, "document.getElementById('live').textContent.includes('is draining')")
        assert (await ask("DELETE", "/servers/calendar-1")).status in (200, 204)
        await is_so(page, f"{shown}.length === 2")
        assert await page.evaluate("window.stayed")
        assert each.complaints == []


async def test_the_first_server_appears_by_itself(browser: Browser, ask: Client) -> None:
    async with browsed(browser) as each:
        await each.page.goto(ask.url)
        await is_so(each.page, LIVE)
        assert await each.page.get_by_text("No servers yet").is_visible()
        await fill(ask, leased("shop-1", name="shop"))
        await is_so(each.page, "document.querySelectorAll('#servers-table tbody tr').length === 1")


async def test_the_url_is_the_state(browser: Browser, ask: Client) -> None:
    await fill(
        ask,
        leased("maps-1", name="maps", zone="eu", description="Weather and maps."),
        leased("shop-1", name="shop", zone="us"),
    )
    await ask("POST", "/servers/shop-1/drain")
    async with browsed(browser) as each:
        page = await opened(each, ask.url)
        await page.evaluate("window.stayed = true")
        await page.keyboard.press("/")
        await page.keyboard.type("weather")
        await page.keyboard.press("Enter")
        await is_so(page, f"location.search === '?q=weather' && {WHOLE}")
        await is_so(page, "document.querySelectorAll('#servers-table tbody tr').length === 1")
        assert "matched: weather" in (await texts(page))[0]
        await page.get_by_role("link", name="words: weather").click()
        await is_so(page, "document.querySelectorAll('#servers-table tbody tr').length === 2")
        await page.get_by_role("navigation", name="By status").get_by_text("draining").click()
        await is_so(page, "document.querySelectorAll('#servers-table tbody tr').length === 1")
        assert urlsplit(page.url).query == "status=draining"
        await page.go_back()
        await is_so(page, "document.querySelectorAll('#servers-table tbody tr').length === 2")
        await page.get_by_role("columnheader", name="Server").get_by_role("link").click()
        await is_so(page, "location.search === '?sort=-name'")
        await is_so(
            page, "document.querySelector('tbody tr[aria-rowindex=\"2\"]').dataset.key === 'shop'"
        )
        assert await page.evaluate("window.stayed")
        assert each.complaints == []


async def test_a_new_match_of_a_search_appears(browser: Browser, ask: Client) -> None:
    await fill(ask, leased("sky-1", name="sky", description="Weather."))
    async with browsed(browser) as each:
        page = await opened(each, f"{ask.url}/?q=weather")
        await fill(ask, leased("rain-1", name="rain", description="Weather of tomorrow."))
        await is_so(page, "document.querySelectorAll('#servers-table tbody tr').length === 2")


async def test_a_lost_facade_is_told_and_what_was_missed_comes_later(browser: Browser) -> None:
    async with large_catalog(30) as found, browsed(browser) as each:
        page = await opened(each, found.ask.url)
        await page.context.set_offline(True)
        found.app[PARTS][STREAMS].open.end(lambda _: True)  # what is connected stays so otherwise
        await is_so(page, "document.getElementById('servers-live').dataset.state === 'away'")
        assert "Disconnected" in await page.inner_text("#servers-live")
        found.remove("i-00007")
        await page.context.set_offline(False)
        await is_so(page, LIVE)
        await is_so(page, "document.querySelector('[data-count=all]').textContent === '29'")


async def test_rows_are_those_of_a_tree_grid(browser: Browser, ask: Client) -> None:
    await fill(
        ask,
        *(leased(f"s-{n:03}", name=f"s-{n:03}") for n in range(300)),
        *(leased(f"shop-{n}", name="shop") for n in (1, 2)),
    )
    async with browsed(browser) as each:
        page = await opened(each, ask.url)
        await is_so(page, "document.getElementById('servers-table').ariaRowCount === '302'")
        assert await page.locator("#servers-table tbody tr").count() < 60
        await page.locator("tbody tr[tabindex='0']").focus()
        for key, found in (
            ("ArrowDown", "s-001"),
            ("End", "shop"),
            ("ArrowUp", "s-299"),
            ("Home", "s-000"),
        ):
            await page.keyboard.press(key)
            assert await page.evaluate(ACTIVE) == found, key
        await page.keyboard.press("PageDown")
        place = int(await page.evaluate("document.activeElement.getAttribute('aria-rowindex')"))
        assert 8 < place < 40
        await page.keyboard.press("End")
        last = page.locator("tbody tr[data-key='shop']")
        assert await last.get_attribute("aria-expanded") == "false"
        await page.keyboard.press("ArrowRight")
        await is_so(page, "document.querySelectorAll('tbody tr[aria-level=\"2\"]').length === 2")
        await page.keyboard.press("ArrowDown")
        assert await page.evaluate(ACTIVE) == "shop shop-1"
        assert await each.findings() == []
        await page.keyboard.press("ArrowLeft")
        assert await page.evaluate(ACTIVE) == "shop"
        await page.keyboard.press("ArrowLeft")
        await is_so(page, "document.querySelectorAll('tbody tr[aria-level=\"2\"]').length === 0")
        await page.keyboard.press("Home")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/ui/servers/s-000*")


async def busiest(page: Page, action: Callable[[], Awaitable[object]]) -> float:
    """The longest task of the page's thread during ``action``, in milliseconds of its processor
    time."""
    session = await page.context.new_cdp_session(page)
    events: list[dict[str, Any]] = []
    over = asyncio.Event()
    session.on("Tracing.dataCollected", lambda each: events.extend(each["value"]))
    session.on("Tracing.tracingComplete", lambda _: over.set())
    config = {"includedCategories": ["toplevel"], "excludedCategories": ["*"]}
    await session.send("Tracing.start", {"traceConfig": config, "transferMode": "ReportEvents"})
    await action()
    await session.send("Tracing.end")
    async with asyncio.timeout(30):
        await over.wait()
    threads = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    tasks: list[float] = [
        each["tdur"] / 1000
        for each in events
        if (each["pid"], each["tid"]) in threads and "tdur" in each
    ]
    assert len(tasks) > 100, "the page's thread was traced"
    return max(tasks)


async def churn(found: LargeCatalog, changes: int = 10, pause: float = 0.1) -> None:
    """So many changes of status, again and again."""
    number = 0
    ids = list(found.instances)
    while True:
        for _ in range(changes):
            number += 1
            one = found.instances[ids[number * 37 % len(ids)]]
            status = list(Status)[number % 4]
            health = Health(status, f"is {status}", utcnow(), utcnow())
            found.change(replace(one, health=health))
        await asyncio.sleep(pause)


@pytest.mark.parametrize("query", ["", "?sort=-since"])
async def test_ten_thousand_under_change_do_not_stutter(browser: Browser, query: str) -> None:
    """100 changes a second, while it loads, rests and is scrolled through."""
    async with large_catalog(10_000) as found, browsed(browser) as each:
        changing = asyncio.create_task(churn(found))
        page = each.page

        async def used() -> None:
            await opened(each, f"{found.ask.url}/{query}")
            await page.evaluate(
                """() => new Promise((done) => {
                  let left = 120;
                  const step = () => {
                    scrollBy(0, 300);
                    if ((left -= 1) > 0) requestAnimationFrame(step); else done();
                  };
                  step();
                })"""
            )

        try:
            assert await busiest(page, used) < MOST_MILLISECONDS
        finally:
            changing.cancel()
        for status in Status:
            count = sum(one.health.status is status for one in found.instances.values())
            shown = f"document.querySelector('[data-count={status}]').textContent.replace(',', '')"
            await is_so(page, f"{shown} === '{count}'")
        assert each.complaints == []


async def test_a_server_is_followed_in_place(browser: Browser, ask: Client) -> None:
    await fill(ask, leased("maps-1", name="maps"), leased("shop-1", name="shop"))
    async with browsed(browser) as each:
        page = each.page
        await page.goto(f"{ask.url}/ui/servers/maps")
        await is_so(page, "document.getElementById('server-live').dataset.state === 'live'")
        await page.evaluate("window.stayed = true")
        await page.get_by_text("VS Code", exact=True).click()
        await ask("POST", "/servers/maps-1/drain")
        await is_so(page, "document.querySelector('.server-marks').innerText.includes('draining')")
        await is_so(page, "document.getElementById('live').textContent.includes('is draining')")
        await fill(ask, leased("maps-2", name="maps"))
        rows = "document.querySelectorAll('.server-instances tbody tr').length"
        await is_so(page, f"{rows} === 2")
        assert await page.evaluate("window.stayed")
        opened_way = page.locator(".server-way[open]")
        assert '"servers"' in await opened_way.inner_text()
        assert each.complaints == []
        for id in ("maps-1", "maps-2"):
            await ask("DELETE", f"/servers/{id}")
        await page.get_by_role("heading", name="No such server").wait_for()


@pytest.mark.parametrize("width", [360, 1280])
async def test_four_thousand_letters_without_a_space_keep_nobody_out(
    browser: Browser, ask: Client, width: int
) -> None:
    wide = {"title": "W" * 200, "description": "W" * 4000, "zone": "W" * 60, "version": "1.0.0"}
    await fill(ask, leased("shop-1", name="s" * 60, metadata={"k" * 60: "W" * 1000}, **wide))
    async with browsed(browser, width=width) as each:
        for path in ("/", f"/ui/servers/{'s' * 60}", "/ui/servers/nothing"):
            await each.page.goto(ask.url + path)
            await is_so(each.page, "document.readyState === 'complete'")
            assert await each.overflow() <= 0, path
            assert await each.findings() == [], path
