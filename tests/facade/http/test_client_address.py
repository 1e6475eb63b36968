"""Whose address, scheme and host a request has: headers count from trusted proxies alone."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.http.client_address import TRUSTED_PROXIES, TrustedProxies, client_of
from tests.facade.harness import leased, served

#: The client connects from 127.0.0.1, so the nearest proxy has that address.
NETWORKS = ("127.0.0.0/8", "10.0.0.0/8", "2001:db8:1::/48", "::ffff:172.16.0.0/108")


async def tell(request: web.Request) -> web.Response:
    found = client_of(request)
    hops = list(found.hops)
    return web.json_response([found.address, hops, found.scheme, found.host])


@asynccontextmanager
async def asked(*networks: str, unix: Path | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a bare application that tells whom it sees."""
    app = web.Application()
    app[TRUSTED_PROXIES] = TrustedProxies(networks)
    app.router.add_get("/", tell)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        if unix is not None:
            await web.UnixSite(runner, str(unix)).start()
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(str(unix))
            base = "http://facade"
        else:
            both = socket.create_server(
                ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
            )  # so that 127.0.0.1 is ::ffff:127.0.0.1
            await web.SockSite(runner, both).start()
            connector = aiohttp.TCPConnector()
            base = f"http://127.0.0.1:{both.getsockname()[1]}"
        async with aiohttp.ClientSession(base, connector=connector) as session:
            yield session
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("given", "hops"),
    [
        ([], []),
        (["192.0.2.1"], ["192.0.2.1"]),
        (["192.0.2.9, 192.0.2.1"], ["192.0.2.1"]),
        (["192.0.2.9", "192.0.2.1, 10.1.1.1"], ["192.0.2.1", "10.1.1.1"]),
        (["192.0.2.1:4711"], ["192.0.2.1"]),
        (["[2001:db8::1]:4711, [2001:db8:1::7]"], ["2001:db8::1", "2001:db8:1::7"]),
        (["2001:DB8:0::1"], ["2001:db8::1"]),
        (["::ffff:192.0.2.1"], ["192.0.2.1"]),
        (["192.0.2.1, ::ffff:10.1.1.1, 172.16.3.4"], ["192.0.2.1", "10.1.1.1", "172.16.3.4"]),
        (["10.1.1.1"], ["10.1.1.1"]),
        (["192.0.2.1, unknown"], []),
        (["192.0.2.1, 10.1.1.1, 1.2.3, 10.2.2.2"], ["10.2.2.2"]),
        (["0x7f.1"], []),
        (["', 192.0.2.1;"], []),
        ([",, ,"], []),
        (["192.0.2.9, " * 5000 + "192.0.2.1"], None),
    ],
)
async def test_the_client_is_the_last_one_that_is_no_trusted_proxy(
    given: list[str], hops: list[str] | None
) -> None:
    async with asked(*NETWORKS) as session:
        headers = [("X-Forwarded-For", each) for each in given]
        headers += [("Forwarded", "for=203.0.113.1"), ("X-Real-IP", "203.0.113.2")]
        async with session.get("/", headers=headers) as reply:
            if hops is None:  # more than a head may have
                assert reply.status == 400
                return
            expected = [*hops, "127.0.0.1"]
            assert (await reply.json())[:2] == [expected[0], expected]


async def test_scheme_and_host_are_those_that_the_outermost_trusted_proxy_saw() -> None:
    async with asked(*NETWORKS) as session:

        async def told(**headers: str) -> list[str]:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            async with session.get("/", headers=sent) as reply:
                scheme, host = (await reply.json())[2:]
            return [scheme, host]

        own = str(session._base_url).removeprefix("http://").rstrip("/")
        assert await told(X_Forwarded_Proto="https") == ["https", own]
        assert await told(X_Forwarded_Proto="HTTPS", X_Forwarded_Host="a.example:1") == [
            "https",
            "a.example:1",
        ]
        assert await told(X_Forwarded_Proto="javascript") == ["http", own]
        # One proxy, so what stands before its own value is the client's.
        assert (await told(X_Forwarded_Proto="http, https"))[0] == "https"
        two = "192.0.2.1, 10.1.1.1"
        for said in ("https, http", "ftp, https, http", "https"):
            assert (await told(X_Forwarded_For=two, X_Forwarded_Proto=said))[0] == "https"


@pytest.mark.parametrize("networks", [(), ("10.0.0.0/8",)])
async def test_headers_of_others_count_for_nothing(networks: tuple[str, ...]) -> None:
    headers = {
        "X-Forwarded-For": "192.0.2.1, 10.1.1.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
    }
    async with asked(*networks) as session, session.get("/", headers=headers) as reply:
        address, hops, scheme, host = await reply.json()
    assert (address, hops, scheme) == ("127.0.0.1", ["127.0.0.1"], "http")
    assert host.startswith("127.0.0.1:")


async def test_a_peer_on_a_unix_socket_has_no_address(tmp_path: Path) -> None:
    headers = {"X-Forwarded-For": "192.0.2.1"}
    async with (
        asked("0.0.0.0/0", unix=tmp_path / "s") as session,
        session.get("/", headers=headers) as reply,
    ):
        assert (await reply.json())[:2] == ["", []]


@pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.example", "10.0.0.0/33", "", "*"])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(
        InvalidInputError, match=r"--trusted-proxy .* write for example 10\.0\.0\.0/8"
    ):
        TrustedProxies([network])


async def test_a_facade_takes_the_client_from_its_proxies_alone() -> None:
    headers = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "mcp.example.com",
    }
    for networks, host, base in (
        (("127.0.0.1",), "192.0.2.1", "https://mcp.example.com"),
        ((), "127.0.0.1", "http://127.0.0.1:"),
    ):
        async with served(trusted_proxies=networks) as ask:
            await ask("POST", "/servers", leased("a"), headers=headers)
            assert (await ask("GET", "/servers/a")).json["lease"]["host"] == host
            catalog = await ask("GET", "/.well-known/ai-catalog.json", headers=headers)
            assert base.encode() in catalog.body
