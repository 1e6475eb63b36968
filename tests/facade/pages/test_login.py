"""Signing in by a token and out, where that leads to, and who is sent there."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from mcp_discovery.facade.pages.login import onward
from tests.facade.access.browser import HTML, browser_of, cookie_name, signed_in
from tests.facade.access.tokens import TOKENS, bearer, guarded
from tests.facade.harness import Client


async def test_a_page_leads_to_the_form_and_back(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask, browser_of(ask) as browser:
        sent = await browser.open("/ui/status?page=2")
        assert (sent.status, sent.headers["Location"]) == (
            303,
            "../ui/login?next=%2Fui%2Fstatus%3Fpage%3D2",
        )
        assert (await browser.open("/")).headers["Location"] == "./ui/login?next=%2F"
        fields = await browser.form("/ui/login?next=%2Fui%2Fstatus%3Fpage%3D2")
        assert fields["next"] == "/ui/status?page=2"
        reply = await browser("POST", "/ui/login", data=fields | {"token": TOKENS["reader"]})
        assert (reply.status, reply.headers["Location"]) == (303, "../ui/status?page=2")
        page = await browser.open("/ui/status?page=2")
        assert page.status == 200
        assert b"Me: reader" in page.body


async def test_only_who_navigates_is_led_there(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        assert (await ask("GET", "/ui/status")).status == 401
        for path in ("/servers", "/whoami/x", "/health"):
            assert (await ask("GET", path, headers=HTML, allow_redirects=False)).status != 303
        fetched = HTML | {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
        assert (await ask("GET", "/ui/status", headers=fetched)).status == 401


async def test_a_token_that_does_not_count(tmp_path: Path) -> None:
    limits = {"anonymous": {"refusals": "3/minute"}}
    async with guarded(tmp_path, {"limits": limits}) as ask, browser_of(ask) as browser:
        for wrong in ("mcpd_reader_wrong", "", "a b\r\nX: y"):
            reply = await browser.sign_in(wrong)
            assert reply.status == 401
            assert b'role="alert">This token is not valid here' in reply.body
            assert cookie_name(browser.url) not in browser.cookies
        assert (await browser.sign_in("mcpd_reader_wrong")).status == 429


async def test_nobody_is_signed_in_by_a_form_of_another_page(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask, browser_of(ask) as browser, browser_of(ask) as attacker:
        theirs = await attacker.form()
        await browser.form()
        for fields in ({}, theirs, {"csrf": ""}, {"csrf": "a.b"}):
            reply = await browser("POST", "/ui/login", data=fields | {"token": TOKENS["reader"]})
            assert reply.status == 403
        foreign = {"Origin": "https://evil.example"}
        own = await browser.form() | {"token": TOKENS["reader"]}
        refused = await browser("POST", "/ui/login", data=own, headers=foreign)
        assert refused.json["type"].endswith(":foreign-origin")
        assert cookie_name(browser.url) not in browser.cookies


async def test_each_time_another_session(tmp_path: Path) -> None:
    async with signed_in(tmp_path, "reader") as browser:
        before = browser.cookies[cookie_name(browser.url)]
        assert (await browser.sign_in(TOKENS["operator"])).status == 303
        assert (await browser("GET", "/whoami")).json["subject"] == "operator"
        async with browser_of(browser) as thief:
            headers = {"Cookie": f"{cookie_name(browser.url)}={before}"}
            assert (await thief("GET", "/servers", headers=headers)).status == 401


async def test_signing_out_ends_it_for_whoever_has_the_cookie(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as browser:
        kept = browser.cookies[cookie_name(browser.url)]
        assert (await browser.open("/ui/logout")).status == 405
        assert (await browser("POST", "/ui/logout", headers=HTML)).status == 403
        assert (await browser("GET", "/servers")).status == 200
        fields = await browser.form("/ui/me")
        reply = await browser("POST", "/ui/logout", data=fields, headers=HTML)
        assert reply.status == 200
        assert b"signed out here" in reply.body
        assert cookie_name(browser.url) not in browser.cookies
        headers = {"Cookie": f"{cookie_name(browser.url)}={kept}"}
        assert (await browser("GET", "/servers", headers=headers)).status == 401
        # A page with a session that ended is led to the form, which drops the cookie.
        assert (await browser("GET", "/ui/me", headers=headers | HTML)).status == 303
        form = await browser("GET", "/ui/login", headers=headers | HTML)
        dropped = [each for each in form.headers.getall("Set-Cookie") if "Max-Age=0" in each]
        assert len(dropped) == 1


EVIL = [
    "https://evil.example/",
    "//evil.example/",
    "/\\evil.example/",
    "\\\\evil.example",
    "/ui/../\\evil.example",
    "/\t/evil.example",
    "/ui/me\r\nSet-Cookie: a=b",
    "javascript:alert(1)",
    "/servers",
    "/ui/login?next=/ui/login",
    "/ui/logout",
    "/ui/%2e%2e/servers",
    "/ui/./../servers",
    "ui/me",
    "",
    "/" + "a" * 5000,
    "/ui/é",
]


@pytest.mark.parametrize("next", EVIL)
async def test_nobody_is_led_elsewhere(tmp_path: Path, next: str) -> None:
    assert onward(next) == "/"
    async with guarded(tmp_path) as ask, browser_of(ask) as browser:
        reply = await browser.sign_in(TOKENS["reader"], next)
        where = URL(f"{ask.url}/ui/login").join(URL(reply.headers["Location"]))
        assert where == URL(f"{ask.url}/")


@pytest.mark.parametrize("next", ["/", "/?tag=a&q=b", "/ui/servers/a?instance=b", "/ui/tools//x"])
def test_pages_are_led_to(next: str) -> None:
    assert onward(next) == next


async def test_a_facade_that_asks_nobody_has_no_form(ask: Client) -> None:
    for method, path in (("GET", "/ui/login"), ("POST", "/ui/login"), ("POST", "/ui/logout")):
        reply = await ask(method, path)
        assert reply.status == 404
        assert "--auth" in reply.json["detail"]
    page = (await ask("GET", "/ui/status")).body
    assert b"Sign in" not in page


async def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> Any:
        return None if name == "jwt" else find_spec(name)

    monkeypatch.setattr("mcp_discovery.extras.find_spec", without)
    async with guarded(tmp_path) as ask:
        reply = await ask("GET", "/ui/login")
        assert reply.status == 501
        assert "mcp-discovery[auth]" in reply.json["detail"]
        assert (await ask("GET", "/servers", headers=bearer("reader"))).status == 200


async def test_whoever_may_read_without_signing_in_is_offered_it(tmp_path: Path) -> None:
    async with guarded(tmp_path, {"anonymous": "reader"}) as ask:
        page = (await ask("GET", "/ui/status?page=1")).body.decode()
        assert 'href="../ui/login?next=%2Fui%2Fstatus%3Fpage%3D1">Sign in' in page


async def test_the_form_may_not_be_framed(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        reply = await ask("GET", "/ui/login")
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
        assert reply.headers["Cache-Control"] == "no-store"
