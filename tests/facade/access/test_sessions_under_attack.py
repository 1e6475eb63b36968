"""Pages of other sites, and of other ports of the same host, against somebody who is signed in.

To another port ``SameSite`` is no bound: a browser sends it the same cookies (RFC 6265, 8.5), and
those of its requests with what its pages ask the facade for.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page

from tests.browser import chromium
from tests.facade.access.browser import cookie_name
from tests.facade.access.tokens import TOKENS, bearer, guarded
from tests.facade.harness import Client, leased

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
#: Another site, and another port of the facade's own host.
ELSEWHERE = {"another site": "attacker.test", "another port": "127.0.0.1"}


@dataclass
class Victim:
    """Somebody who is signed in, in a browser in which the attacker's page is open, too."""

    browser: Browser
    context: BrowserContext
    ask: Client
    port: int

    async def page(self, host: str) -> Page:
        """The attacker's page at ``host``."""
        page = await self.context.new_page()
        await page.goto(f"http://{host}:{self.port}/")
        return page

    async def does(self, host: str, script: str) -> Any:
        """What the attacker's ``script`` comes to; ``"refused"`` where it raises."""
        page = await self.page(host)
        body = f"async (target) => {{ {script} }}"
        tried = f"(target) => ({body})(target).catch(() => 'refused')"
        try:
            return await page.evaluate(tried, self.ask.url)
        finally:
            await page.close()

    async def is_signed_in(self) -> bool:
        """Whether the facade's own page says so."""
        page = await self.context.new_page()
        await page.goto(f"{self.ask.url}/ui/me")
        found = "Known by" in await page.inner_text("body")
        await page.close()
        return found

    async def ids(self) -> list[str]:
        """What is in the list."""
        return (await self.ask("GET", "/servers?status=all", headers=bearer("operator"))).ids


async def sign_in(context: BrowserContext, url: str, role: str = "operator") -> None:
    """As a person does it."""
    page = await context.new_page()
    await page.goto(f"{url}/ui/login")
    await page.fill("input[name=token]", TOKENS[role])
    await page.click("main button[type=submit]")
    await page.goto(f"{url}/ui/me")
    assert "Known by" in await page.inner_text("body")
    await page.close()


@asynccontextmanager
async def blank_pages() -> AsyncIterator[int]:
    """The port of a server with an empty page, the attacker's."""

    async def blank(_: web.Request) -> web.Response:
        return web.Response(text="<title>attack</title>", content_type="text/html")

    site = web.Application()
    site.router.add_get("/", blank)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield port
    await runner.cleanup()


@asynccontextmanager
async def attacked(folder: Path, **options: Any) -> AsyncIterator[Victim]:
    """A facade, and a browser in which somebody is signed in there."""
    async with (
        blank_pages() as port,
        guarded(folder, **options) as ask,
        chromium({"attacker.test": "127.0.0.1"}) as browser,
    ):
        made = await ask("POST", "/servers", leased("victim"), headers=bearer("operator"))
        assert made.status == 201
        context = await browser.new_context()
        await sign_in(context, ask.url)
        yield Victim(browser, context, ask, port)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def victim(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Victim]:
    async with attacked(tmp_path_factory.mktemp("attacked")) as found:
        yield found


CHANGES = {
    "a form": """
        const form = document.createElement('form'), frame = document.createElement('iframe');
        frame.name = 'hidden'; form.target = 'hidden'; form.method = 'POST';
        form.action = target + '/ui/logout'; document.body.append(frame, form);
        const loaded = new Promise(done => { frame.onload = done });
        form.submit(); await loaded;
        return 'sent'""",
    "a simple POST": """
        await fetch(target + '/ui/logout', {method: 'POST', mode: 'no-cors',
            credentials: 'include', body: new URLSearchParams({csrf: 'a.b'})});
        return 'sent'""",
    "a POST with a header": """
        const reply = await fetch(target + '/servers', {method: 'POST', credentials: 'include',
            headers: {'Content-Type': 'application/json', 'X-CSRF-Token': 'a.b'},
            body: JSON.stringify({id: 'evil', name: 'evil', url: 'http://127.0.0.1:9/mcp'})});
        return reply.status""",
    "a DELETE": """
        const reply = await fetch(target + '/servers/victim', {method: 'DELETE',
            credentials: 'include'});
        return reply.status""",
    "a WebSocket": """
        const socket = new WebSocket(target.replace('http', 'ws') + '/registry/stream');
        return await new Promise(done => {
            socket.onopen = () => done('open'); socket.onerror = () => done('refused') })""",
    "a read": """
        const reply = await fetch(target + '/whoami', {credentials: 'include'});
        return await reply.text()""",
    "a stream": """
        const events = new EventSource(target + '/events', {withCredentials: true});
        return await new Promise(done => {
            events.onopen = () => done('open'); events.onerror = () => done('refused') })""",
    "a script": """
        const script = document.createElement('script');
        script.src = target + '/whoami';
        const over = new Promise(done => { script.onload = () => done('loaded');
            script.onerror = () => done('refused') });
        document.body.append(script);
        return await over""",
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("place", ELSEWHERE)
async def test_it_neither_changes_nor_reads(victim: Victim, place: str, name: str) -> None:
    assert await victim.does(ELSEWHERE[place], CHANGES[name]) in ("sent", "refused")
    assert await victim.is_signed_in()
    assert await victim.ids() == ["victim"]


async def test_no_page_is_shown_in_a_frame(victim: Victim) -> None:
    """To another port a frame would have the session: its own page could be clicked through."""
    page = await victim.page("127.0.0.1")
    script = """target => {
        const frame = document.createElement('iframe');
        frame.src = target;
        document.body.append(frame);
        return new Promise(done => { frame.onload = done }) }"""
    await page.evaluate(script, f"http://127.0.0.1:{victim.port}/")
    await page.evaluate(script, f"{victim.ask.url}/ui/me")
    shown = [each.url.partition(":")[0] for each in page.frames]
    assert shown == ["http", "http", "chrome-error"]
    await page.close()


async def test_pages_that_may_ask_have_no_share_in_the_session(tmp_path: Path) -> None:
    """Even with --cors-origin, or *: no answer allows a browser's credentials."""
    async with attacked(tmp_path, cors_origins=("*",)) as victim:
        for host in ELSEWHERE.values():
            for name in ("a POST with a header", "a DELETE", "a WebSocket", "a read", "a stream"):
                assert await victim.does(host, CHANGES[name]) == "refused", name
            simple = await victim.does(host, CHANGES["a simple POST"])
            assert simple == "sent"
            assert await victim.is_signed_in()
        assert await victim.ids() == ["victim"]


async def test_nobody_is_signed_in_by_another_site(victim: Victim) -> None:
    """Login CSRF: somebody would work under the attacker's name."""
    script = f"""
        const form = document.createElement('form');
        form.method = 'POST'; form.action = target + '/ui/login';
        for (const [name, value] of [['token', '{TOKENS["reader"]}'], ['csrf', 'a.b']]) {{
            const field = document.createElement('input');
            field.name = name; field.value = value; form.append(field); }}
        document.body.append(form); form.submit();"""
    context = await victim.browser.new_context()
    for host in ELSEWHERE.values():
        page = await context.new_page()
        await page.goto(f"http://{host}:{victim.port}/")
        async with page.expect_navigation():
            await page.evaluate(f"(target) => {{ {script} }}", victim.ask.url)
        assert "may not ask here" in await page.inner_text("body")
    assert await context.cookies(victim.ask.url) == []
    await context.close()


async def test_a_link_from_another_site_leads_through_the_facade(victim: Victim) -> None:
    """The browser sends no session with that; the facade asks once more by a page of its own."""
    page = await victim.page("attacker.test")
    statuses: list[tuple[int, str]] = []
    page.on("response", lambda each: statuses.append((each.status, each.url)))
    await page.evaluate("target => { location = target + '/ui/me' }", victim.ask.url)
    await page.get_by_text("Known by").wait_for()
    form = f"{victim.ask.url}/ui/login?next=%2Fui%2Fme"
    first = [each for each in statuses if "/static/" not in each[1]][:3]
    assert first == [
        (303, f"{victim.ask.url}/ui/me"),
        (200, form),
        (200, f"{victim.ask.url}/ui/me"),
    ]
    context = await victim.browser.new_context()
    page = await context.new_page()
    await page.goto(f"http://attacker.test:{victim.port}/")
    await page.evaluate("target => { location = target + '/ui/me' }", victim.ask.url)
    await page.get_by_text("With a token").wait_for()
    assert page.url == form
    await context.close()


async def test_a_cookie_that_another_port_sets(victim: Victim) -> None:
    """Session fixation: without TLS another port can set a cookie, and have it sent first. Somebody
    is signed out then, and never somebody else."""
    name, context = cookie_name(victim.ask.url), await victim.browser.new_context()
    await sign_in(context, victim.ask.url, "reader")
    cookies = {each["name"]: each["value"] for each in await context.cookies(victim.ask.url)}
    theirs = cookies[name]
    await context.close()
    page = await victim.page("127.0.0.1")
    await page.evaluate("text => { document.cookie = text }", f"{name}={theirs}; path=/ui")
    await page.evaluate("text => { document.cookie = text }", f"{name}={theirs}; path=/")
    page = await victim.context.new_page()
    await page.goto(f"{victim.ask.url}/ui/me")
    text = await page.inner_text("body")
    assert "reader" not in text
    assert page.url.startswith(f"{victim.ask.url}/ui/login")


async def test_under_tls_no_other_host_or_page_sets_the_cookie(tmp_path: Path) -> None:
    """Cookie tossing: from a host below, from the same host without TLS, and over the network."""
    authority = trustme.CA()
    options: dict[str, Any] = {
        "tls_cert": str(tmp_path / "server.pem"),
        "tls_key": str(tmp_path / "server.key"),
    }
    server = authority.issue_cert("facade.test", "127.0.0.1")
    server.private_key_pem.write_to_path(options["tls_key"])
    for each in server.cert_chain_pems:
        each.write_to_path(options["tls_cert"], append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    names = dict.fromkeys(("facade.test", "evil.facade.test"), "127.0.0.1")
    async with (
        guarded(tmp_path, allowed_hosts=("facade.test",), context=context, **options) as ask,
        blank_pages() as port,
        chromium(names) as browser,
    ):
        own = ask.url.replace("127.0.0.1", "facade.test")
        jar = await browser.new_context(ignore_https_errors=True)
        await sign_in(jar, own, "reader")
        given = {each["name"]: each for each in await jar.cookies(own)}
        name = next(each for each in given if each.startswith("__Host-mcp_discovery_session"))
        assert given[name]["secure"]
        page = await jar.new_page()
        for host in ("evil.facade.test", "facade.test"):
            await page.goto(f"http://{host}:{port}/")
            for end in ("Domain=facade.test; path=/ui", "path=/ui", "path=/", "path=/; Secure"):
                await page.evaluate("text => { document.cookie = text }", f"{name}=evil; {end}")
        assert {each["value"] for each in await jar.cookies(own) if each["name"] == name} == {
            given[name]["value"]
        }
        await page.goto(f"{own}/ui/me")
        assert "Known by" in await page.inner_text("body")
        # Without TLS the browser sends nothing of it.
        assert await jar.cookies(f"http://facade.test:{port}/") == []
