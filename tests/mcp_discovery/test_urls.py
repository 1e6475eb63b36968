"""URLs go out byte for byte as they were registered, whatever asks; the server tells what came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import aiohttp
import pytest

from mcp_discovery import Discovery
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.errors import InvalidRecordError, SecretInRecordError
from mcp_discovery.health import Status
from mcp_discovery.probe import BadAnswerError, McpProbe, probing_session
from mcp_discovery.record import Record
from mcp_discovery.urls import (
    agent_card_url,
    origin_of,
    resolve_in_origin,
    uri_of,
    urls_of,
    wire_url,
)
from tests.facade.harness import Client, served
from tests.servers.recording import RecordingServer, recording
from tests.sidecar.harness import sidecar, watching

#: What a client that decodes and encodes anew would change, one at a time.
TARGETS = (
    "/mcp?sig=%2Fp%2Fq%2C1",
    "/a%2Fb/%7Euser/~user",
    "/mcp?a=+&b=%20&c=%2B",
    "/%C3%A9/%c3%a9?x=%c3%A9",
    "/mcp;v=1;w=%3B?x=a;b",
    "/mcp?a=&b&=c&&a=",
    "/mcp?",
    "/mcp?x=100%25&y=%2525",
    "/a/../b/./c//d/",
    "/mcp?a[]=1&q={x}|^`",
    "/mcp?next=/x?y:@!$'()*,",
    "/mc%70?%41=%61",
    "/?x=1",
)


def sent_to(server: RecordingServer, target: str) -> None:
    """Asserts that the server was asked for ``target`` and nothing else."""
    assert {each.partition(" ")[2] for each in server.targets} == {target}


@pytest.mark.parametrize("target", TARGETS)
async def test_probe_over_streamable_http(target: str) -> None:
    async with recording() as server, aiohttp.ClientSession() as http:
        probe = McpProbe(f"http://127.0.0.1:{server.port}{target}", session=http)
        await probe.introspect(5)
        await probe.close()
        sent_to(server, target)
        assert probe.url.endswith(target)


@pytest.mark.parametrize("target", TARGETS)
async def test_probe_over_websocket(target: str) -> None:
    async with recording() as server, aiohttp.ClientSession() as http:
        url = f"ws://127.0.0.1:{server.port}{target}"
        probe = McpProbe(url, transport="websocket", session=http)
        await probe.ping(5)
        await probe.close()
        sent_to(server, target)


@pytest.mark.parametrize("target", TARGETS)
async def test_probe_over_sse_and_the_endpoint_that_its_stream_names(target: str) -> None:
    endpoint = "/post%2Fx?sig=%2Fp%2C~%7e&session_id="
    async with recording(era="sse", endpoint=endpoint) as server, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{server.port}{target}"
        probe = McpProbe(url, transport="sse", session=http)
        await probe.ping(5)
        await probe.close()
        got, posted = server.targets[0], server.targets[1:]
        assert got == f"GET {target}"
        assert posted
        assert all(each.startswith(f"POST {endpoint}") for each in posted)


async def test_redirect_as_the_server_wrote_it() -> None:
    to = "/mcp/?sig=%2Fp%2C~%7e+"
    async with recording(redirect=to) as server, aiohttp.ClientSession() as http:
        probe = McpProbe(f"http://127.0.0.1:{server.port}/mcp", session=http)
        await probe.ping(5)
        assert server.targets[:2] == ["POST /mcp", f"POST {to}"]
        await probe.close()


@pytest.mark.parametrize("place", ["http://localhost:{port}/x", "//127.0.0.2:{port}/x"])
@pytest.mark.parametrize("transport", ["streamable-http", "websocket", "sse"])
async def test_redirect_elsewhere_is_not_followed(place: str, transport: str) -> None:
    async with recording() as other, recording() as server:
        server.options = replace(server.options, redirect=place.format(port=other.port))
        scheme = "ws" if transport == "websocket" else "http"
        url = f"{scheme}://127.0.0.1:{server.port}/mcp"
        async with probing_session(aiohttp.TCPConnector()) as http:
            probe = McpProbe(
                url, transport=transport, session=http, headers={"Authorization": "Bearer abcd"}
            )
            with pytest.raises(BadAnswerError):
                await probe.ping(5)
        assert server.targets
        assert other.targets == []


async def test_sidecar_store_gateway_registry_and_client_have_it_as_it_was_given() -> None:
    """One URL all the way: a sidecar's option, the store, the facade, the client."""
    target = "/a%2Fb/../~x%7e?sig=%2Fp%2Fq%2C1&e=&p=%25+%c3%a9"
    health = "/health?sig=%2Fp%2C%7E"
    async with recording() as server, EmbeddedStore() as store, watching(store) as seen:
        url, at = f"http://127.0.0.1:{server.port}{target}", f"http://127.0.0.1:{server.port}"
        async with sidecar(store, url, name="signed", health_url=at + health):
            instance = await seen.until_status(Status.HEALTHY, within=10)
            assert instance.record.endpoint.url == url
            assert instance.record.health_url == at + health
            assert {each.partition(" ")[2] for each in server.targets} == {target, health}
            async with served(store, gateway=True) as ask:
                await ask.until_status(instance.record.id, "healthy")
                await through_every_door(ask, server, url)
                server.targets.clear()
                async with Discovery(ask.url) as discovery:
                    await discovery.call("tool-0", {}, timeout=10)
                assert {each.partition(" ")[2] for each in server.targets} <= {target, health}
                assert f"POST {target}" in server.targets


async def through_every_door(ask: Client, server: RecordingServer, url: str) -> None:
    """Whatever the facade says of ``signed``, or sends to it, has ``url`` as it is."""
    target = url.partition("127.0.0.1")[2].partition("/")[2]
    for path in ("/servers", "/connections", "/registry/export", "/sd/prometheus"):
        assert f'"{url}"' in (await ask("GET", path)).body.decode(), path
    found = (await ask.raw("/v0.1/servers/local%2Fsigned/versions/latest")).json
    assert found["server"]["remotes"][0]["url"] == url
    server.targets.clear()
    call = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    await ask("POST", "/gateway/signed/mcp", call)
    assert f"POST /{target}" in server.targets


async def test_posted_entry_and_its_health_url() -> None:
    async with recording() as server, served() as ask:
        at = f"http://127.0.0.1:{server.port}"
        url, health = f"{at}/x%2Fy?s=%2C~%7E", f"{at}/health%2F?a=%2F+"
        body = {"id": "p", "name": "p", "url": url, "healthUrl": health}
        assert (await ask("POST", "/servers", body)).status == 201
        await ask.until_status("p", "healthy")
        assert {each.partition(" ")[2] for each in server.targets} == {
            "/x%2Fy?s=%2C~%7E",
            "/health%2F?a=%2F+",
        }


async def test_ipv6() -> None:
    async with recording(host="::1") as server, aiohttp.ClientSession() as http:
        probe = McpProbe(f"http://[::1]:{server.port}/a%2Fb?x=%2C", session=http)
        await probe.ping(5)
        await probe.close()
        sent_to(server, "/a%2Fb?x=%2C")
        assert server.headers[0]["Host"] == f"[::1]:{server.port}"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h/é?ü=%20", "/%C3%A9?%C3%BC=%20"),
        ("http://h/a b", "/a%20b"),
        ("http://h/x?a=1#fragment", "/x?a=1"),
        ("http://h", "/"),
        ("http://h?x", "/?x"),
        ("http://bücher.example//x//", "//x//"),
    ],
)
def test_what_no_request_can_hold_is_encoded(url: str, target: str) -> None:
    assert wire_url(url).raw_path_qs == target
    assert str(wire_url(url)).isascii()


@pytest.mark.parametrize(
    ("url", "uri"),
    [
        ("http://h/{x}?sig=%2Fp%2C~[]&y=100%", "http://h/%7Bx%7D?sig=%2Fp%2C~%5B%5D&y=100%25"),
        ("http://[::1]:80/x?", "http://[::1]:80/x?"),
        ("https://bücher.example/é#é", "https://xn--bcher-kva.example/%C3%A9#%C3%A9"),
    ],
)
def test_in_a_document_only_what_no_uri_can_hold_is_encoded(url: str, uri: str) -> None:
    assert uri_of(url) == uri


@pytest.mark.parametrize(
    ("reference", "resolved"),
    [
        ("/m?sig=%2F", "http://h/m?sig=%2F"),
        ("m?", "http://h/a/m?"),
        ("?x=??", "http://h/a/b?x=??"),
        ("http://h:80/y%7e", "http://h:80/y%7e"),
        ("//elsewhere/x", None),
        ("https://h/", None),
        ("http://[", None),
        ("http://u@elsewhere/", None),
    ],
)
def test_what_a_server_names_stays_in_its_origin(reference: str, resolved: str | None) -> None:
    assert resolve_in_origin("http://h/a/b?q=1", reference) == resolved


def test_origins() -> None:
    assert origin_of("ws://h:80/ws") == origin_of("http://H/health")
    assert origin_of("https://h/mcp") == origin_of("https://h:443/health")
    assert origin_of("https://h/mcp") != origin_of("http://h/health")
    assert origin_of("http://h:1/mcp") != origin_of("http://h:2/health")


@pytest.mark.parametrize(
    "url", ["http://h\x7f/", "http://evil\\@good/", "http://h/\x1b", "http://h:x/"]
)
def test_what_cannot_be_dialled_is_refused(url: str) -> None:
    with pytest.raises(InvalidRecordError, match="is not a URL"):
        Record.parse({"name": "x", "endpoint": {"url": url}})


def test_no_user_in_a_url() -> None:
    for url in ("http://user@h/mcp", "http://u:p@h/mcp", "http://:@h/mcp"):
        with pytest.raises(SecretInRecordError):
            Record.parse({"name": "x", "endpoint": {"url": url}})


def test_the_usual_path() -> None:
    tried: Sequence[str] = urls_of("http://h:1", "sse")
    assert tried == ("http://h:1/sse", "http://h:1")
    assert urls_of("http://h/?x=%2F", "sse") == ("http://h/?x=%2F",)


@pytest.mark.parametrize(
    ("url", "card"),
    [
        (
            "https://a.example.org/travel/",
            "https://a.example.org/travel/.well-known/agent-card.json",
        ),
        ("https://a.example.org/cards/travel.json", "https://a.example.org/cards/travel.json"),
        ("https://a.example.org/a\nb.json", "https://a.example.org/a%0Ab.json"),
    ],
)
def test_where_an_agents_card_is(url: str, card: str) -> None:
    assert agent_card_url(url) == card
