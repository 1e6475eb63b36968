"""The pages in a browser: how soon the first one is there, how much it loads, what it costs."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import aiohttp
from playwright.async_api import Browser

from benchmarks.harness import Contender, Contest, Goal, Measured, Scale, row
from benchmarks.processes import python
from tests.browser import chromium

_INSTANCES = 10_000
#: What the browser's own clock says of the page: from the request until its document can be used,
#: and until all that it loads is there.
_TIMING = """() => {
  const [page] = performance.getEntriesByType("navigation");
  return [page.responseEnd, page.domContentLoadedEventEnd];
}"""
_PAGES = {"servers": "/", "tools": "/ui/tools", "status": "/ui/status"}


@row(
    16,
    "pages",
    f"a page of {_INSTANCES:,} instances in Chromium that has loaded nothing yet",
    unit="ms",
    goals=(
        Goal(200, figure="usable", absolute=True),
        Goal(100, figure="loaded", absolute=True, unit="KB"),
    ),
)
async def first_page(scale: Scale) -> AsyncGenerator[Contest, None]:
    """Until the document can be used, with scripts run; and what was sent, compressed."""
    async with (
        python("benchmarks.filled_facade", str(_INSTANCES)) as (url, _),
        chromium() as browser,
    ):
        contenders = [
            Contender(name, _opened(browser, url + path)) for name, path in _PAGES.items()
        ]
        yield Contest(contenders, rounds=scale.of(7, 2))


def _opened(browser: Browser, url: str) -> Callable[[], Awaitable[Measured]]:
    async def run() -> Measured:
        context = await browser.new_context()
        try:
            page = await context.new_page()
            session = await context.new_cdp_session(page)
            await session.send("Network.enable")
            sizes: list[float] = []
            session.on(
                "Network.loadingFinished", lambda each: sizes.append(each["encodedDataLength"])
            )
            await page.goto(url)
            _, usable = await page.evaluate(_TIMING)
            return {"usable": usable, "loaded": sum(sizes) / 1000}
        finally:
            await context.close()

    return run


@row(
    16,
    "page-beside-list",
    f"the page of {_INSTANCES:,} instances from the facade, beside the JSON of as many of them",
    unit="ms",
    goals=(Goal(40, absolute=True),),
)
async def rendered(scale: Scale) -> AsyncGenerator[Contest, None]:
    """What the server alone takes for a page: the mean of requests one after the other."""
    async with (
        python("benchmarks.filled_facade", str(_INSTANCES)) as (url, _),
        aiohttp.ClientSession() as http,
    ):

        def asked(path: str) -> Callable[[], Awaitable[float]]:
            async def run() -> float:
                times = scale.of(30, 5)
                began = time.perf_counter()
                for _ in range(times):
                    async with http.get(url + path) as response:
                        response.raise_for_status()
                        await response.read()
                return (time.perf_counter() - began) * 1000 / times

            return run

        await asked("/")()
        contenders = [Contender(name, asked(path)) for name, path in _PAGES.items()]
        contenders.append(Contender("50 of the list as JSON", asked("/servers?limit=50"), False))
        yield Contest(contenders)
