"""Export and import: a round trip, a dry run, conflicts, and nothing half-done in silence."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from tests.facade.connections.bodies import files, ids, register
from tests.facade.harness import Client, leased, served
from tests.records import document, record
from tests.servers.process import sdk
from tests.stores.waiting import until

NOWHERE = "http://127.0.0.1:9"
EVERYTHING = {
    "id": "everything",
    "title": "Files, in words for people",
    "description": "Reads and writes",
    "registryName": "com.example/files",
    "websiteUrl": "https://example.com/",
    "version": "1.0.0",
    "owner": "me",
    "zone": "eu-1",
    "tags": ["fast"],
    "weight": 0,
    "healthUrl": f"{NOWHERE}/health",
    "auth": {"type": "bearer", "scopes": ["read"]},
    "metadata": {"owner": "of the metadata", "version": "two", "beta": True, "tier": 1.5},
    "healthCheck": {"enabled": False, "interval": 60, "timeout": 500},
    "capabilities": [
        {"name": "read", "description": "Reads.", "schema": {"type": "object"}},
        {"name": "notes", "kind": "resource"},
        {"name": "refunds", "kind": "skill", "description": "How to refund."},
    ],
    "status": "idle",
    "type": "client",
}


HELD = {
    "prompts": [{"name": "ask"}],
    "skills": [
        {
            "uri": "skill://desk/ask/SKILL.md",
            "frontmatter": {"name": "how-to-ask", "description": "Asks."},
            "resources": [
                {"uri": "skill://desk/ask/SKILL.md", "digest": f"sha256:{'a' * 64}", "size": 1}
            ],
        }
    ],
}


async def exported(ask: Client) -> dict[str, Any]:
    reply = await ask("GET", "/registry/export")
    assert reply.status == 200, reply.body
    told: dict[str, Any] = reply.json
    return told


async def servers(ask: Client) -> list[dict[str, Any]]:
    """All entries, without what differs from registrant to registrant."""
    apart = {"lease", "since", "lastSeen", "registeredAt", "status", "reason"}
    listed = (await ask("GET", "/servers?status=all")).json["servers"]
    return [{key: value for key, value in each.items() if key not in apart} for each in listed]


async def test_a_round_trip_loses_nothing() -> None:
    async with sdk() as server, served() as ask, served() as other:
        await register(ask, files(**EVERYTHING))
        await register(ask, files(id="plain"))
        await register(ask, {"id": "down", "name": "gone", "endpoint": NOWHERE})
        await register(ask, {"id": "told", "name": "adder", "endpoint": server.url})
        await ask("POST", "/servers", leased("held", document=HELD))
        export = await exported(ask)
        assert export["totalExported"] == len(export["connections"]) == 5

        dry = await other("POST", "/registry/import?dryRun=true", export)
        created = ["plain", "everything", "told", "down", "held"]
        assert sorted(dry.json["created"]) == sorted(created)
        assert (dry.json["dryRun"], dry.json["applied"]) == (True, False)
        assert await ids(other) == []

        done = await other("POST", "/registry/import", export)
        assert done.status == 200
        assert done.json == dry.json | {"dryRun": False, "applied": True}
        assert await servers(other) == await servers(ask)
        again = await exported(other)
        assert again["connections"] == export["connections"]
        assert again["documents"] == export["documents"]
        assert await ids(other, "?status=idle") == ["everything"]
        told = (await other("GET", "/connections/everything")).json["capabilities"]
        assert told[0]["schema"] == {"type": "object"}

        # What was told by the server itself is asked for again, not frozen.
        await server.offer_tools(1, notify=False)

        async def told_anew() -> bool:
            await other("POST", "/connections/told/health-check")  # asks for one of its lists
            entry = (await other("GET", "/servers/told")).json
            return bool(entry["capabilities"]["tools"] == ["add_0"])

        await until(told_anew, timeout=10, what="the tools being read again")


async def test_importing_what_is_there_changes_nothing(ask: Client) -> None:
    await register(ask, files(id="a"))
    await ask("POST", "/servers", leased("held", capabilities=["find"]))
    async with sdk() as server:
        await register(ask, {"id": "told", "name": "adder", "endpoint": server.url})
        revision = (await ask("GET", "/status")).json["revision"]
        reply = await ask("POST", "/registry/import", await exported(ask))
        assert sorted(reply.json["unchanged"]) == ["a", "held", "told"]
        assert (await ask("GET", "/status")).json["revision"] == revision


async def test_conflicts_are_told_and_nothing_is_done() -> None:
    async with EmbeddedStore() as store, served(store) as ask:
        held = await store.register(record("sidecars"), document("find"), ttl=60, reap_after=60)
        await ask("POST", "/servers", leased("clients"))
        await register(ask, files(id="ours"))
        await ask.until_status("sidecars", "healthy")
        connections = [
            files(id="new"),
            files(id="ours", tags=["changed"]),
            files(id="sidecars"),
            files(id="clients"),
            files(id="new", tags=["twice"]),
            files(name="Not A Label"),
            files(id="secret", metadata={"password": "hunter2"}),
            files(id="x", tagz=["typo"]),
            files(id="y", digest="0" * 64),
            files(id="z", protocol="http", endpoint="http://169.254.169.254/latest"),
        ]
        path = "/registry/import"
        plan = (await ask("POST", f"{path}?dryRun=true", {"connections": connections})).json
        assert (plan["created"], plan["replaced"]) == (["new"], ["ours"])
        refused = {each["index"]: each for each in plan["refused"]}
        assert list(refused) == [2, 3, 4, 5, 6, 7, 8, 9]
        assert "by a sidecar on " in refused[2]["reason"]
        assert refused[3]["id"] == "clients"
        assert "stands at 0 already" in refused[4]["reason"]
        assert refused[5]["field"] == "name"
        assert "use 'not-a-label'" in refused[5]["reason"]
        assert refused[6]["field"] == "metadata.password"
        assert "did you mean 'tags'" in refused[7]["reason"]
        assert refused[8]["field"] == "digest"
        assert "169.254.169.254" in refused[9]["reason"]

        before = await servers(ask)
        reply = await ask("POST", path, {"connections": connections})
        assert reply.status == 409
        assert reply.json["type"].endswith(":import-refused")
        assert "none was" in reply.json["detail"]
        assert reply.json["applied"] is False
        assert reply.json["refused"] == plan["refused"]
        assert await servers(ask) == before

        reply = await ask("POST", f"{path}?partial=true", {"connections": connections})
        assert (reply.status, reply.json["applied"]) == (200, True)
        assert (reply.json["created"], reply.json["replaced"]) == (["new"], ["ours"])
        assert reply.json["refused"] == plan["refused"]
        assert (await ask("GET", "/connections/ours")).json["tags"] == ["changed"]
        assert (await ask("GET", "/connections/sidecars")).json["name"] == "product-catalog"
        await held.deregister()


async def test_what_is_silent_can_be_replaced() -> None:
    async with EmbeddedStore() as store, served(store) as ask:
        await store.register(record("a"), document("find"), ttl=1, reap_after=60)
        await ask.until_status("a", "down")
        assert await ids(ask, "?status=disconnected") == ["a"]
        reply = await ask("POST", "/registry/import", {"connections": [files(id="a")]})
        assert reply.json["replaced"] == ["a"]
        assert (await ask("GET", "/connections/a")).json["name"] == "filesystem-mcp"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, "connections: is missing"),
        ({"connections": {}}, 422, "connections: is not a list"),
        ({"connections": [1]}, 422, "connections.0: is not an object"),
        ({"connections": [], "versoin": "1"}, 422, "did you mean 'version'"),
        ({"connections": [], "documents": {"0" * 64: {"tools": []}}}, 422, "digest is"),
        ({"connections": [], "documents": {"x": {"tools": [1]}}}, 422, "list of objects"),
        ([], 400, "JSON array"),
    ],
)
async def test_an_import_that_is_none(ask: Client, body: Any, status: int, words: str) -> None:
    reply = await ask("POST", "/registry/import", body)
    assert (reply.status, words in reply.json["detail"]) == (status, True), reply.json["detail"]


@pytest.mark.slow
async def test_an_import_may_be_larger_than_other_bodies(ask: Client) -> None:
    connections = [files(id=f"c{number}", description="d" * 4000) for number in range(300)]
    body = orjson.dumps({"connections": connections})
    assert len(body) > 2**20
    reply = await ask("POST", "/registry/import", body)
    assert len(reply.json["created"]) == 300
    packed = await ask("POST", "/registry/import", gzip.compress(body))
    assert len(packed.json["unchanged"]) == 300
    assert (await ask("GET", "/connections?limit=1")).json["total"] == 300
    assert (await ask("POST", "/registry/import", b" " * (33 * 2**20))).status == 413


async def test_an_export_without_documents(ask: Client) -> None:
    await register(ask, files(**EVERYTHING))
    export = (await ask("GET", "/registry/export?documents=false")).json
    assert export["documents"] == {}
    assert "digest" not in export["connections"][0]
    assert (await ask("GET", "/registry/export?documents=maybe")).status == 400
