"""The status page: what it says of servers, to whom, and when the list is old."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, expect

from mcp_discovery.facade.pages.server_lines import server_lines
from mcp_discovery.health import Health, Status, utcnow
from mcp_discovery.instance import Instance
from tests.facade.harness import Client, served
from tests.facade.large_catalog import LEASE, listing
from tests.facade.pages.browsing import browsed
from tests.records import record


async def test_it_says_what_works_and_what_does_not(ask: Client) -> None:
    empty = (await ask("GET", "/ui/status")).body.decode()
    assert "Nothing is registered" in empty
    await ask("POST", "/servers", {"id": "gone", "name": "gone", "url": "http://127.0.0.1:9/mcp"})
    await ask.until_status("gone", "down")
    page = (await ask("GET", "/ui/status")).body.decode()
    assert 'data-overall="degraded"' in page
    assert "1 server: 0 operational, 0 degraded, 1 down" in page


async def test_hostile_names_stay_text(ask: Client) -> None:
    title = "<img src=x onerror=alert(1)>\u202e\"'&"
    entry = {"id": "bad", "name": "bad", "title": title, "url": "http://127.0.0.1:9/mcp"}
    await ask("POST", "/servers", entry)
    page = (await ask("GET", "/ui/status")).body.decode()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;\\u{202E}" in page


async def test_it_is_open_to_everybody_where_that_is_wanted(tmp_path: Path) -> None:
    file = tmp_path / "auth.yaml"
    file.write_text("tokens: {}\n")
    for public, status in ((False, 401), (True, 200)):
        async with served(auth=str(file), public_status=public) as ask:
            assert (await ask("GET", "/ui/status")).status == status
            assert (await ask("GET", "/status")).status == 401


async def test_no_servers_are_no_lines() -> None:
    assert await server_lines([]) == []


async def test_a_server_that_breaks_a_rule_is_one_that_nobody_can_use() -> None:
    now = utcnow()
    quarantined = Health(Status.QUARANTINED, "its name is like another's", now, now)
    healthy = Health(Status.HEALTHY, "it answers", now, now)
    made = [
        Instance(record("evil-1", name="evil"), quarantined, LEASE),
        Instance(record("both-1", name="both"), quarantined, LEASE),
        Instance(record("both-2", name="both"), healthy, LEASE),
    ]
    async with listing(made, {}) as found:
        reply = await found.ask("GET", "/ui/status")
        assert reply.status == 200, reply.body
    page = reply.body.decode()
    assert "2 servers: 0 operational, 1 degraded, 1 down" in page
    assert "its name is like another&#39;s" in page


async def test_on_a_phone_the_page_that_is_shown_is_seen_among_the_pages(
    browser: Browser, ask: Client
) -> None:
    async with browsed(browser, width=360) as shown:
        await shown.page.goto(f"{ask.url}/ui/status")
        await expect(shown.page.get_by_role("link", name="Status")).to_be_in_viewport(ratio=0.9)
