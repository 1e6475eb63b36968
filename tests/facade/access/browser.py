"""A browser as far as cookies and forms go: what it is given it sends back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp

from tests.facade.access.tokens import TOKENS, guarded
from tests.facade.harness import Client, Reply

HTML = {"Accept": "text/html,application/xhtml+xml"}


class CookieClient(Client):
    """Asks a facade as a browser does, and follows no redirect by itself."""

    async def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Reply:
        more.setdefault("allow_redirects", False)
        return await super().__call__(method, path, body, **more)

    async def open(self, path: str) -> Reply:
        """Navigates to ``path``."""
        return await self("GET", path, headers=HTML)

    async def form(self, path: str = "/ui/login") -> dict[str, str]:
        """The hidden fields of the page at ``path``."""
        page = (await self.open(path)).body.decode()
        return hidden_fields(page)

    async def sign_in(self, token: str, next: str = "/") -> Reply:
        """Sends the form to sign in with."""
        fields = await self.form() | {"token": token, "next": next}
        return await self("POST", "/ui/login", data=fields, headers=HTML)

    async def csrf(self) -> str:
        """The token of the session, from a page."""
        page = (await self.open("/ui/me")).body.decode()
        found = re.search(r'name="csrf-token" content="([^"]+)"', page)
        assert found is not None, page
        return found[1]

    @property
    def cookies(self) -> dict[str, str]:
        """What it has of the facade."""
        return {each.key: each.value for each in self.session.cookie_jar if each.value}


def cookie_name(url: str, kind: str = "session") -> str:
    """What the facade at ``url``, without TLS, calls its cookie."""
    return f"mcp_discovery_{kind}_{url.rpartition(':')[2]}"


def hidden_fields(page: str) -> dict[str, str]:
    """The hidden fields of all forms in ``page``."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return {name: unescape(value) for name, value in found}


@asynccontextmanager
async def browser_of(ask: Client) -> AsyncIterator[CookieClient]:
    """A browser without any cookie yet."""
    jar = aiohttp.CookieJar(unsafe=True)  # for an address instead of a name
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield CookieClient(ask.url, session)


@asynccontextmanager
async def signed_in(
    folder: Path, role: str = "operator", sections: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[CookieClient]:
    """A browser that is signed in at a facade of its own with the token of ``role``."""
    async with guarded(folder, sections, **more) as ask, browser_of(ask) as browser:
        assert (await browser.sign_in(TOKENS[role])).status == 303
        yield browser
