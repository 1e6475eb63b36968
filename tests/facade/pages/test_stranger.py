"""What a stranger does on the pages, over real servers: each task within three clicks.

A key that sends something off counts as a click. ``--log-cli-level=INFO`` tells the clicks and the
seconds of each.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import httpx2
import pytest
import pytest_asyncio
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from playwright.async_api import Browser, Locator, Page, StorageState, expect

from tests.browser import chromium
from tests.facade.pages.office import Office, office
from tests.stores.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOG = logging.getLogger(__name__)
#: How many clicks a task may take.
MOST_CLICKS = 3


class Stranger:
    """Somebody at a page, whose clicks are counted."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0

    async def click(self, what: Locator) -> None:
        """One click."""
        self.clicks += 1
        await what.click()

    async def link(self, name: str) -> None:
        """A click on a link of the page's content, or else of its navigation."""
        await self.click(self.page.get_by_role("link", name=name, exact=True).first)

    async def button(self, name: str) -> None:
        """A click on a button."""
        await self.click(self.page.get_by_role("button", name=name, exact=True).first)

    async def enter(self) -> None:
        """The key that sends off what was written."""
        self.clicks += 1
        await self.page.keyboard.press("Enter")


Begin = Callable[..., AbstractAsyncContextManager[Stranger]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    """The office."""
    async with office(tmp_path_factory.mktemp("office")) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own_browser() -> AsyncIterator[Browser]:
    """A browser in this module's loop."""
    async with chromium() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signed_in(place: Office, own_browser: Browser) -> StorageState:
    """What a browser keeps after ada has signed in."""
    page = await own_browser.new_page()
    await page.goto(f"{place.url}/ui/login")
    await page.fill("#token", place.tokens["ada"])
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{place.url}/")
    state = await page.context.storage_state()
    await page.context.close()
    return state


@pytest.fixture
def begin(
    place: Office,
    own_browser: Browser,
    signed_in: StorageState,
    request: pytest.FixtureRequest,
) -> Begin:
    """``begin(path, known=True)``: a task begins there; its clicks and seconds are logged."""

    @asynccontextmanager
    async def beginning(path: str = "/", *, known: bool = True) -> AsyncIterator[Stranger]:
        context = await own_browser.new_context(
            storage_state=signed_in if known else None,
            permissions=["clipboard-read", "clipboard-write"],
        )
        page = await context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        try:
            await page.goto(place.url + path)
            stranger, began = Stranger(page), time.monotonic()
            yield stranger
            seconds = time.monotonic() - began
            LOG.info("%s: %d clicks, %.1f s", request.node.name, stranger.clicks, seconds)
            assert stranger.clicks <= MOST_CLICKS
            assert errors == []
        finally:
            await context.close()

    return beginning


async def test_sign_in_at_an_issuer(place: Office, begin: Begin) -> None:
    async with begin(known=False) as stranger:
        page = stranger.page
        await stranger.link("Sign in with idp")
        await page.fill("input[name=login]", "operator")
        await page.fill("input[name=password]", "any")
        for _ in ("signs in there", "consents there"):
            await page.click("button[type=submit]")
        await page.wait_for_url(f"{place.url}/")
        await expect(page.get_by_role("link", name="Audit")).to_be_visible()


async def test_find_a_server_that_books_meetings(begin: Begin) -> None:
    async with begin() as stranger:
        page = stranger.page
        await page.get_by_role("searchbox").fill("book a meeting")
        await stranger.enter()
        await page.wait_for_url("**q=book+a+meeting*")
        await expect(page.locator(".servers-table tbody tr").first).to_contain_text("calendar")


async def test_see_why_one_is_down_and_since_when(place: Office, begin: Begin) -> None:
    since = (await place.ask("GET", "/servers/meeting-rooms-1")).json["since"]
    async with begin() as stranger:
        page = stranger.page
        await stranger.link("meeting-rooms")
        await expect(page.locator(".notice.bad")).to_have_text("connection refused")
        told = page.locator(".server-head time")
        await expect(told).to_have_attribute("datetime", since)
        await expect(told).to_contain_text("ago")


async def test_call_a_tool_and_read_its_result_as_a_table(begin: Begin) -> None:
    async with begin() as stranger:
        page = stranger.page
        await stranger.link("calendar")
        await stranger.link("list_meetings")
        await stranger.button("Call")
        table = page.locator("#result table")
        await expect(table.locator("tbody tr")).to_have_count(6, timeout=15_000)
        await expect(table.locator("tbody tr").first).to_contain_text("Planning")
        # Each of its texts is a row of the table: it is shown once.
        await expect(page.locator("#result h3")).to_have_text(["Structured"])


async def test_cancel_a_long_call(place: Office, begin: Begin) -> None:
    async with begin("/ui/servers/calendar") as stranger:
        page = stranger.page
        await stranger.link("find_free_slot")
        await page.get_by_label("weeks").fill("500")
        await stranger.button("Call")
        await expect(page.get_by_role("progressbar")).to_be_visible(timeout=15_000)
        await expect(page.locator(".tools-progress")).to_contain_text("of 500")
        await stranger.button("Cancel")
        await expect(page.locator("#result")).to_contain_text("Cancelled after")

    async def was_told() -> bool:
        ended = 0
        async with aiohttp.ClientSession() as http:
            for each in place.calendars:
                async with http.get(f"{each.base_url}/health") as reply:
                    ended += (await reply.json()).get("cancelled", 0)
        return ended == 1

    await until(was_told, timeout=20, what="the server having cancelled the call")


async def test_find_who_changed_a_server(begin: Begin) -> None:
    async with begin() as stranger:
        await stranger.link("shop")
        await stranger.link("Who changed it")
        row = stranger.page.locator("tbody tr", has_text="register").first
        await expect(row).to_contain_text("ada")
        await expect(row).to_contain_text("shop-1")


async def test_read_what_changed_between_two_versions(begin: Begin) -> None:
    async with begin() as stranger:
        await stranger.link("calendar")
        diff = stranger.page.locator(".server-diff")
        await expect(diff.locator(".server-added")).to_contain_text("cancel_meeting")
        await expect(diff.locator("li", has_text="book_meeting").locator("ins")).to_have_text(
            " Refuses a room that is taken."
        )


async def test_copy_what_vs_code_wants_and_it_works(place: Office, begin: Begin) -> None:
    async with begin() as stranger:
        page = stranger.page
        await stranger.link("calendar")
        await stranger.click(page.locator("summary", has_text="VS Code"))
        await stranger.button("Copy: VS Code")
        copied = json.loads(await page.evaluate("navigator.clipboard.readText()"))
    server = copied["servers"]["calendar"]
    wanted = copied["inputs"][0]["id"]
    # As VS Code does when somebody has given it the token that it asks for.
    given = {
        name: value.replace(f"${{input:{wanted}}}", place.tokens["ben"])
        for name, value in server["headers"].items()
    }
    async with (
        httpx2.AsyncClient(headers=given) as http,
        Client(streamable_http_client(server["url"], http_client=http)) as client,
    ):
        result = await client.call_tool("list_meetings", {"room": "Turing"})
    assert not result.is_error
    assert "One to one" in str(result.content)


async def test_see_who_leads_in_the_store(place: Office, begin: Begin) -> None:
    leader = (await place.store.leader()).name
    async with begin() as stranger:
        await stranger.link("Topology")
        member = stranger.page.locator("section li", has_text="leader")
        await expect(member.locator("strong")).to_have_text(leader)


async def test_see_what_a_colleague_with_fewer_rights_sees(place: Office, begin: Begin) -> None:
    async with begin(known=False) as stranger:
        page = stranger.page
        await page.get_by_label("Token").fill(place.tokens["ben"])
        await stranger.enter()
        await page.wait_for_url(f"{place.url}/")
        await expect(page.locator(".servers-table tbody tr")).to_have_count(1)
        await expect(page.locator(".servers-table tbody tr")).to_contain_text("calendar")
        pages = page.get_by_role("navigation", name="Pages").get_by_role("link")
        await expect(pages).to_have_text(["Servers", "Tools", "Ask", "Status"])
        await stranger.link("Me: ben")
        await expect(page.locator("main")).to_contain_text("names: calendar")
        told = [await page.request.get(f"{place.url}/ui/servers/{n}") for n in ("shop", "no-shop")]
        assert [each.status for each in told] == [404, 404]
        mains = [(await each.text()).partition("<main")[2] for each in told]
        known, unknown = (each.replace("no-shop", "shop") for each in mains)
        assert known == unknown


async def test_export_the_audit(begin: Begin, tmp_path: Path) -> None:
    async with begin() as stranger:
        await stranger.link("Audit")
        async with stranger.page.expect_download() as coming:
            await stranger.link("Export CSV")
        download = await coming.value
        await download.save_as(tmp_path / "audit.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "audit.csv").read_text("utf-8-sig"))))
    assert {("ada", "register", "shop-1")} <= {
        (row["userId"], row["operation"], row["id"]) for row in rows
    }
