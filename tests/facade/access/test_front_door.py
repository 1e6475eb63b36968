"""Which hosts the facade answers for, and what pages of other origins may do."""

from __future__ import annotations

import re
from collections.abc import Iterator

import aiohttp
import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.app import OPERATIONS
from mcp_discovery.front_door import AllowedHosts
from tests.facade.harness import Client, leased, served
from tests.mcp_discovery.raw_http import answer

FOREIGN = "https://evil.example"
#: What has errors of another shape.
OTHER_ERRORS = ("/api/ard/", "/api/ask", "/api/platform/query")
JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:4000", True),
        ("10.1.2.3", True),
        ("[::1]:4000", True),
        ("[fd00::1]", True),
        ("localhost", True),
        ("LOCALHOST.:80", True),
        ("app.localhost:1", True),
        ("facade:4000", True),
        ("Facade.", True),
        ("a.b.example.com", True),
        ("example.com", False),
        ("evilexample.com", False),
        ("facade.evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.1", False),
        ("0x7f000001", False),
        ("2130706433", False),
        ("::1", False),
        ("[::1", False),
        ("[evil.example]", False),
        ("evil.example#localhost", False),
        ("localhost@evil.example", False),
        ("evil.example:80@localhost", False),
        ("localhost evil.example", False),
        ("localhost:80:80", False),
        ("", False),
        ("x" * 5000, False),
    ],
)
def test_hosts(host: str, allowed: bool) -> None:
    assert AllowedHosts(["facade", "*.Example.com"]).allows(host) is allowed
    assert AllowedHosts(["*"]).allows(host)


@pytest.mark.parametrize("name", ["http://a", "a:4000", "a/b", "a b", "", "*.*", "a.*"])
def test_what_is_no_host_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(InvalidInputError, match="write a name alone"):
        AllowedHosts([name])


def concrete(path: str) -> str:
    return re.sub(r"\{\w+\}", "a", path.replace("{digest}", "0" * 64))


def everything() -> Iterator[tuple[str, str]]:
    """Each method and path that there is; a new operation is among them by itself."""
    for each in OPERATIONS:
        yield each.method, concrete(each.path)
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        yield method, "/mcp"
    for path in ("/gateway/a/mcp", "/nowhere", "/servers/"):
        yield "OPTIONS", path


async def test_nothing_is_answered_under_a_foreign_host(ask: Client) -> None:
    assert (await ask("POST", "/servers", leased("a"))).status == 201
    for method, path in everything():
        reply = await ask(method, path, {"id": "b"}, headers={"Host": "evil.example:4000"})
        assert reply.status == 421, (method, path)
        assert b"--allowed-host" in reply.body or method == "HEAD"
        assert b"127.0.0.1:9" not in reply.body
    assert (await ask("GET", "/servers?status=all")).ids == ["a"]


async def test_a_foreign_page_changes_nothing_and_speaks_no_mcp(ask: Client) -> None:
    assert (await ask("POST", "/servers", leased("a"))).status == 201
    before = (await ask("GET", "/servers/a")).json
    told = (
        {"Origin": FOREIGN},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": ask.url, "Sec-Fetch-Site": "cross-site"},
    )
    for method, path in everything():
        mcp = path == "/mcp" or path.startswith("/gateway/")
        if "events" in path:
            continue  # read only, and endless
        for headers in told:
            reply = await ask(method, path, leased("a", name="x"), headers=headers)
            if method in ("GET", "OPTIONS") and not mcp:
                assert reply.status != 403, (method, path, headers)
                assert "Access-Control-Allow-Origin" not in reply.headers, (method, path)
            else:
                assert reply.status == 403, (method, path, headers)
                assert b"--cors-origin" in reply.body
                if not path.startswith(OTHER_ERRORS):
                    assert reply.json["type"].endswith(":foreign-origin")
    after = (await ask("GET", "/servers/a")).json
    assert {**after, "lastSeen": ""} == {**before, "lastSeen": ""}


async def test_pages_of_its_own_and_allowed_ones_may(ask: Client) -> None:
    port = ask.url.rpartition(":")[2]
    for origin, host in (
        (ask.url, ask.url.removeprefix("http://")),
        (f"http://localhost:{port}", f"localhost:{port}"),
        ("https://localhost", "localhost:443"),
        (f"http://[::1]:{port}", f"[::1]:{port}"),
    ):
        headers = {"Origin": origin, "Host": host, "Sec-Fetch-Site": "same-origin"}
        reply = await ask("POST", "/servers", leased("a"), headers=headers)
        assert reply.status in (200, 201), (origin, reply.body)
    async with served(cors_origins=("https://console.example",)) as other:
        headers = {"Origin": "https://console.example", "Sec-Fetch-Site": "cross-site"}
        assert (await other("POST", "/servers", leased("a"), headers=headers)).status == 201
        headers["Origin"] = "http://console.example"
        assert (await other("POST", "/servers", leased("a"), headers=headers)).status == 403


async def test_the_public_url_is_its_own_origin_by_its_own_scheme() -> None:
    async with served(public_url="https://mcp.example.com", trusted_proxies=("127.0.0.1",)) as ask:
        for origin, headers, status in (
            ("https://mcp.example.com", {"Host": "mcp.example.com"}, 201),
            ("https://mcp.example.com", {"Host": "127.0.0.1:9"}, 201),
            ("http://mcp.example.com", {"Host": "mcp.example.com"}, 403),
            ("http://10.0.0.1", {"X-Forwarded-Host": "10.0.0.1"}, 201),
            ("http://evil.example", {"X-Forwarded-Host": "evil.example"}, 403),
            ("https://mcp.example.com.evil.example", {"Host": "mcp.example.com"}, 403),
        ):
            sent = {**headers, "Origin": origin}
            reply = await ask("POST", "/servers", leased("a"), headers=sent)
            assert reply.status == status, (origin, headers, reply.body)


async def test_a_page_by_http_is_none_of_a_facade_by_https() -> None:
    """Whoever is on the way can answer by HTTP in the name of any host."""
    async with served(trusted_proxies=("127.0.0.1",)) as ask:
        host = ask.url.removeprefix("http://")
        for scheme, origin, status in (
            ("https", "https", 201),
            ("https", "http", 403),
            ("http", "http", 201),
        ):
            sent = {"X-Forwarded-Proto": scheme, "Origin": f"{origin}://{host}"}
            reply = await ask("POST", "/servers", leased("a"), headers=sent)
            assert reply.status == status, (scheme, origin, reply.body)


async def test_where_any_host_will_do_a_rebound_name_is_no_origin_of_its_own() -> None:
    async with served(allowed_hosts=("*",)) as ask:
        rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
        assert (await ask("POST", "/servers", leased("a"), headers=rebound)).status == 403
        del rebound["Origin"]
        assert (await ask("POST", "/servers", leased("a"), headers=rebound)).status == 201


@pytest.mark.parametrize("headers", [{"Origin": FOREIGN}, {"Host": "evil.example"}])
async def test_a_foreign_page_opens_no_websocket(ask: Client, headers: dict[str, str]) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as told:
        await ask.session.ws_connect(f"{ask.url}/registry/stream", headers=headers)
    assert told.value.status in (403, 421)
    async with ask.session.ws_connect(
        f"{ask.url}/registry/stream", headers={"Origin": ask.url}
    ) as own:
        assert not own.closed


POST = f"POST /servers HTTP/1.1\nHost: localhost\nConnection: close\n{JSON}\nContent-Length: 0"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET /health HTTP/1.0", 200),
        ("GET /health HTTP/1.1\nConnection: close", 400),
        ("GET /health HTTP/1.1\nHost: localhost\nHost: localhost\nConnection: close", 400),
        ("GET /health HTTP/1.1\nHost: localhost\nHost: evil.example\nConnection: close", 400),
        ("GET http://localhost/health HTTP/1.1\nHost: localhost\nConnection: close", 200),
        ("GET http://evil.example/health HTTP/1.1\nHost: localhost\nConnection: close", 421),
        ("GET http://localhost/health HTTP/1.1\nHost: evil.example\nConnection: close", 421),
        ("GET /health HTTP/1.1\nHost:\nConnection: close", 421),
        ("GET /health HTTP/1.1\nHost: \xe9vil.example\nConnection: close", 421),
        ("GET //health HTTP/1.1\nHost: evil.example\nConnection: close", 421),
        ("GET /v0.1/servers HTTP/1.1\nHost: evil.example\nConnection: close", 421),
        (f"POST /servers HTTP/1.0\nOrigin: {FOREIGN}\n{JSON}\nContent-Length: 0", 403),
        # What something on the way adds makes nothing better.
        (f"{POST}\nOrigin: http://localhost\nOrigin: {FOREIGN}", 403),
        (f"{POST}\nOrigin: {FOREIGN}\nOrigin: http://localhost", 403),
        (
            f"{POST}\nOrigin: http://localhost\nSec-Fetch-Site: none\nSec-Fetch-Site: cross-site",
            403,
        ),
        (f"{POST}\nOrigin: http://localhost\nSec-Fetch-Site: cross-site, none", 403),
        (f"{POST}\nOrigin: http://localhost\nSec-Fetch-Site: CROSS-SITE", 403),
        (f"{POST}\nOrigin: http://localhost\nSec-Fetch-Site: same-origin", 400),
        (f"GET /gateway/{'a' * 9000}/mcp HTTP/1.1\nHost: localhost\nConnection: close", 414),
    ],
)
async def test_hosts_as_they_come_over_the_wire(ask: Client, request_: str, status: int) -> None:
    found, whole = await answer(ask.url, request_)
    assert found == status, whole
    assert b"\r\nServer: mcp-discovery\r\n" in whole
    assert b"\r\nX-Content-Type-Options: nosniff\r\n" in whole


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "application/jsonp",
        "application/octet-stream",
    ],
)
async def test_bodies_are_json_or_nothing(ask: Client, kind: str) -> None:
    assert (await ask("POST", "/servers", leased("a"))).status == 201
    for each in OPERATIONS:
        if each.body is not None:
            path = concrete(each.path)
            reply = await ask(each.method, path, b"{}", headers={"Content-Type": kind})
            assert reply.status == 415, (each.method, path, reply.body)
    for path in ("/mcp", "/registry/import"):
        reply = await ask("POST", path, b"{}", headers={"Content-Type": kind})
        assert reply.status in (406, 415)
    found, _ = await answer(
        ask.url, "POST /servers HTTP/1.1\nHost: localhost\nConnection: close\nContent-Length: 0"
    )
    assert found == 400, "no body at all is no wrong one"
    reply = await ask("POST", "/servers/a/drain", headers={"Content-Type": kind})
    assert reply.status in (200, 204), reply.body


async def test_the_registry_is_open_to_pages_where_it_is_asked_for() -> None:
    paths = "/v0.1/servers", "/.well-known/ai-catalog.json"
    for registry_cors in (False, True):
        async with served(registry_cors=registry_cors) as ask:
            for path in paths:
                reply = await ask("GET", path, headers={"Origin": FOREIGN})
                assert reply.status == 200
                assert ("Access-Control-Allow-Origin" in reply.headers) is registry_cors


async def test_every_response_says_what_it_is_and_not_of_what(ask: Client) -> None:
    for method, path in everything():
        if "events" in path or "stream" in path:
            continue
        reply = await ask(method, path)
        assert reply.headers["Server"] == "mcp-discovery", path
        assert reply.headers["X-Content-Type-Options"] == "nosniff", path
    async with ask.events() as reader:
        assert reader.headers["Server"] == "mcp-discovery"
        assert reader.headers["X-Content-Type-Options"] == "nosniff"
