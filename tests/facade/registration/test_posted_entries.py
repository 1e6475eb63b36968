"""Posted entries: the facade itself is their registrant, and probes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.probe.verdict import ASKS_FOR_CREDENTIALS
from tests.facade.harness import Client, leased, served
from tests.facade.plain import HealthServer
from tests.records import document, record
from tests.servers.process import example, odd, sdk
from tests.stores.waiting import until

# A port that nothing listens on: connecting is refused at once.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
async def plain() -> AsyncIterator[HealthServer]:
    server = HealthServer()
    await server.start()
    yield server
    await server.stop()


def posted(id: str, url: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "name": "products", "url": url, "tags": ["products"]} | more


async def test_a_health_url_is_followed(ask: Client, plain: HealthServer) -> None:
    body = posted("a", plain.base_url, healthUrl=plain.health_url)
    assert (await ask("POST", "/servers", body)).json == {"id": "a"}
    # Probed before the answer came: whoever posts and then asks finds the truth.
    assert (await ask("GET", "/servers?tags=products")).ids == ["a"]
    plain.status = 503
    entry = await ask.until_status("a", "degraded")
    assert entry["reason"] == "the health endpoint answered HTTP 503"
    assert (await ask("GET", "/servers")).ids == []
    await plain.stop()
    entry = await ask.until_status("a", "down")
    assert "connection refused" in entry["reason"]
    plain.status = 200
    await plain.start()
    await ask.until_status("a", "healthy")


async def test_a_health_url_that_does_not_answer_degrades_a_server_that_does(
    ask: Client, plain: HealthServer
) -> None:
    plain.delay = 5.0
    body = posted("a", plain.base_url, healthUrl=plain.health_url)
    assert (await ask("POST", "/servers", body)).status == 201
    reason = "answers MCP; its health endpoint: no answer within 0.5 s"

    async def judged() -> bool:
        entry = (await ask("GET", "/servers/a")).json
        return (entry["status"], entry["reason"]) == ("degraded", reason)

    await until(judged, timeout=5, what="the verdict")


async def test_what_has_not_answered_yet_is_not_called_healthy(plain: HealthServer) -> None:
    plain.delay = 0.6
    async with served(first_probe=0.05, probe_timeout=5.0) as ask:
        body = posted("a", plain.base_url, healthUrl=plain.health_url)
        assert (await ask("POST", "/servers", body)).status == 201
        entry = (await ask("GET", "/servers/a")).json
        assert (entry["status"], entry["reason"]) == ("degraded", "not probed yet")
        await ask.until_status("a", "healthy")


async def test_an_mcp_server_tells_what_it_offers(ask: Client) -> None:
    async with sdk("--tools", "2") as server:
        await ask("POST", "/servers", posted("a", server.base_url))
        entry = await ask.until_status("a", "healthy")
        assert entry["url"] == server.base_url  # as it was posted
        assert entry["reason"] == "answers MCP"
        assert entry["tags"] == ["products"]
        assert entry["capabilities"]["tools"] == ["add_0", "add_1"]
        assert entry["capabilities"]["prompts"] == ["explain"]
        assert entry["protocol"]["era"] == "modern"
        assert entry["version"] == "1.2.3"
        told = (await ask("GET", "/servers/a/capabilities")).json
        assert told["tools"][0]["inputSchema"]["type"] == "object"
        assert (await ask("GET", "/servers?capability=add_1")).ids == ["a"]

        # An entry can be sent back as it was listed, with what is to be changed.
        assert (await ask("PUT", "/servers/a", entry | {"tags": ["new"]})).status == 200
        assert (await ask("GET", "/servers?tags=new")).ids == ["a"]
        assert (await ask("POST", "/servers", entry | {"tags": ["newer"]})).status == 201
        assert (await ask("GET", "/servers?tags=newer")).ids == ["a"]

        await server.offer_tools(3, notify=False)

        async def three() -> bool:
            return (await ask("GET", "/servers?capability=add_2")).ids == ["a"]

        await until(three, timeout=5, what="the new tool")
        await server.kill()
        await ask.until_status("a", "down")
        assert (await ask("GET", "/servers")).ids == []
        await server.start("--tools", "2")
        await ask.until_status("a", "healthy")


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ([{"name": "x" * 257}], "1 of the tools have names over 256 characters"),
        ([{"name": f"{n:0>200}"} for n in range(2000)], "of 2004 tools; the document has all"),
    ],
)
async def test_what_does_not_fit_its_record_is_left_out_and_said(
    ask: Client, caplog: pytest.LogCaptureFixture, more: list[dict[str, Any]], note: str
) -> None:
    async with odd("--page", "3000") as server:
        await server.control(items=orjson.dumps([{"name": "first"}, *more]).decode())
        await ask("POST", "/servers", posted("a", server.url))
        entry = await ask.until_status("a", "healthy")
        assert entry["reason"] == "answers MCP"
        assert entry["capabilities"]["tools"][0] == "first"
        assert (await ask("GET", "/servers?capability=first")).ids == ["a"]
        told = (await ask("GET", "/servers/a/capabilities")).json
        assert len(told["tools"]) == 1 + len(more) + 3
    assert note in caplog.text


async def test_a_token_in_its_own_words_does_not_keep_it_off_the_list(
    ask: Client, caplog: pytest.LogCaptureFixture
) -> None:
    token = "ghp_" + "a1B2" * 9
    async with odd() as server:
        await server.control(instructions=f"Send {token} along.", version=f"1.0 {token}")
        await ask("POST", "/servers", posted("a", server.url))
        entry = await ask.until_status("a", "healthy")
        assert entry["reason"] == "answers MCP"
        assert entry["protocol"]["instructions"] == "Send *** along."
        assert entry["capabilities"]["tools"]
        assert token not in str(entry)
        assert (await ask("POST", "/servers/a/heartbeat")).status == 200
    assert "holds what looks like an access token" in caplog.text
    assert token not in caplog.text


async def test_what_was_posted_of_its_capabilities_stands(ask: Client) -> None:
    async with example("product_catalog") as server:
        await ask("POST", "/servers", posted("a", server.url, capabilities=["mine"]))
        entry = await ask.until_status("a", "healthy")
        assert entry["capabilities"]["tools"] == ["mine"]
        told = (await ask("GET", "/servers/a/capabilities")).json
        assert told["tools"] == [{"name": "mine"}]


@pytest.mark.parametrize(
    ("auth", "status", "words"),
    [
        ({}, "down", "401"),
        ({"auth": {"type": "bearer"}}, "healthy", ASKS_FOR_CREDENTIALS),
    ],
)
async def test_one_that_wants_credentials(
    ask: Client, auth: dict[str, Any], status: str, words: str
) -> None:
    async with odd("--token", "secret") as server:
        await ask("POST", "/servers", posted("a", server.url, **auth))
        entry = await ask.until_status("a", status)
        assert words in entry["reason"]


async def test_health_needs_an_answer_of_mcp(ask: Client, plain: HealthServer) -> None:
    async with odd() as server:
        body = posted("a", server.url, healthUrl=plain.health_url)
        await ask("POST", "/servers", body)
        assert (await ask.until_status("a", "healthy"))["reason"] == "answers MCP"
        await server.control(fail=500)
        entry = await ask.until_status("a", "down")
        assert entry["reason"] == "HTTP 500 from the MCP endpoint"
        assert (await ask("GET", "/servers")).ids == []
        await server.control(fail=0)
        await ask.until_status("a", "healthy")
        await plain.stop()
        entry = await ask.until_status("a", "degraded")
        assert entry["reason"].startswith("answers MCP; its health endpoint: connection refused")
        await server.kill()
        await ask.until_status("a", "down")
        await server.start()
        await ask.until_status("a", "degraded")


async def test_stdio_is_listed_and_not_dialled(ask: Client, plain: HealthServer) -> None:
    spec = {"transport": "stdio", "command": "mcp-server", "args": ["--root", "${ROOT}"]}
    assert (await ask("POST", "/servers", {"name": "files", "id": "f", **spec})).status == 201
    entry = (await ask("GET", "/servers/f")).json
    assert entry["status"] == "degraded"
    assert entry["reason"] == "not probed: its clients start it themselves"
    assert entry["endpoint"] == spec
    with_health = {"name": "files", "id": "g", "healthUrl": plain.health_url, **spec}
    await ask("POST", "/servers", with_health)
    assert (await ask("GET", "/servers?transport=stdio")).ids == ["g"]


async def test_a_command_that_names_nothing_is_registered_with_a_warning(ask: Client) -> None:
    spec = {"name": "files", "id": "f", "command": "mcp-server"}
    endpoint = {"name": "files-2", "endpoint": {"command": "mcp-server-2"}}
    for method, path, body in (
        ("POST", "/servers", spec),
        ("PUT", "/servers/f", spec),
        ("POST", "/connections", endpoint),
    ):
        (warning,) = (await ask(method, path, body)).json["warnings"]
        assert warning.startswith(f"{body['name']} cannot be found by a tool")
        assert "--introspect" in warning and "sidecar --store URL -- COMMAND" in warning
        found = await ask(method, path, body | {"capabilities": ["read"]})
        assert found.status < 300 and "warnings" not in found.json


async def test_posting_again_replaces_what_was_posted(ask: Client, plain: HealthServer) -> None:
    body = posted("a", plain.base_url, healthUrl=plain.health_url)
    await ask("POST", "/servers", body)
    first = (await ask("GET", "/servers/a")).json
    assert (await ask("POST", "/servers", body | {"tags": ["new"]})).status == 201
    second = (await ask("GET", "/servers/a")).json
    assert second["tags"] == ["new"]
    assert second["registeredAt"] == first["registeredAt"]

    elsewhere = await ask("POST", "/servers", posted("a", NOWHERE))
    assert elsewhere.status == 409
    assert f"for {plain.base_url}" in elsewhere.json["detail"]
    assert (await ask("PUT", "/servers/a", posted("a", NOWHERE))).status == 200
    assert (await ask("GET", "/servers/a")).json["url"] == NOWHERE
    # It is down now: its id is free for another endpoint.
    await ask.until_status("a", "down")
    assert (await ask("POST", "/servers", body)).status == 201
    await ask.until_status("a", "healthy")


@pytest.mark.slow
async def test_what_a_sidecar_keeps_cannot_be_posted_over(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    refused = await ask("POST", "/servers", posted("a", NOWHERE))
    assert refused.status == 409
    assert refused.json["type"].endswith(":duplicate-instance")


async def test_a_heartbeat_means_probe_now(plain: HealthServer) -> None:
    async with served(probe_interval=3600.0) as ask:
        await ask("POST", "/servers", posted("a", plain.base_url, healthUrl=plain.health_url))
        plain.status = 500
        beat = await ask("POST", "/servers/a/heartbeat", {"status": "healthy"})
        assert beat.status == 200
        assert beat.json["status"] == "degraded"
        assert beat.json["reason"] == "the health endpoint answered HTTP 500"
        assert (await ask("GET", "/servers/a")).json["status"] == "degraded"


async def test_draining_lasts_until_it_is_posted_again(ask: Client, plain: HealthServer) -> None:
    body = posted("a", plain.base_url, healthUrl=plain.health_url)
    await ask("POST", "/servers", body)
    assert (await ask("POST", "/servers/a/drain")).json["status"] == "draining"
    assert (await ask("POST", "/servers/a/heartbeat")).json["status"] == "draining"
    assert (await ask("GET", "/servers")).ids == []
    await ask("POST", "/servers", body)
    assert (await ask("GET", "/servers")).ids == ["a"]


async def test_a_drained_one_makes_room_and_an_idle_one_does_not(
    ask: Client, plain: HealthServer
) -> None:
    body = posted("a", plain.base_url, healthUrl=plain.health_url)
    await ask("POST", "/servers", body)
    await ask("POST", "/servers/a/drain")
    assert (await ask("POST", "/servers", posted("a", NOWHERE))).status == 201
    assert (await ask("GET", "/servers/a")).json["url"] == NOWHERE
    await ask("PUT", "/servers/a", body)
    assert (await ask("PATCH", "/connections/a", {"status": "idle"})).status == 200
    assert (await ask("POST", "/servers", posted("a", NOWHERE))).status == 409


async def test_a_deleted_one_stays_away(ask: Client, plain: HealthServer) -> None:
    await ask("POST", "/servers", posted("a", plain.base_url, healthUrl=plain.health_url))
    assert (await ask("DELETE", "/servers/a")).status == 204
    async with ask.events() as events:
        assert (await events.next()).data["servers"] == []
        with pytest.raises(TimeoutError):
            await events.next(timeout=1.0)  # longer than several probes and heartbeats
    assert (await ask("GET", "/servers/a")).status == 404


@pytest.mark.slow
async def test_it_stays_alive_beyond_its_ttl(ask: Client, plain: HealthServer) -> None:
    """The TTL is 2 s here: heartbeats go on whatever the probes find, and tell no reader."""
    await ask("POST", "/servers", posted("a", NOWHERE))
    since = (await ask.until_status("a", "down"))["since"]
    async with ask.events() as events:
        await events.next()
        with pytest.raises(TimeoutError):
            await events.next(timeout=3.0)
    entry = (await ask("GET", "/servers/a")).json
    assert (entry["status"], entry["reason"]) == ("down", "connection refused")
    assert entry["since"] == since


@asynccontextmanager
async def facade_over(path: Path, **changes: Any) -> AsyncIterator[Client]:
    async with EmbeddedStore(f"embedded://{path}") as store, served(store, **changes) as ask:
        yield ask


async def test_a_restarted_facade_goes_on_probing(tmp_path: Path, plain: HealthServer) -> None:
    path = tmp_path / "store.db"
    body = posted("a", plain.base_url, healthUrl=plain.health_url, description="kept")
    async with facade_over(path, posted_ttl=60.0) as ask:
        await ask("POST", "/servers", body)
    plain.status = 500
    async with facade_over(path, posted_ttl=60.0) as ask:
        entry = await ask.until_status("a", "degraded")
        assert entry["description"] == "kept"
        assert (await ask("DELETE", "/servers/a")).status == 204
    async with facade_over(path, posted_ttl=60.0) as ask:
        assert (await ask("GET", "/servers?status=all")).ids == []


@pytest.mark.slow
async def test_what_another_facade_left_is_adopted(plain: HealthServer) -> None:
    async with EmbeddedStore() as store:
        body = posted("a", plain.base_url, healthUrl=plain.health_url)
        async with served(store, posted_ttl=2.0) as ask:
            await ask("POST", "/servers", body)
            before = (await ask("GET", "/servers/a")).json
        async with served(store) as ask:
            await ask.until_status("a", "down", timeout=6)  # its TTL of 2 s runs out
            after = await ask.until_status("a", "healthy", timeout=6)
            assert after["lease"]["holder"] != before["lease"]["holder"]
            assert after["registeredAt"] == before["registeredAt"]
            plain.status = 500
            await ask.until_status("a", "degraded")


async def test_two_facades_over_one_store_do_not_disturb_each_other(plain: HealthServer) -> None:
    async with EmbeddedStore() as store, served(store) as one, served(store) as two:
        body = posted("a", plain.base_url, healthUrl=plain.health_url)
        assert (await one("POST", "/servers", body)).status == 201
        await two.until_status("a", "healthy")
        assert (await two("POST", "/servers", body)).status == 201  # it is there already
        plain.status = 500
        await two.until_status("a", "degraded")


async def test_a_lost_registration_is_made_anew(plain: HealthServer) -> None:
    async with EmbeddedStore() as store, served(store) as ask:
        await ask("POST", "/servers", posted("a", plain.base_url, healthUrl=plain.health_url))
        store._drop("a")  # what a wiped store does
        await ask.until_status("a", "healthy")


async def test_one_taken_over_by_another_is_given_up(plain: HealthServer) -> None:
    async with EmbeddedStore() as store, served(store) as ask:
        await ask("POST", "/servers", posted("a", plain.base_url, healthUrl=plain.health_url))
        store._drop("a")
        taken = await store.register(record("a"), document("x"), ttl=60, reap_after=60)
        plain.status = 500

        async def given_up() -> bool:
            return b"mcp_discovery_posted 0.0" in (await ask("GET", "/metrics")).body

        await until(given_up, timeout=5, what="the entry being given up")
        assert (await ask("GET", "/servers/a")).json["status"] == "healthy"
        await taken.deregister()
