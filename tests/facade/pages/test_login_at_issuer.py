"""Signing in and out at a certified OpenID Connect server, in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from tests.browser import chromium
from tests.facade.access.issuer import AUDIENCE
from tests.facade.access.oidc_provider import OidcProvider
from tests.facade.access.tokens import guarded

pytestmark = pytest.mark.slow


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[OidcProvider]:
    found = OidcProvider(tmp_path)
    await found.start("one")
    try:
        yield found
    finally:
        await found.stop()


def settings(provider: OidcProvider, folder: Path, client: str, **more: Any) -> dict[str, Any]:
    """The file's sections for a facade whose people sign in there."""
    secret = folder / "client-secret"
    secret.write_text("another secret of the tests\n")
    login = {"client_id": client, "name": "idp"} | more
    if client == "pages":
        login["client_secret_file"] = str(secret)
    issuer = {
        "issuer": provider.url,
        "audience": AUDIENCE,
        "roles_claim": "groups",
        "roles": {"readers": "reader", "operators": "operator"},
        "login": login,
    }
    return {"issuers": [issuer]}


async def authenticate(page: Page, name: str) -> None:
    """Does what a person does at the issuer."""
    await page.fill("input[name=login]", name)
    await page.fill("input[name=password]", "any")
    await page.click("button[type=submit]")
    await page.click("button[type=submit]")  # consents


@pytest.mark.parametrize("client", ["pages", "public-pages"])
async def test_somebody_signs_in_sees_a_page_and_signs_out(
    tmp_path: Path, provider: OidcProvider, client: str
) -> None:
    async with (
        guarded(tmp_path, settings(provider, tmp_path, client)) as ask,
        chromium() as browser,
    ):
        page = await browser.new_page()
        await page.goto(f"{ask.url}/ui/status")
        assert page.url == f"{ask.url}/ui/login?next=%2Fui%2Fstatus"
        await page.click("text=Sign in with idp")
        assert page.url.startswith(provider.url)
        await authenticate(page, "reader")
        await page.wait_for_url(f"{ask.url}/ui/status")
        await page.click("header >> text=reader")
        assert page.url == f"{ask.url}/ui/me"
        main = await page.inner_text("main")
        assert f"{provider.url}#reader" in main
        assert f"the issuer {provider.url}" in main
        who = await page.evaluate("fetch('../whoami').then(each => each.json())")
        assert (who["subject"], who["by"]) == (f"{provider.url}#reader", "jwt")
        assert who["roles"] == ["reader"]
        cookies = {each["name"]: each for each in await page.context.cookies(ask.url)}
        own = next(each for name, each in cookies.items() if "discovery_session" in name)
        assert (own["httpOnly"], own["sameSite"]) == (True, "Strict")
        assert not any("discovery_login" in name for name in cookies)
        assert "discovery_session" not in await page.evaluate("document.cookie")

        await page.click("text=Sign out")
        await page.wait_for_url(f"{provider.url}/session/end**")
        await page.click("button[type=submit]")  # yes, there as well
        await page.wait_for_url(f"{ask.url}/ui/login**")
        assert (await page.request.get(f"{ask.url}/servers")).status == 401
        await page.click("text=Sign in with idp")  # it asks again who it is
        assert await page.is_visible("input[name=login]")


async def test_who_cancels_there_is_told(tmp_path: Path, provider: OidcProvider) -> None:
    async with (
        guarded(tmp_path, settings(provider, tmp_path, "pages")) as ask,
        chromium() as browser,
    ):
        page = await browser.new_page()
        await page.goto(f"{ask.url}/ui/login/idp?next=/ui/me")
        await page.click("text=[ Cancel ]")
        assert page.url.startswith(f"{ask.url}/ui/login/idp/callback?")
        assert "The issuer has not let you in: access_denied" in await page.inner_text("main")


async def test_roles_come_with_the_access_token_too(tmp_path: Path, provider: OidcProvider) -> None:
    sections = settings(provider, tmp_path, "pages", scopes="openid registrar", resource=AUDIENCE)
    issuer = sections["issuers"][0]
    issuer.update(roles_claim="roles", roles=None)
    async with guarded(tmp_path, sections) as ask, chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"{ask.url}/ui/login/idp?next=/ui/me")
        await authenticate(page, "alice")
        await page.wait_for_url(f"{ask.url}/ui/me")
        who = await page.evaluate("fetch('../whoami').then(each => each.json())")
        assert who["roles"] == ["registrar"]
