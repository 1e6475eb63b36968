"""Chromium, driven by Playwright: `make stores` fetches it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

from tests.deploy.tools import program


@asynccontextmanager
async def chromium(names: Mapping[str, str] | None = None) -> AsyncIterator[Browser]:
    """A browser that resolves ``names`` to these addresses, and nothing else by any network."""
    rules = [f"MAP {name} {address}" for name, address in (names or {}).items()]
    rules += ["MAP * ~NOTFOUND", "EXCLUDE 127.0.0.*", "EXCLUDE localhost"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program("chromium"),
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                f"--host-resolver-rules={', '.join(rules)}",
            ],
        )
        try:
            yield browser
        finally:
            await browser.close()
