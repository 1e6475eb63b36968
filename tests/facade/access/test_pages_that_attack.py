"""Pages of other sites, and of names that are rebound, in a real browser on the facade's network.

The browser resolves the attacker's name to a loopback address, so that none of its own rules about
private networks stands before the facade's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Page

from tests.browser import chromium
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import Client, leased, served

#: The attacker's name, and an address where what it leads to can change.
ATTACKER, ADDRESS = "attacker.test", "127.0.0.7"


class Rebinding:
    """The attacker's address: connections go to ``port`` on 127.0.0.1, whatever that is now.

    To the browser and the facade it is what DNS rebinding is: one origin, and another server.
    """

    def __init__(self) -> None:
        self.port = 0
        self._open: list[asyncio.StreamWriter] = []

    def lead_to(self, port: int) -> None:
        """From now on it is what listens on ``port``; connections to what it was are closed."""
        self.port = port
        while self._open:
            self._open.pop().close()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copies what comes to the present port, and back."""
        self._open.append(writer)
        theirs_in, theirs_out = await asyncio.open_connection("127.0.0.1", self.port)
        async with asyncio.TaskGroup() as copies:
            copies.create_task(_copy(reader, theirs_out))
            copies.create_task(_copy(theirs_in, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass
class Attack:
    """A page of the attacker's, and what it attacks."""

    page: Page
    ask: Client
    rebinding: Rebinding
    server: FaultyServer

    async def does(self, script: str) -> Any:
        """What the page's ``script`` comes to: the value, or ``"refused"`` where it raises."""
        body = f"async (target) => {{ {script} }}"
        tried = f"(target) => ({body})(target).catch(() => 'refused')"
        return await self.page.evaluate(tried, self.ask.url)

    async def listed(self) -> list[str]:
        """The ids in the list."""
        return (await self.ask("GET", "/servers?status=all")).ids


@asynccontextmanager
async def attacks(**options: Any) -> AsyncIterator[Attack]:
    async def blank(_: web.Request) -> web.Response:
        return web.Response(text="<title>attack</title>", content_type="text/html")

    site = web.Application()
    site.router.add_get("/", blank)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rebinding = Rebinding()
    rebinding.port = runner.addresses[0][1]
    door = await asyncio.start_server(rebinding.accept, ADDRESS, 0)
    port = door.sockets[0].getsockname()[1]
    async with faulty() as server, served(gateway=True, **options) as ask:
        body = leased("victim", name="payments", url=server.url)
        assert (await ask("POST", "/servers", body)).status == 201
        async with chromium({ATTACKER: ADDRESS}) as browser:
            page = await browser.new_page()
            await page.goto(f"http://{ATTACKER}:{port}/")
            yield Attack(page, ask, rebinding, server)
    door.close()
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attack() -> AsyncIterator[Attack]:
    async with attacks() as found:
        yield found


pytestmark = pytest.mark.asyncio(loop_scope="module")

#: What a page may send to any origin without asking it first, and what would read the answer.
CROSS_SITE = {
    "a simple POST": """
        await fetch(target + '/servers', {method: 'POST', mode: 'no-cors',
            headers: {'Content-Type': 'text/plain'},
            body: JSON.stringify({id: 'evil', name: 'evil', url: 'http://127.0.0.1:9/mcp'})});
        return 'sent'""",
    "a beacon": """
        navigator.sendBeacon(target + '/servers', new Blob(
            [JSON.stringify({id: 'evil', name: 'evil', url: 'http://127.0.0.1:9/mcp'})],
            {type: 'text/plain'}));
        return 'sent'""",
    "a form": """
        const form = document.createElement('form'), frame = document.createElement('iframe');
        frame.name = 'hidden'; form.target = 'hidden'; form.method = 'POST';
        form.action = target + '/servers'; form.enctype = 'text/plain';
        const field = document.createElement('input');
        field.name = '{"id": "evil", "name": "evil", "url": "http://127.0.0.1:9/mcp", "title": "';
        field.value = '"}'; form.append(field); document.body.append(frame, form);
        const loaded = new Promise(done => { frame.onload = done });
        form.submit(); await loaded;
        return 'sent'""",
    "a preflighted POST": """
        await fetch(target + '/servers', {method: 'POST',
            headers: {'Content-Type': 'application/json'},
            body: JSON.stringify({id: 'evil', name: 'evil', url: 'http://127.0.0.1:9/mcp'})});
        return 'sent'""",
    "a heartbeat without a body": """
        await fetch(target + '/servers/victim/drain', {method: 'POST', mode: 'no-cors'});
        return 'sent'""",
    "a DELETE": """
        await fetch(target + '/servers/victim', {method: 'DELETE'});
        return 'sent'""",
}


@pytest.mark.parametrize("script", CROSS_SITE.values(), ids=CROSS_SITE)
async def test_a_page_of_another_site_changes_nothing(attack: Attack, script: str) -> None:
    await attack.does(script)
    assert await attack.listed() == ["victim"]
    assert (await attack.ask("GET", "/servers/victim")).json["status"] == "healthy"


async def test_nor_does_it_call_a_tool_through_the_gateway_or_mcp(attack: Attack) -> None:
    before = len(attack.server.requests)
    for path in ("/gateway/payments/mcp", "/mcp"):
        message = "{jsonrpc: '2.0', id: 1, method: 'tools/call', params: {name: 'pay'}}"
        found = await attack.does(
            f"""
            await fetch(target + '{path}', {{method: 'POST', mode: 'no-cors',
                headers: {{'Content-Type': 'text/plain'}}, body: JSON.stringify({message})}});
            const answer = await fetch(target + '{path}', {{method: 'POST',
                headers: {{'Content-Type': 'application/json'}}, body: JSON.stringify({message})}});
            return answer.status"""
        )
        assert found == "refused"
    assert len(attack.server.requests) == before


@pytest.mark.parametrize("path", ["/servers", "/v0.1/servers", "/.well-known/ai-catalog.json"])
async def test_it_reads_nothing(attack: Attack, path: str) -> None:
    read = f"return await (await fetch(target + '{path}')).text()"
    assert await attack.does(read) == "refused"


async def test_it_gets_no_stream(attack: Attack) -> None:
    events = """
        return await new Promise((done) => {
            const source = new EventSource(target + '/events');
            source.onopen = () => done('open'); source.onerror = () => done('refused') })"""
    assert await attack.does(events) == "refused"
    socket = """
        return await new Promise((done) => {
            const socket = new WebSocket(target.replace('http', 'ws') + '/registry/stream');
            socket.onopen = () => done('open'); socket.onerror = () => done('refused') })"""
    assert await attack.does(socket) == "refused"


async def test_a_name_that_is_rebound_to_the_facade_reads_and_changes_nothing(
    attack: Attack,
) -> None:
    theirs = attack.rebinding.port
    attack.rebinding.lead_to(int(attack.ask.url.rpartition(":")[2]))
    try:
        for path in ("/servers", "/status", "/v0.1/servers", "/openapi.json", "/health"):
            status = await attack.does(f"return (await fetch('{path}')).status")
            assert status == 421, path
        post = """
            return (await fetch('/servers', {method: 'POST',
                headers: {'Content-Type': 'application/json'},
                body: JSON.stringify({id: 'evil', name: 'evil', url: 'http://127.0.0.1:9'})})).status"""
        assert await attack.does(post) == 421
        for path in ("/mcp", "/gateway/payments/mcp"):
            call = f"return (await fetch('{path}', {{method: 'POST', body: '{{}}'}})).status"
            assert await attack.does(call) == 421, path
        socket = """
            return await new Promise((done) => {
                const socket = new WebSocket('ws://' + location.host + '/registry/stream');
                socket.onopen = () => done('open'); socket.onerror = () => done('refused') })"""
        assert await attack.does(socket) == "refused"
    finally:
        attack.rebinding.lead_to(theirs)
    assert await attack.listed() == ["victim"]


async def test_pages_of_an_origin_that_is_allowed_may(attack: Attack) -> None:
    origin = await attack.page.evaluate("location.origin")
    async with served(cors_origins=(origin,)) as ask:
        found = await attack.page.evaluate(
            """async (target) => (await fetch(target + '/servers', {method: 'POST',
                headers: {'Content-Type': 'application/json'},
                body: JSON.stringify({id: 'a', name: 'a', url: 'http://127.0.0.1:9/'})})).status""",
            ask.url,
        )
        assert found == 201


async def test_the_facades_own_pages_work(attack: Attack) -> None:
    browser = attack.page.context.browser
    assert browser is not None
    page = await browser.new_page()
    await page.goto(f"{attack.ask.url}/docs")
    assert await page.evaluate("async () => (await fetch('/servers')).status") == 200
    await page.close()
