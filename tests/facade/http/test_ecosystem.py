"""What other programs expect of an HTTP API."""

from __future__ import annotations

import asyncio
import gzip
import logging
import re
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.app import OPERATIONS
from mcp_discovery.facade.http.compression import accepts_gzip
from mcp_discovery.facade.http.cors import Cors
from tests.facade.access.tokens import bearer, guarded
from tests.facade.harness import Client, leased, served
from tests.programs import facade
from tests.records import document, record
from tests.stores.waiting import until

STORE_TAKES = 0.05
"""Seconds that a slow store takes for a document, which have to show in the answer's timing."""
PAGE = "https://console.example.com"
PATHS = sorted({each.path for each in OPERATIONS})


def concrete(path: str) -> str:
    return re.sub(r"\{\w+\}", "a", path)


# -- methods ----------------------------------------------------------------------------------


async def test_options_are_answered_on_every_path(ask: Client) -> None:
    for path in PATHS:
        reply = await ask("OPTIONS", concrete(path))
        assert (reply.status, reply.body) == (204, b""), path
        allowed = set(reply.headers["Allow"].split(", "))
        methods = {each.method for each in OPERATIONS if each.path == path}
        assert allowed == methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    assert (await ask("OPTIONS", "/nowhere")).status == 404


async def test_head_is_answered_wherever_get_is(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", capabilities=["a"]))
    for path in sorted({each.path for each in OPERATIONS if each.method == "GET"}):
        if path == "/registry/stream":
            continue  # an upgrade to WebSocket, which HEAD cannot ask for
        path = path.replace("{identifier}", "urn:air:local:mcp:products")
        reply = await ask("HEAD", concrete(path))
        assert reply.body == b""
        unknown = ["{digest}", "{serverName}", "/gateway/", "oauth-protected-resource", "/audit"]
        unknown += ["/agent-card", "/queries/{name}", "/skills/{name}", "{file}"]
        unknown += ["{tool}", "/ui/log", "/webhooks"]
        absent = any(part in path for part in unknown)
        assert reply.status == (404 if absent else 200), path


# -- cross-origin requests --------------------------------------------------------------------


async def test_without_the_option_no_page_may_read(ask: Client) -> None:
    reply = await ask("GET", "/servers", headers={"Origin": PAGE})
    assert reply.status == 200
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]


async def test_one_origin_may_read() -> None:
    async with served(cors_origins=(PAGE, "http://localhost:3000")) as ask:
        for path, status in (("/servers", 200), ("/nowhere", 404), ("/servers?x=1", 400)):
            reply = await ask("GET", path, headers={"Origin": PAGE})
            assert reply.status == status
            assert reply.headers["Access-Control-Allow-Origin"] == PAGE
            assert "X-Discovery-Revision" in reply.headers["Access-Control-Expose-Headers"]
            assert "Origin" in reply.headers["Vary"]
        for origin in ("https://evil.example", "null", f"{PAGE}.evil.example"):
            reply = await ask("GET", "/servers", headers={"Origin": origin})
            assert "Access-Control-Allow-Origin" not in reply.headers
            assert "Origin" in reply.headers["Vary"]
        async with ask.events(Origin=PAGE) as reader:
            assert (await reader.next()).name == "snapshot"
            assert reader.headers["Access-Control-Allow-Origin"] == PAGE


async def test_preflight() -> None:
    async with served(cors_origins=(PAGE,)) as ask:
        asked = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "content-type, x-request-id",
        }
        reply = await ask("OPTIONS", "/servers/a", headers=asked)
        assert reply.status == 204
        assert reply.headers["Access-Control-Allow-Origin"] == PAGE
        assert "PUT" in reply.headers["Access-Control-Allow-Methods"]
        assert reply.headers["Access-Control-Allow-Headers"] == "content-type, x-request-id"
        assert int(reply.headers["Access-Control-Max-Age"]) > 0
        strange = asked | {"Access-Control-Request-Headers": "a:b, <c>"}
        reply = await ask("OPTIONS", "/servers/a", headers=strange)
        assert "<" not in reply.headers["Access-Control-Allow-Headers"]
        foreign = asked | {"Origin": "https://evil.example"}
        reply = await ask("OPTIONS", "/servers/a", headers=foreign)
        assert reply.status == 204
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


async def test_every_origin_may_read() -> None:
    async with served(cors_origins=("*",)) as ask:
        reply = await ask("GET", "/servers", headers={"Origin": "https://anything.example"})
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert "Origin" not in reply.headers.get("Vary", "")


@pytest.mark.parametrize(
    "origin",
    ["", "console.example.com", "https://Example.com", "https://a.example/", "ftp://a", "null"],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(InvalidInputError, match="is no origin"):
        Cors((origin,))


async def test_the_command_takes_origins_from_its_environment(tmp_path: Path) -> None:
    origins = f"{PAGE} http://localhost:3000"
    async with facade(tmp_path, "embedded:", MCP_DISCOVERY_CORS_ORIGIN=origins) as one:
        for origin in origins.split():
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{one.url}/servers", headers={"Origin": origin}) as response,
            ):
                assert response.headers["Access-Control-Allow-Origin"] == origin


# -- gzip -------------------------------------------------------------------------------------


@pytest.fixture
async def raw(ask: Client) -> Any:
    """Asks without unpacking what comes."""
    await ask("POST", "/servers", leased("a", description="word " * 600))
    await ask("POST", "/servers", leased("b"))
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Client(ask.url, session)


async def test_large_answers_are_compressed_for_those_who_take_it(raw: Client) -> None:
    packed = await raw("GET", "/servers", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    plain = await raw("GET", "/servers", headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 4
    assert int(packed.headers["Content-Length"]) == len(packed.body)
    told = orjson.loads(gzip.decompress(packed.body))
    assert [each["id"] for each in told["servers"]] == ["a", "b"]
    for reply in (packed, plain):
        assert "Accept-Encoding" in reply.headers["Vary"]
        assert reply.headers["ETag"].startswith('W/"')
    assert "Content-Encoding" not in plain.headers
    head = await raw("HEAD", "/servers", headers={"Accept-Encoding": "gzip"})
    assert head.headers["Content-Encoding"] == "gzip"


async def test_small_answers_and_streams_are_not_compressed(raw: Client) -> None:
    accepting = {"Accept-Encoding": "gzip"}
    for path in ("/servers?name=nobody", "/health", "/nowhere"):
        assert "Content-Encoding" not in (await raw("GET", path, headers=accepting)).headers
    async with raw.events(**accepting) as reader:
        assert "Content-Encoding" not in reader.headers
        assert (await reader.next()).name == "snapshot"


async def test_a_body_that_is_sent_again_is_the_same(raw: Client) -> None:
    accepting = {"Accept-Encoding": "gzip"}
    for path in ("/openapi.json", "/docs"):
        first, second = [await raw("GET", path, headers=accepting) for _ in range(2)]
        assert first.body == second.body
        assert first.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("GZIP ; q=0.1", True),
        ("*", True),
        ("deflate, gzip", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("*, gzip;q=0", False),
        ("*;q=0", False),
        ("gzip;q=x", False),
        ("br", False),
    ],
)
def test_what_accepts_gzip(header: str, taken: bool) -> None:
    assert accepts_gzip(header) is taken


# -- request ids and timing -------------------------------------------------------------------


async def test_every_answer_has_an_id_and_its_timing(ask: Client) -> None:
    for method, path in (
        ("GET", "/servers"),
        ("HEAD", "/health"),
        ("OPTIONS", "/servers"),
        ("GET", "/nowhere"),
        ("PATCH", "/servers"),
        ("GET", "/servers?x=1"),
        ("GET", "/docs"),
    ):
        reply = await ask(method, path)
        assert re.fullmatch(r"[0-9a-f]{16}", reply.headers["X-Request-Id"]), path
        assert re.match(r"app;dur=\d+\.\d", reply.headers["Server-Timing"]), path
    async with ask.events() as reader:
        assert reader.headers["X-Request-Id"]


async def test_a_sane_id_is_taken_and_logged(ask: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mcp_discovery.facade.http.middleware")
    reply = await ask("GET", "/nowhere", headers={"X-Request-Id": "trace-1/span=2"})
    assert reply.headers["X-Request-Id"] == "trace-1/span=2"
    assert "(request trace-1/span=2)" in caplog.text
    for strange in ("", "a b", "x" * 129, "a\u00e9", "<script>"):
        reply = await ask("GET", "/health", headers={"X-Request-Id": strange})
        assert reply.headers["X-Request-Id"] != strange
    ids = {(await ask("GET", "/health")).headers["X-Request-Id"] for _ in range(5)}
    assert len(ids) == 5


class SlowStore(EmbeddedStore):
    """A store that takes its time with documents."""

    async def document(self, digest: str) -> CapabilityDocument:
        await asyncio.sleep(STORE_TAKES)
        return await super().document(digest)


async def test_what_the_store_took_is_told_where_it_was_asked() -> None:
    async with SlowStore() as store, served(store) as ask:
        for number in range(3):
            tools = [{"name": f"t{number}", "inputSchema": {}}]
            await ask("POST", "/servers", leased(f"a{number}", document={"tools": tools}))
        assert "store" not in (await ask("GET", "/servers")).headers["Server-Timing"]
        posted = await ask("POST", "/servers", leased("z"))
        assert re.search(r"store;dur=\d", posted.headers["Server-Timing"])
    async with SlowStore() as store, served(store) as first:
        for number in range(3):
            tools = [{"name": f"t{number}", "inputSchema": {}}]
            await first("POST", "/servers", leased(f"a{number}", document={"tools": tools}))
        async with served(store) as ask:
            timing = (await ask("GET", "/tools")).headers["Server-Timing"]
            app, of_store = map(float, re.findall(r"dur=([\d.]+)", timing))
            assert 50 <= of_store <= app  # three at once, counted once
            again = (await ask("GET", "/tools")).headers["Server-Timing"]
            assert "store" not in again


# -- Prometheus -------------------------------------------------------------------------------


async def test_targets_for_prometheus(ask: Client) -> None:
    listed = [
        leased("a", tags=["shop", "stock"], url="https://shop.example/mcp", version="1.2.0"),
        leased("b", url="http://[::1]:8000/mcp", zone="eu", metadata={"team-name": "x"}),
        leased("c", url="ws://127.0.0.1:81/", transport="websocket", health={"status": "down"}),
        {"id": "d", "name": "files", "command": "files", "lease": {"ttl": 60}},
    ]
    for each in listed:
        assert (await ask("POST", "/servers", each)).status == 201
    # What anybody may post is no address to scrape.
    where = {"sidecar-address": "10.0.0.1:22"}
    posted = {"id": "p", "name": "p", "url": "http://127.0.0.1:9/mcp", "metadata": where}
    assert (await ask("POST", "/servers", posted)).status == 201
    reply = await ask("GET", "/sd/prometheus")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    groups = reply.json
    assert [each["targets"] for each in groups] == [
        ["shop.example:443"],
        ["[::1]:8000"],
        ["127.0.0.1:81"],
    ]
    assert groups[0]["labels"] == {
        "__scheme__": "https",
        "__meta_mcp_name": "products",
        "__meta_mcp_id": "a",
        "__meta_mcp_tags": ",shop,stock,",
        "__meta_mcp_status": "healthy",
        "__meta_mcp_version": "1.2.0",
        "__meta_mcp_transport": "streamable-http",
        "__meta_mcp_url": "https://shop.example/mcp",
    }
    assert groups[1]["labels"]["__meta_mcp_metadata_team_name"] == "x"
    assert groups[1]["labels"]["__meta_mcp_zone"] == "eu"
    assert groups[2]["labels"]["__scheme__"] == "http"
    assert groups[2]["labels"]["__meta_mcp_status"] == "down"
    assert all(isinstance(said, str) for each in groups for said in each["labels"].values())
    healthy = (await ask("GET", "/sd/prometheus?tags=shop&status=healthy")).json
    assert [each["labels"]["__meta_mcp_id"] for each in healthy] == ["a"]
    assert (await ask("GET", "/sd/prometheus?tags=none")).json == []


async def test_scraped_is_only_what_a_known_caller_registered(tmp_path: Path) -> None:
    injected = {"__address__": "10.0.0.1:22", "address__": "x", "sidecar-address": "10.0.0.1:22"}
    anonymous = {"anonymous": ["registrar"]}
    async with guarded(tmp_path, anonymous) as ask:
        claimed = leased("claimed", metadata=injected)
        assert (await ask("POST", "/servers", claimed)).status == 201
        mine = leased("mine", name="mine", metadata=injected)
        assert (await ask("POST", "/servers", mine, headers=bearer("registrar"))).status == 201
        (group,) = (await ask("GET", "/sd/prometheus", headers=bearer("operator"))).json
    assert group["targets"] == ["127.0.0.1:9"]
    assert group["labels"]["__meta_mcp_id"] == "mine"
    # Nothing in a record becomes a label that Prometheus itself acts on.
    own = {name for name in group["labels"] if not name.startswith("__meta_mcp_")}
    assert own == {"__scheme__"}


async def test_a_target_that_left_without_a_goodbye_is_told_of_until_it_is_removed() -> None:
    async with EmbeddedStore() as store, served(store) as ask:

        async def ids(query: str = "") -> list[str]:
            groups = (await ask("GET", f"/sd/prometheus{query}")).json
            return [each["labels"]["__meta_mcp_id"] for each in groups]

        await store.register(record("gone"), document("find"), ttl=1.0, reap_after=1.3)

        async def is_gone() -> bool:
            return (await ask("GET", "/servers/gone")).status == 404

        await ask.until_status("gone", "healthy")
        await until(is_gone, timeout=30, what="the store forgetting it")
        assert await ids() == await ids("?status=down") == ["gone"]
        assert await ids("?status=healthy") == []
        assert (await ask("DELETE", "/servers/gone")).status == 204
        assert await ids() == []
        assert (await ask("DELETE", "/servers/gone")).status == 404
