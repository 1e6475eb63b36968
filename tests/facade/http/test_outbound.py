"""What the facade dials when it probes for others, and what it does not."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from mcp_discovery.facade.http.addresses import AddressPolicy
from mcp_discovery.facade.http.outbound import Dialer
from mcp_discovery.facade.registration.posted_entry import health_check, probe_maker
from mcp_discovery.health import Status
from mcp_discovery.record import Record
from mcp_discovery.registrant.watcher import HealthCheckResult
from tests.facade.access.tokens import bearer, guarded
from tests.facade.harness import Client, leased, served
from tests.facade.plain import HealthServer
from tests.servers.process import odd
from tests.stores.waiting import bounded, until

NEVER = (
    "169.254.1.1",
    "169.254.169.254",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "100.100.100.200",
    "fe80::1",
    "fd00:ec2::254",
    "ff02::1",
    "::",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1",
)
PRIVATE = (
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12::1"),
    *("fec0::1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1"),
)
PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8")

#: URLs that spell an address which is never dialled.
SPELLED = (
    *("http://169.254.169.254/latest/meta-data", "http://169.254.169.254./", "http://0/"),
    *("http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/"),
    *("http://169.254.43518/", "http://0xa9.0xfe.0xa9fe/", "https://[fe80::1%25eth0]/"),
    *("http://[::ffff:169.254.169.254]/", "http://[::ffff:a9fe:a9fe]/", "http://[::]:80/"),
    *("http://[fd00:ec2::254]/", "http://[64:ff9b::a9fe:a9fe]/", "http://169.254.1.1:8000/mcp"),
    "http://１６９．254.169.254/",  # full-width digits are digits to IDNA
)


# -- addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "with_private", "public_only"),
    [(NEVER, False, False), (PRIVATE, True, False), (PUBLIC, True, True)],
)
def test_which_addresses_are_dialled(
    addresses: tuple[str, ...], with_private: bool, public_only: bool
) -> None:
    for text in addresses:
        address = ipaddress.ip_address(text)
        assert (AddressPolicy(True).why_refused(address) is None) is with_private, text
        assert (AddressPolicy(False).why_refused(address) is None) is public_only, text


@pytest.mark.parametrize("url", SPELLED)
async def test_a_spelled_out_address_is_refused_when_it_is_posted(ask: Client, url: str) -> None:
    good = "http://127.0.0.1:9/"
    for body in ({"url": url}, {"url": good, "healthUrl": url}):
        reply = await ask("POST", "/servers", {"id": "a", "name": "products"} | body)
        assert reply.status == 422, reply.body
        assert reply.json["field"] == ("healthUrl" if "healthUrl" in body else "endpoint.url")
        assert " is not allowed (" in reply.json["detail"]
    assert (await ask("GET", "/servers/a")).status == 404


async def test_an_entry_cannot_be_moved_there_either(ask: Client) -> None:
    good = {"id": "a", "name": "products", "url": "http://127.0.0.1:9/"}
    assert (await ask("POST", "/servers", good)).status == 201
    assert (await ask("PUT", "/servers/a", good | {"url": SPELLED[0]})).status == 422
    assert (await ask("GET", "/servers/a")).json["url"] == good["url"]


async def test_nor_may_whoever_is_not_known_keep_it_alive_there(ask: Client) -> None:
    body = leased("a", url="http://169.254.1.1/mcp")
    assert (await ask("POST", "/servers", body)).status == 422
    good = leased("a")
    assert (await ask("POST", "/servers", good)).status == 201
    assert (await ask("PUT", "/servers/a", body)).status == 422
    assert (await ask("GET", "/servers/a")).json["url"] == good["url"]


async def test_what_a_known_caller_keeps_alive_is_its_own_affair(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        body = leased("a", url="http://169.254.1.1/mcp")
        posted = await ask("POST", "/servers", body, headers=bearer("registrar"))
        assert posted.status == 201


async def test_private_ranges_by_option() -> None:
    async with served(probe_private=False) as ask:
        body = {"id": "a", "name": "products", "url": "http://127.0.0.1:9/"}
        reply = await ask("POST", "/servers", body)
        assert reply.status == 422
        assert "its address 127.0.0.1 is not allowed (not public)" in reply.json["detail"]
        named = body | {"url": "http://localhost:9/"}
        assert (await ask("POST", "/servers", named)).status == 201
        entry = await ask.until_status("a", "down")
        assert entry["reason"].startswith("its address ")
        assert entry["reason"].endswith(" is not allowed (not public)")


# -- names ------------------------------------------------------------------------------------


class FakeResolver(AbstractResolver):
    """Every name has these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


class RebindingResolver(FakeResolver):
    """Every name has the next of these addresses each time, and the last one for good."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        return [found[min(self.asked, len(found)) - 1]]


@asynccontextmanager
async def dialing(*, private: bool = True, resolver: Any = None) -> AsyncIterator[Dialer]:
    dialer = Dialer(AddressPolicy(private), resolver=resolver)
    try:
        yield dialer
    finally:
        await dialer.close()


async def look(
    dialer: Dialer, *, timeout: float = 2.0, transport: str = "stdio", **fields: Any
) -> HealthCheckResult:
    """What one probe finds; of a stdio server only the health URL is asked."""
    endpoint: dict[str, Any] = {"transport": transport}
    if transport == "stdio":
        endpoint["command"] = "server"
    else:
        endpoint["url"] = fields.pop("url")
    record = Record.parse({"name": "products", "endpoint": endpoint} | fields)
    make_probe = probe_maker(record, dialer.session)
    probe = make_probe() if make_probe is not None else None
    try:
        return await health_check(record, dialer.session).run(probe, timeout=timeout)
    finally:
        if probe is not None:
            await probe.close()


@pytest.fixture
async def plain() -> AsyncIterator[HealthServer]:
    server = HealthServer()
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize("transport", ["streamable-http", "sse", "websocket"])
@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.1.1"])
async def test_a_name_of_a_refused_address_is_not_dialled(transport: str, address: str) -> None:
    scheme = "ws" if transport == "websocket" else "http"
    async with dialing(resolver=FakeResolver(address)) as dialer:
        found = await look(dialer, transport=transport, url=f"{scheme}://metadata.example/x")
    assert found.verdict.status is Status.DOWN
    expected = ipaddress.ip_address(address)
    assert found.verdict.reason.startswith(f"its address {expected} is not allowed (")


async def test_of_several_addresses_only_the_allowed_are_dialled(plain: HealthServer) -> None:
    resolver = FakeResolver("169.254.1.1", "fe80::1", "127.0.0.1")
    async with dialing(resolver=resolver) as dialer:
        found = await look(dialer, healthUrl=f"http://both.example:{plain.port}/health")
    assert found.verdict.status is Status.HEALTHY


async def test_the_address_that_was_checked_is_dialled(plain: HealthServer) -> None:
    resolver = RebindingResolver("127.0.0.1", "169.254.169.254")
    url = f"http://rebinding.example:{plain.port}/health"
    async with dialing(resolver=resolver) as dialer:
        found = await look(dialer, healthUrl=url)
        # Asked once: there is no second answer between the check and the connection.
        assert (found.verdict.status, resolver.asked) == (Status.HEALTHY, 1)
        connector = dialer.session.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        connector.clear_dns_cache()
        await plain.stop()  # and with it the connection that could be used again
        found = await look(dialer, healthUrl=url)
        assert found.verdict.status is Status.DOWN
        assert found.verdict.reason == (
            "its health endpoint: its address 169.254.169.254 is not allowed (link-local)"
        )
        assert resolver.asked == 2


@pytest.mark.parametrize("host", ["169.254.1.1", "[fe80::1]", "[::ffff:169.254.169.254]"])
async def test_a_literal_address_is_checked_where_its_socket_is_made(host: str) -> None:
    resolver = FakeResolver("127.0.0.1")
    async with dialing(resolver=resolver) as dialer:
        found = await look(dialer, healthUrl=f"http://{host}/")
    assert found.verdict.status is Status.DOWN
    assert " is not allowed (link-local)" in found.verdict.reason
    assert resolver.asked == 0


async def test_odd_spellings_are_checked_where_they_are_resolved() -> None:
    async with dialing(private=False) as dialer:
        for host in ("0x7f.1", "2130706433", "127.1"):
            found = await look(dialer, healthUrl=f"http://{host}:9/")
            assert found.verdict.status is Status.DOWN, host
            assert "refused" not in found.verdict.reason, host  # nobody was asked


@pytest.mark.parametrize("host", ["a..b", "a" * 300, "a%", "a<b", "xn--zzzzzzz99999"])
async def test_a_name_that_is_none_does_not_resolve(host: str) -> None:
    async with dialing() as dialer:
        found = await look(dialer, transport="streamable-http", url=f"http://{host}/")
    assert found.verdict.status is Status.DOWN
    assert found.verdict.reason in ("the host name does not resolve", "no answer within 2 s")


# -- answers ----------------------------------------------------------------------------------


@asynccontextmanager
async def answering(handler: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """A server that answers everything so; gives its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_to_another_origin_are_not_followed(status: int) -> None:
    visits: list[str] = []

    async def visited(request: web.Request) -> web.Response:
        visits.append(request.path)
        return web.Response()

    async with answering(visited) as elsewhere, dialing() as dialer:

        async def away(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": elsewhere + "/taken"})

        async with answering(away) as url:
            for transport in ("streamable-http", "sse", "websocket"):
                asked = url.replace("http:", "ws:") if transport == "websocket" else url
                found = await look(dialer, transport=transport, url=f"{asked}/mcp")
                assert found.verdict.status is Status.DOWN, transport
                assert (
                    str(status) in found.verdict.reason or "another origin" in found.verdict.reason
                )
            found = await look(dialer, healthUrl=f"{url}/health")
            assert found.verdict.reason == f"the health endpoint answered HTTP {status}"
    assert visits == []


async def test_an_endless_body_is_not_read() -> None:
    ended = asyncio.Event()
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
                sent += 65536
        except ConnectionError:
            ended.set()
            raise

    async with answering(endless) as url, dialing() as dialer:
        found = await look(dialer, healthUrl=url)
        assert found.verdict.status is Status.HEALTHY
        await bounded(ended.wait(), 5)
    assert sent < 16 * 2**20  # what the sockets' own buffers took


async def test_endless_headers_end() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while True:
                writer.write(b"X-More: " + b"x" * 4000 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    async with server, dialing() as dialer:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        found = await look(dialer, healthUrl=url, timeout=1.0)
        assert found.verdict.status is Status.DOWN


# -- loops ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/mcp", "/servers/a/heartbeat", "/connections/a/health-check"])
async def test_a_facade_does_not_probe_itself(path: str) -> None:
    async with served(probe_interval=3600.0) as ask:
        body = {"id": "a", "name": "products", "url": ask.url + path}
        assert (await ask("POST", "/servers", body)).status == 201
        entry = await ask.until_status("a", "down")
        assert entry["reason"] == "HTTP 508 from the MCP endpoint: it leads to a facade"


async def test_two_facades_do_not_make_each_other_probe() -> None:
    async with served(probe_interval=3600.0) as one, served(probe_interval=3600.0) as two:
        for ask, other in ((one, two), (two, one)):
            body = {"id": "a", "name": "products", "url": f"{other.url}/servers/a/heartbeat"}
            assert (await ask("POST", "/servers", body)).status == 201
        for ask in (one, two):
            entry = await ask.until_status("a", "down")
            assert "508" in entry["reason"]


@pytest.mark.parametrize(
    ("transport", "path"), [("sse", "/events"), ("websocket", "/registry/stream")]
)
async def test_its_own_streams_are_no_mcp(transport: str, path: str) -> None:
    async with served(probe_interval=3600.0) as ask:
        url = ask.url.replace("http:", "ws:") if transport == "websocket" else ask.url
        body = {"id": "a", "name": "products", "transport": transport, "url": url + path}
        assert (await ask("POST", "/servers", body)).status == 201

        async def judged() -> bool:
            entry = (await ask("GET", "/servers/a")).json
            assert entry["status"] in ("degraded", "down")
            return bool(entry["reason"] != "not probed yet")

        await until(judged, timeout=5, what="the probe's end")


async def test_a_real_server_is_still_probed_over_every_transport() -> None:
    async with odd() as server, dialing() as dialer:
        found = await look(dialer, transport="streamable-http", url=server.base_url)
        assert found.verdict.status is Status.HEALTHY
        assert found.latency is not None
