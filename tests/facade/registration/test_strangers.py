"""What a stranger learns by posting servers: whether MCP is spoken there, and no more."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from mcp_discovery.facade.registration.strangers import CONCEALED
from tests.facade.access.tokens import ROLES, bearer, guarded
from tests.facade.harness import leased, served
from tests.servers.process import odd
from tests.stores.waiting import until

#: Of a probe, in seconds.
TIMEOUT = 1.0


@asynccontextmanager
async def listening(speak: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[str]:
    """The URL of a TCP server that says what ``speak`` does, and no more."""
    writers = []

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        speak(writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for each in writers:
            each.close()


@asynccontextmanager
async def network() -> AsyncIterator[dict[str, str]]:
    """URLs by what is there: nothing, something silent, SSH, a web page, a redirect."""
    async with AsyncExitStack() as stack:
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        found = {"closed": f"http://127.0.0.1:{closed.getsockname()[1]}/"}
        found["silent"] = await stack.enter_async_context(listening(lambda _: None))
        found["ssh"] = await stack.enter_async_context(
            listening(lambda writer: writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n"))
        )
        found["gone"] = await stack.enter_async_context(listening(lambda writer: writer.close()))
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", _page)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        page = f"http://127.0.0.1:{runner.addresses[0][1]}"
        found |= {"page": f"{page}/", "missing": f"{page}/404", "redirect": f"{page}/302"}
        found |= {"tls": page.replace("http:", "https:"), "unknown": "http://internal.invalid/"}
        yield found


async def _page(request: web.Request) -> web.Response:
    status = int(request.path[1:] or 200)
    headers = {"Location": "http://169.254.169.254/"} if status == 302 else {}
    return web.Response(status=status, text="<h1>intranet</h1>", headers=headers)


@pytest.mark.slow
async def test_whatever_is_there_the_same_is_said_after_the_same_time(tmp_path: Path) -> None:
    sections = {"anonymous": "registrar"}
    options = {"probe_timeout": TIMEOUT, "probe_interval": 600.0, "first_probe": 0.1}
    async with network() as urls, guarded(tmp_path, sections, **options) as ask:
        posted = {}
        for what, url in urls.items():
            began = time.monotonic()
            body = {"id": what, "name": what, "url": url}
            assert (await ask("POST", "/servers", body)).status == 201
            posted[what] = began
        learned: dict[str, str] = {}
        seconds: dict[str, float] = {}

        async def all_down() -> bool:
            for what in urls.keys() - learned.keys():
                entry = (await ask("GET", f"/servers/{what}")).json
                if entry["status"] == "down":
                    learned[what] = entry["reason"]
                    seconds[what] = time.monotonic() - posted[what]
            return len(learned) == len(urls)

        await until(all_down, timeout=20.0, what="all of them down")
        assert set(learned.values()) == {CONCEALED}, learned
        assert min(seconds.values()) >= TIMEOUT, seconds
        checked = await ask("POST", "/connections/closed/health-check")
        assert CONCEALED in checked.body.decode()


async def test_who_is_known_is_told_why(tmp_path: Path) -> None:
    sections = {"anonymous": "registrar"}
    async with network() as urls, guarded(tmp_path, sections) as ask:
        body = {"id": "closed", "name": "closed", "url": urls["closed"]}
        posted = await ask("POST", "/servers", body, headers=bearer("registrar"))
        assert posted.status == 201
        entry = await ask.until_status("closed", "down")
        assert "refused" in entry["reason"]


@pytest.mark.parametrize("open_to_strangers", [True, False])
async def test_a_facade_without_auth_that_others_reach(open_to_strangers: bool) -> None:
    async with network() as urls, served(open_to_strangers=open_to_strangers) as ask:
        body = {"id": "closed", "name": "closed", "url": urls["closed"]}
        assert (await ask("POST", "/servers", body)).status == 201
        entry = await ask.until_status("closed", "down")
        assert (entry["reason"] == CONCEALED) is open_to_strangers


async def test_a_server_of_a_stranger_that_speaks_mcp_is_listed_as_any_other() -> None:
    async with odd() as server, served(open_to_strangers=True) as ask:
        body = {"id": "good", "name": "good", "url": server.url}
        assert (await ask("POST", "/servers", body)).status == 201
        assert (await ask.until_status("good", "healthy"))["capabilities"]["tools"]


async def test_nor_does_the_gateway_say_why(tmp_path: Path) -> None:
    roles = {"guest": "call register"}
    sections = {"anonymous": "guest", "roles": dict(ROLES) | roles}
    async with network() as urls, guarded(tmp_path, sections, gateway=True) as ask:
        answers = set()
        for what in ("closed", "tls"):
            body = leased(what, name=what, url=urls[what])
            assert (await ask("POST", "/servers", body)).status == 201
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            reply = await ask("POST", f"/gateway/{what}/mcp", message)
            answers.add((reply.status, reply.json["error"]["message"].replace(what, "it")))
        assert answers == {
            (502, "it cannot be reached now, nothing was sent; the facade's log says why")
        }


@pytest.mark.slow
async def test_nor_is_it_said_of_what_somebody_claims_to_keep_alive() -> None:
    async with network() as urls, served(open_to_strangers=True, probe_claims=True) as ask:
        assert (await ask("POST", "/servers", leased("a", url=urls["closed"]))).status == 201
        assert (await ask.until_status("a", "degraded"))["reason"] == CONCEALED
