"""A browser at the pages: what it complains of, what keeps people out, and how wide a page is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, Page

#: The widths of a phone, a tablet and a desk, in CSS pixels.
WIDTHS = (360, 768, 1280)
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
_AXE = Path(__file__).parents[3] / ".stores/issuer/node_modules/axe-core/axe.min.js"
#: WCAG 2.2 to level AA, and what axe-core calls best practices.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@cache
def _axe() -> str:
    return _AXE.read_text("utf-8")


class BrowsedPage:
    """A page in a browser, with ``complaints``: what its console and its policy say of it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda each: self._heard(each.type, each.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda each: self.complaints.append(f"a dialog: {each.message}"))

    def _heard(self, kind: str, text: str) -> None:
        # What a response says by its status the page has to say itself.
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.complaints.append(f"{kind}: {text}")

    async def findings(self) -> list[str]:
        """What axe-core finds: rule, how bad, where, and what to do."""
        await self.page.evaluate(_axe())
        found: dict[str, Any] = await self.page.evaluate(
            "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})", _RULES
        )
        return [
            f"{each['id']} ({each['impact']}): {node['html'][:200]}: {node['failureSummary']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]

    async def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(await self.page.evaluate(wide))


@asynccontextmanager
async def browsed(
    browser: Browser, *, width: int = 1280, theme: Theme = "light", **more: Any
) -> AsyncIterator[BrowsedPage]:
    """A page of its own, with nothing kept from others; ``more`` is for its context."""
    context = await browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=theme, **more
    )
    try:
        yield BrowsedPage(await context.new_page())
    finally:
        await context.close()
