"""Takes the pictures of ``docs/pictures/``: ``scripts/take-pictures``.

The servers in them are those of :mod:`tests.facade.pages.office`, and some that only the list
knows.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from tests.browser import chromium
from tests.facade.harness import leased
from tests.facade.pages.browsing import Theme, browsed
from tests.facade.pages.office import Office, office

#: No picture has more bytes: pages that show them are to be there at once.
MOST_BYTES = 120_000
OTHERS = (
    ("billing", "Billing", "Invoices, payments and reminders.", "eu-1", "3.2.1"),
    ("documents", "Documents", "Finds and reads documents of all teams.", "eu-2", "2.0.4"),
    ("forecast", "Weather", "Forecasts and warnings for any place.", "us-1", "0.9.0"),
    ("translate", "Translation", "Translates texts between forty languages.", "eu-1", "5.1.0"),
)


async def main(folder: Path) -> None:
    """Takes all of them into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="office-") as place:
        async with office(Path(place), "--no-try-advertised") as found, chromium() as browser:
            await _furnish(found)
            camera = _Camera(found, browser, folder)
            await camera.take_all()


async def _furnish(found: Office) -> None:
    for name, title, description, zone, version in OTHERS:
        for number in range(1, 3 if name == "documents" else 2):
            about = {"title": title, "description": description, "zone": zone, "version": version}
            body = leased(f"{name}-{number}", name=name, tags=["office"], **about)
            reply = await found.ask("POST", "/servers", body | {"lease": {"ttl": 600}})
            assert reply.status == 201, reply.body


class _Camera:
    def __init__(self, found: Office, browser: Browser, folder: Path) -> None:
        self._office, self._browser, self._folder = found, browser, folder

    @asynccontextmanager
    async def _page(
        self, path: str, *, width: int = 1280, theme: Theme = "light"
    ) -> AsyncIterator[Page]:
        async with browsed(self._browser, width=width, theme=theme) as shown:
            page = shown.page
            await page.goto(f"{self._office.url}/ui/login")
            await page.fill("#token", self._office.tokens["ada"])
            await page.keyboard.press("Enter")
            await page.wait_for_url(f"{self._office.url}/")
            await page.goto(self._office.url + path)
            await page.wait_for_load_state("networkidle" if "audit" in path else "load")
            yield page

    async def _take(self, page: Page, name: str, height: int) -> None:
        size = page.viewport_size
        assert size is not None
        await page.set_viewport_size({"width": size["width"], "height": height})
        file = self._folder / f"{name}.png"
        taken = await page.screenshot(path=file, animations="disabled", caret="hide")
        assert len(taken) <= MOST_BYTES, f"{file} has {len(taken)} bytes"

    async def take_all(self) -> None:
        live = "#servers-live[data-state=live]"
        async with self._page("/ui/tools/calendar/list_meetings") as page:
            await page.get_by_role("button", name="Call", exact=True).click()
            await expect(page.locator("#result tbody tr")).to_have_count(6, timeout=20_000)
            await page.evaluate("scrollTo(0, 0)")
            await self._take(page, "tool", 1130)
        async with self._page("/") as page:
            await page.wait_for_selector(live)
            await page.get_by_role("searchbox").blur()
            await self._take(page, "servers", 740)
        async with self._page("/ui/servers/calendar") as page:
            await page.wait_for_selector("#server-live[data-state=live]")
            await self._take(page, "server", 760)
        async with self._page("/ui/audit", theme="dark") as page:
            await self._take(page, "audit", 720)
        async with self._page("/", width=390, theme="dark") as page:
            await page.wait_for_selector(live)
            await self._take(page, "phone", 844)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
