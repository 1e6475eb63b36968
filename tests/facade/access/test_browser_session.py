"""A browser's session: the caller that its token is, and nobody without its cookie."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.auth_file import follow
from mcp_discovery.facade.access.browser_session import csrf_token, is_csrf_token, new_id
from mcp_discovery.facade.access.sealing import SealingKeys
from mcp_discovery.facade.access.tokens import hash_of
from tests.facade.access.browser import HTML, browser_of, cookie_name, hidden_fields, signed_in
from tests.facade.access.tokens import TOKENS, bearer, guarded, write_auth_file
from tests.facade.harness import leased
from tests.stores.waiting import until

NAME = "mcp_discovery_session"


async def test_it_is_the_caller_that_its_token_is(tmp_path: Path) -> None:
    async with signed_in(tmp_path, "registrar") as browser:
        by_cookie = (await browser("GET", "/whoami")).json
        by_token = (await browser("GET", "/whoami", headers=bearer("registrar"))).json
        session = by_cookie.pop("session")
        assert by_cookie.pop("expiresAt") == session["endsAt"]
        assert by_cookie == by_token
        assert (await browser("GET", "/servers")).status == 200
        assert (await browser("GET", "/audit")).status == 403


async def test_a_header_goes_before_the_cookie(tmp_path: Path) -> None:
    async with signed_in(tmp_path, "operator") as browser:
        assert (await browser("GET", "/whoami", headers=bearer("reader"))).json["subject"] == (
            "reader"
        )
        wrong = {"Authorization": "Bearer mcpd_reader_wrong"}
        assert (await browser("GET", "/servers", headers=wrong)).status == 401


async def test_what_changes_something_needs_the_sessions_own_token(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as browser:
        refused = await browser("POST", "/servers", leased("one"))
        assert (refused.status, refused.json["type"].rpartition(":")[2]) == (403, "csrf")
        for wrong in ("", "x", "a.b", csrf_token(new_id()), "é.é"):
            headers = {"X-CSRF-Token": wrong}
            assert (await browser("POST", "/servers", leased("one"), headers=headers)).status == 403
        right = {"X-CSRF-Token": await browser.csrf()}
        assert (await browser("POST", "/servers", leased("one"), headers=right)).status == 201
        assert (await browser("DELETE", "/servers/one")).status == 403
        # A form's field counts for the pages' own forms alone.
        fields = {"csrf": right["X-CSRF-Token"]}
        assert (await browser("POST", "/servers/one/drain", data=fields)).status == 403
        assert (await browser("DELETE", "/servers/one", headers=bearer("operator"))).status == 204


async def test_a_websocket_needs_it_too(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as browser:
        url = f"{browser.url}/registry/stream"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await browser.session.ws_connect(url)
        assert refused.value.status == 403
        right = {"X-CSRF-Token": await browser.csrf()}
        async with browser.session.ws_connect(url, headers=right) as socket:
            assert not socket.closed


async def test_tokens_differ_each_time_and_are_the_sessions_alone() -> None:
    id = new_id()
    tokens = {csrf_token(id) for _ in range(10)}
    assert len(tokens) == 10
    assert all(is_csrf_token(id, each) for each in tokens)
    assert not any(is_csrf_token(new_id(), each) for each in tokens)


def _spoilt(value: str) -> list[str]:
    data = bytearray(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
    found = []
    for at in (0, 12, len(data) // 2, len(data) - 1):
        changed = data.copy()
        changed[at] ^= 1
        found.append(base64.urlsafe_b64encode(changed).rstrip(b"=").decode())
    return [*found, value[:-1], value + "A", value + "%00", value[:20], "", "x", "é", "A" * 5000]


async def test_a_cookie_that_somebody_changed_is_none(tmp_path: Path) -> None:
    async with signed_in(tmp_path, sections={"anonymous": "reader"}) as browser:
        name = cookie_name(browser.url)
        value = browser.cookies[name]
        async with aiohttp.ClientSession() as bare:
            for spoilt in _spoilt(value):
                headers = {"Cookie": f"{name}={spoilt}"}
                async with bare.get(f"{browser.url}/servers", headers=headers) as reply:
                    assert reply.status == 401, spoilt
                    assert "session" in await reply.text()
            twice = {"Cookie": f"{name}={value}; {name}=x"}  # as a site beside this one can set it
            async with bare.get(f"{browser.url}/servers", headers=twice) as reply:
                assert reply.status == 401
            async with bare.get(
                f"{browser.url}/servers", headers={"Cookie": f"a=b; {name}={value}"}
            ) as reply:
                assert reply.status == 200


async def test_one_cookie_is_not_taken_for_another(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask, browser_of(ask) as browser:
        await browser.form()
        login = browser.cookies[cookie_name(browser.url, "login")]
        headers = {"Cookie": f"{cookie_name(browser.url)}={login}"}
        reply = await ask("GET", "/servers", headers=headers)
        assert reply.status == 401


async def test_what_the_file_says_counts_at_once(tmp_path: Path) -> None:
    async with signed_in(tmp_path, "operator") as browser:
        right = {"X-CSRF-Token": await browser.csrf()}
        assert (await browser("GET", "/audit")).status != 403

        async def answers(status: int) -> bool:
            return (await browser("GET", "/servers")).status == status

        tokens = {"operator": {"hash": hash_of(TOKENS["operator"]), "roles": ["registrar"]}}
        write_auth_file(tmp_path / "auth.yaml", tokens=tokens)

        async def has_less() -> bool:
            return bool((await browser("GET", "/whoami")).json["roles"] == ["registrar"])

        await until(has_less, timeout=10, what="another role")
        assert (await browser("POST", "/servers", leased("one"), headers=right)).status == 201
        write_auth_file(tmp_path / "auth.yaml", tokens={})
        await until(lambda: answers(401), timeout=10, what="a revoked token")


async def test_streams_end_with_the_session(tmp_path: Path) -> None:
    async with signed_in(tmp_path, "reader") as browser, browser.events() as events:
        await events.next()
        fields = await browser.form("/ui/me")
        assert (await browser("POST", "/ui/logout", data=fields)).status == 200
        with pytest.raises(EOFError):
            await events.next(timeout=10)


async def test_a_session_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections: dict[str, Any] = {"sessions": {"lifetime": 60}}
    async with signed_in(tmp_path, "reader", sections) as browser:
        assert (await browser("GET", "/servers")).status == 200
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 61)
        assert (await browser("GET", "/servers")).status == 401


@pytest.mark.slow
async def test_keys_are_shared_and_rotate(tmp_path: Path) -> None:
    keys = tmp_path / "session.keys"
    keys.write_text("# the first\n" + "a" * 44 + "\n")
    sections = {"sessions": {"key_file": str(keys)}}
    (tmp_path / "other").mkdir()
    async with (
        signed_in(tmp_path, "reader", sections) as browser,
        guarded(tmp_path / "other", sections) as other,
    ):
        value = browser.cookies[cookie_name(browser.url)]
        cookie = {"Cookie": f"{cookie_name(other.url)}={value}"}
        assert (await other("GET", "/servers", headers=cookie)).status == 200

        async def answers(status: int) -> bool:
            return (await browser("GET", "/servers")).status == status

        keys.write_text("b" * 44 + "\n" + "a" * 44 + "\n")
        for _ in range(3):
            assert await answers(200)
        keys.write_text("b" * 44 + "\n")
        await until(lambda: answers(401), timeout=20, what="a key that was taken out")


@pytest.mark.parametrize("content", ["", "# nothing\n", "short\n", "a" * 40 + "\nshort\n"])
def test_keys_that_are_none_are_refused_at_the_start(tmp_path: Path, content: str) -> None:
    keys = tmp_path / "session.keys"
    keys.write_text(content)
    path = write_auth_file(tmp_path / "auth.yaml", sessions={"key_file": str(keys)})
    with pytest.raises(InvalidInputError, match="openssl rand -base64 32"):
        follow(path)


def test_what_is_sealed_opens_for_its_purpose_alone() -> None:
    keys, others = SealingKeys([b"a", b"b"]), SealingKeys([b"c", b"a"])
    sealed = keys.seal("session", {"id": "x"})
    assert keys.open("session", sealed) == others.open("session", sealed) == {"id": "x"}
    assert keys.open("login", sealed) is None
    assert SealingKeys([b"b"]).open("session", sealed) is None


async def test_cookies_are_as_strict_as_they_can_be(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask, browser_of(ask) as browser:
        given = (await browser.sign_in(TOKENS["reader"])).headers.getall("Set-Cookie")
        own = next(each for each in given if each.startswith(f"{cookie_name(browser.url)}="))
        assert {"HttpOnly", "Path=/", "SameSite=Strict", "Max-Age=28800"} <= set(own.split("; "))
        assert "Domain" not in own
        assert "Secure" not in own
    for public, name, path in (
        ("https://mcp.example.com", f"__Host-{NAME}", "Path=/"),
        ("https://example.com:8443", f"__Host-{NAME}_8443", "Path=/"),
        ("https://example.com/mcp", f"__Secure-{NAME}", "Path=/mcp"),
        ("http://example.com/mcp", NAME, "Path=/mcp"),
    ):
        async with guarded(tmp_path, public_url=public) as ask:
            page = await ask("GET", "/ui/login", headers=HTML)
            login = page.headers.getall("Set-Cookie")[0].split(";")[0]
            fields = hidden_fields(page.body.decode()) | {"token": TOKENS["reader"]}
            reply = await ask(
                "POST", "/ui/login", data=fields, headers={"Cookie": login}, allow_redirects=False
            )
            given = reply.headers.getall("Set-Cookie")
            own = next(each for each in given if each.startswith(f"{name}="))
            assert path in own.split("; ")
            assert ("Secure" in own.split("; ")) is public.startswith("https")
            assert len(own.partition(";")[0]) < 4096


async def test_a_trusted_proxy_says_that_it_is_https(tmp_path: Path) -> None:
    async with guarded(
        tmp_path, trusted_proxies=("127.0.0.1",), allowed_hosts=("a.example",)
    ) as ask:
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.example"}
        page = await ask("GET", "/ui/login", headers=HTML | headers)
        own = page.headers["Set-Cookie"]
        assert own.startswith("__Host-mcp_discovery_login=")
        assert "Secure" in own.split("; ")


async def test_answers_are_the_sessions_alone(tmp_path: Path) -> None:
    async with signed_in(tmp_path, "reader") as browser:
        for path in ("/servers", "/tools", "/status"):
            reply = await browser("GET", path)
            assert "Cookie" in reply.headers["Vary"], path
            kept = reply.headers["Cache-Control"]
            assert "private" in kept or "no-store" in kept
