"""Registering, revising and disconnecting."""

from __future__ import annotations

from pathlib import Path

from mcp_discovery.adapters.embedded import EmbeddedStore
from tests.facade.connections.bodies import discovered, files, ids, register
from tests.facade.harness import Client, leased, served
from tests.records import document, record
from tests.servers.process import sdk
from tests.stores.waiting import until

NOWHERE = "http://127.0.0.1:9"


async def test_capabilities_with_what_is_known_of_them(ask: Client) -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    offered = [
        "write_file",
        {"name": "read_file", "description": "Reads.", "schema": schema},
        {"name": "notes", "kind": "resource"},
        {"name": "refunds", "kind": "skill", "description": "How to refund."},
    ]
    id = await register(ask, files(capabilities=offered))
    shown = (await ask("GET", f"/connections/{id}")).json["capabilities"]
    assert shown == [
        {"name": "write_file", "kind": "tool"},
        {"name": "read_file", "kind": "tool", "description": "Reads.", "schema": schema},
        {"name": "notes", "kind": "resource"},
        {"name": "refunds", "kind": "skill", "description": "How to refund."},
    ]
    entry = (await ask("GET", f"/servers/{id}")).json["capabilities"]
    assert (entry["tools"], entry["resources"]) == (["write_file", "read_file"], ["notes"])
    assert entry["skills"] == ["refunds"]


async def test_registering_again_replaces_it(ask: Client) -> None:
    id = await register(ask, files(status="idle", tags=["old"]))
    first = (await ask("GET", f"/connections/{id}")).json
    assert first["status"] == "idle"
    assert await register(ask, files(tags=["new"])) == id
    second = (await ask("GET", f"/connections/{id}")).json
    assert (second["status"], second["tags"]) == ("active", ["new"])
    assert second["createdAt"] == first["createdAt"]


async def test_another_under_its_id_is_refused_while_it_lives(ask: Client) -> None:
    async with sdk() as server:
        patient = {"timeout": 10_000}  # a busy machine must not take it for dead
        adder = {"id": "a", "name": "adder", "endpoint": server.url, "healthCheck": patient}
        await register(ask, adder)
        reply = await ask("POST", "/connections", files(id="a"))
        assert reply.status == 409
        assert reply.json["type"].endswith(":duplicate-instance")
        assert (await ask("GET", "/connections/a")).json["name"] == "adder"


async def test_idle_and_active_again(ask: Client) -> None:
    async with sdk() as server:
        id = await register(ask, {"name": "adder", "endpoint": server.url})
        assert (await ask("GET", "/servers")).ids == [id]
        reply = await ask("PATCH", f"/connections/{id}", {"status": "idle"})
        assert reply.json["status"] == "idle"
        assert await ids(ask, "?status=idle") == [id]
        assert await discovered(ask, {}) == []
        assert (await ask("GET", "/servers")).ids == []
        # Neither a probe nor another change ends it.
        await ask("POST", f"/connections/{id}/health-check")
        await ask("PATCH", f"/connections/{id}", {"tags": ["changed"]})
        assert (await ask("GET", f"/connections/{id}")).json["status"] == "idle"
        reply = await ask("PATCH", f"/connections/{id}", {"status": "active"})
        assert reply.json["status"] == "active"
        assert await discovered(ask, {}) == [id]
        assert (await ask("GET", "/servers")).ids == [id]


async def test_one_that_was_drained_stays_so_until_set_active(ask: Client) -> None:
    id = await register(ask, files())
    assert (await ask("POST", f"/servers/{id}/drain")).status == 200
    assert (await ask("PATCH", f"/connections/{id}", {"tags": ["x"]})).json["status"] == "idle"
    assert (await ask("PATCH", f"/connections/{id}", {"status": "active"})).json[
        "status"
    ] == "active"


async def test_idle_outlives_the_facade(tmp_path: Path) -> None:
    url = f"embedded://{tmp_path / 'store.db'}"
    async with EmbeddedStore(url) as store, served(store, posted_ttl=60.0) as ask:
        id = await register(ask, files())
        await ask("PATCH", f"/connections/{id}", {"status": "idle"})
    async with EmbeddedStore(url) as store, served(store, posted_ttl=60.0) as ask:

        async def kept() -> bool:
            return b"mcp_discovery_posted 1.0" in (await ask("GET", "/metrics")).body

        await until(kept, timeout=5, what="the entry being kept again")
        assert (await ask("GET", f"/connections/{id}")).json["status"] == "idle"


async def test_a_patch_changes_what_it_names_and_no_more(ask: Client) -> None:
    metadata = {"version": "1.0.0", "owner": "me", "tier": 1, "beta": True, "note": "true"}
    body = files(metadata=metadata, tags=["a"], zone="eu-1", description="Files")
    id = await register(ask, body)
    before = (await ask("GET", f"/connections/{id}")).json
    assert before["metadata"] == metadata  # a number, a boolean, and text that looks like one
    revision = (await ask("GET", "/status")).json["revision"]
    for nothing in ({}, {"tags": ["a"], "metadata": {"tier": 1}, "status": "active"}):
        assert (await ask("PATCH", f"/connections/{id}", nothing)).status == 200
    assert (await ask("GET", "/status")).json["revision"] == revision
    unchanged = (await ask("GET", f"/servers/{id}")).json
    patch = {"metadata": {"version": "1.1.0", "tier": None, "ratio": 0.5}, "tags": []}
    after = (await ask("PATCH", f"/connections/{id}", patch)).json
    assert after["metadata"] == {
        "version": "1.1.0",
        "owner": "me",
        "beta": True,
        "note": "true",
        "ratio": 0.5,
    }
    assert "tags" not in after
    entry = (await ask("GET", f"/servers/{id}")).json
    assert (entry["version"], entry["owner"]) == ("1.1.0", "me")
    assert entry["capabilities"] == unchanged["capabilities"]
    assert (entry["zone"], entry["description"]) == ("eu-1", "Files")
    assert entry["registeredAt"] == unchanged["registeredAt"]


async def test_capabilities_can_be_posted_and_left_to_the_server(ask: Client) -> None:
    async with sdk("--tools", "1") as server:
        id = await register(ask, {"name": "adder", "endpoint": server.url})
        assert (await ask("GET", "/servers?capability=add_0")).ids == [id]
        patch = {"capabilities": [{"name": "mine", "description": "Does it."}]}
        shown = (await ask("PATCH", f"/connections/{id}", patch)).json
        assert shown["capabilities"] == [
            {"name": "mine", "kind": "tool", "description": "Does it."}
        ]
        await ask("POST", f"/connections/{id}/health-check")
        assert (await ask("GET", "/servers?capability=mine")).ids == [id]
        await ask("PATCH", f"/connections/{id}", {"capabilities": []})

        async def told_again() -> bool:
            return (await ask("GET", "/servers?capability=add_0")).ids == [id]

        await until(told_again, timeout=5, what="the server's own tools")


async def test_a_refused_patch_changes_nothing(ask: Client) -> None:
    id = await register(ask, files())
    before = (await ask("GET", f"/servers/{id}")).json
    patch = {"tags": ["fine"], "metadata": {"password": "hunter2"}}
    reply = await ask("PATCH", f"/connections/{id}", patch)
    assert reply.status == 422
    assert reply.json["field"] == "metadata.password"
    assert (await ask("GET", f"/servers/{id}")).json == before


async def test_what_a_sidecar_keeps_is_the_sidecars() -> None:
    async with EmbeddedStore() as store, served(store) as ask:
        held = await store.register(record("a"), document("find"), ttl=60, reap_after=60)
        await ask.until_status("a", "healthy")
        for method, body in (("PATCH", {"status": "idle"}), ("DELETE", None)):
            reply = await ask(method, "/connections/a", body)
            assert reply.status == 409, method
            assert "'a' is kept" in reply.json["detail"]
            assert "by a sidecar on " in reply.json["detail"]
        assert (await ask("GET", "/connections/a")).json["status"] == "active"
        await held.deregister()


async def test_what_a_client_keeps_alive_is_the_clients(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    reply = await ask("PATCH", "/connections/a", {"status": "idle"})
    assert reply.status == 409
    assert "PUT /servers/a" in reply.json["detail"]


async def test_any_facade_can_be_asked() -> None:
    async with EmbeddedStore() as store, served(store) as one, served(store) as two:
        id = await register(one, files())

        async def there() -> bool:
            return await ids(two) == [id]

        await until(there, timeout=5, what="the connection at the other facade")
        reply = await two("PATCH", f"/connections/{id}", {"status": "idle"})
        assert (reply.status, reply.json["status"]) == (200, "idle")

        async def idle() -> bool:
            return await ids(one, "?status=idle") == [id]

        await until(idle, timeout=5, what="it being idle at the first facade")
        assert (await one("DELETE", f"/connections/{id}")).status == 200

        async def gone() -> bool:
            return await ids(two) == []

        await until(gone, timeout=5, what="it being gone from the other facade")
