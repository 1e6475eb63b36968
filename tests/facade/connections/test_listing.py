"""The list of connections: protocols, statuses, filters and pages."""

from __future__ import annotations

from tests.facade.connections.bodies import discovered, files, ids, register
from tests.facade.harness import Client, leased, served
from tests.servers.process import sdk

NOWHERE = "http://127.0.0.1:9"


async def test_protocols_of_transports(ask: Client) -> None:
    for body in (
        files(id="stdio"),
        {"id": "http", "name": "a", "endpoint": f"{NOWHERE}/mcp"},
        {"id": "sse", "name": "a", "endpoint": {"url": f"{NOWHERE}/sse", "transport": "sse"}},
        {"id": "ws", "name": "a", "endpoint": {"url": "ws://127.0.0.1:9"}},
        {"id": "ws-2", "name": "a", "protocol": "websocket", "endpoint": "ws://127.0.0.1:9/b"},
        {"id": "http-2", "name": "a", "protocol": "http", "endpoint": {"url": NOWHERE}},
    ):
        await register(ask, body)
    assert await ids(ask, "?protocol=stdio") == ["stdio"]
    assert await ids(ask, "?protocol=http") == ["http", "http-2", "sse"]
    assert await ids(ask, "?protocol=websocket,stdio") == ["ws", "ws-2", "stdio"]
    shown = (await ask("GET", "/connections/sse")).json
    assert (shown["protocol"], shown["endpoint"]["transport"]) == ("http", "sse")
    assert (await ask("GET", "/servers/ws")).json["transport"] == "websocket"
    counted = (await ask("GET", "/registry/stats")).json["protocols"]
    assert counted == {"stdio": 1, "http": 3, "websocket": 2}


async def test_statuses_agree_everywhere(ask: Client) -> None:
    """The list, its filter, the details, discovery and the statistics say the same."""
    down = {"status": "down", "reason": "connection refused"}
    await ask("POST", "/servers", leased("error", health=down))
    silent = {"status": "down", "reason": "no heartbeat for 10 s"}
    await ask("POST", "/servers", leased("disconnected", health=silent))
    await ask("POST", "/servers", leased("idle"))
    assert (await ask("POST", "/servers/idle/drain")).status == 200
    await ask("POST", "/servers", leased("active"))
    await ask("POST", "/servers", leased("slow", health={"status": "degraded", "reason": "slow"}))

    everyone = {"active": ["active", "slow"], "idle": ["idle"]}
    everyone |= {"error": ["error"], "disconnected": ["disconnected"]}
    for status, expected in everyone.items():
        assert await ids(ask, f"?status={status}") == expected
        assert sorted(await discovered(ask, {"filters": {"status": status}})) == expected
        for id in expected:
            assert (await ask("GET", f"/connections/{id}")).json["status"] == status
    counted = (await ask("GET", "/registry/stats")).json["connections"]
    assert counted == {"total": 5} | {each: len(found) for each, found in everyone.items()}
    assert await ids(ask, "?status=error&status=idle") == ["error", "idle"]
    assert "uptime" not in (await ask("GET", "/connections/error")).json["health"]


async def test_clients_are_told_from_servers(ask: Client) -> None:
    await register(ask, files(id="one", type="client"))
    await register(ask, files(id="two"))
    assert await ids(ask, "?type=client") == ["one"]
    assert await ids(ask, "?type=server") == ["two"]
    assert await discovered(ask, {}) == ["two"]
    assert await discovered(ask, {"filters": {"type": "client"}}) == ["one"]


async def test_filters_and_what_a_capability_is(ask: Client) -> None:
    await register(ask, files(id="one", tags=["fast", "near"]))
    await register(ask, files(id="two", name="git", capabilities=["commit"], tags=["fast"]))
    assert await ids(ask, "?tags=fast") == ["one", "two"]
    assert await ids(ask, "?tags=fast,near&match=all") == ["one"]
    assert await ids(ask, "?name=git") == ["two"]
    assert await ids(ask, "?capability=read_file&capability=write_file") == ["one"]
    assert await ids(ask, "?capability=read_file&capability=commit") == []
    assert await ids(ask, "?capability=filesystem") == ["one"]  # a word of its name
    assert await ids(ask, "?capability=near") == ["one"]  # a tag
    assert await ids(ask, "?capability=file") == []


async def test_pages_stay_right_while_the_list_changes(ask: Client) -> None:
    for number in range(7):
        await register(ask, files(id=f"c{number}"))
    first = (await ask("GET", "/connections?limit=3")).json
    assert [each["id"] for each in first["connections"]] == ["c0", "c1", "c2"]
    assert (first["total"], first["filtered"]) == (7, 7)
    await ask("DELETE", "/connections/c1")
    second = (await ask("GET", f"/connections?cursor={first['nextCursor']}")).json
    assert [each["id"] for each in second["connections"]] == ["c3", "c4", "c5"]
    third = (await ask("GET", f"/connections?cursor={second['nextCursor']}&limit=10")).json
    assert [each["id"] for each in third["connections"]] == ["c6"]
    assert "nextCursor" not in third
    foreign = await ask("GET", f"/connections?type=server&cursor={first['nextCursor']}")
    assert foreign.status == 400
    assert foreign.json["type"].endswith(":bad-cursor")


async def test_an_unchanged_list_is_not_sent_again(ask: Client) -> None:
    id = await register(ask, files())
    first = await ask("GET", "/connections")
    same = {"headers": {"If-None-Match": first.headers["ETag"]}}
    assert (await ask("GET", "/connections", **same)).status == 304
    assert (await ask("GET", "/connections?protocol=http", **same)).status == 200
    outcome = {"latency": 5, "success": True}
    assert (await ask("POST", f"/connections/{id}/outcome", outcome)).status == 204
    assert (await ask("GET", "/connections", **same)).status == 200


async def test_what_an_mcp_server_tells_of_itself(ask: Client) -> None:
    async with sdk("--tools", "2") as server:
        reply = await ask("POST", "/connections", {"name": "adder", "endpoint": server.base_url})
        assert reply.json["connection"]["health"]["status"] == "healthy"
        offered = ["add_0", "add_1", "things", "thing", "explain"]
        assert reply.json["connection"]["capabilities"] == offered
        shown = (await ask("GET", f"/connections/{reply.json['id']}")).json
        told = {each["name"]: each for each in shown["capabilities"]}
        assert told["add_0"]["schema"]["type"] == "object"
        assert told["add_0"]["description"] == "Add two numbers, way add_0."
        assert told["explain"]["kind"] == "prompt"
        assert shown["health"]["checksPerformed"] >= 1
        assert shown["metrics"] == {}  # nobody has reported any use


async def test_its_own_interval_and_timeout_are_kept_to() -> None:
    async with sdk() as server, served(probe_interval=3600.0, probe_timeout=30.0) as ask:
        wish = {"healthCheck": {"interval": 1, "timeout": 300}}
        id = await register(ask, {"name": "a", "endpoint": server.url} | wish)
        await ask.until_status(id, "healthy")
        await server.pause()
        entry = await ask.until_status(id, "down")
        assert entry["reason"] == "no answer within 0.3 s"
        await server.resume()
        await ask.until_status(id, "healthy")


async def test_health_checks_can_be_switched_off(ask: Client) -> None:
    body = {"name": "a", "endpoint": NOWHERE, "healthCheck": {"enabled": False}}
    id = await register(ask, body)
    entry = (await ask("GET", f"/servers/{id}")).json
    assert entry["reason"] == "not probed: its health checks are switched off"
    assert await discovered(ask, {}) == [id]
    asked = (await ask("GET", f"/connections/{id}")).json["health"]["checksPerformed"]
    assert asked == 0
    patch = {"healthCheck": {"enabled": True}}
    assert (await ask("PATCH", f"/connections/{id}", patch)).status == 200
    await ask.until_status(id, "down")
    patch = {"healthCheck": {"enabled": False}}
    assert (await ask("PATCH", f"/connections/{id}", patch)).status == 200
    await ask.until_status(id, "degraded")


async def test_one_is_the_same_as_a_server(ask: Client) -> None:
    """A connection is an instance: either API shows what the other registered."""
    await ask("POST", "/servers", leased("posted", weight=3, zone="eu-1"))
    await register(ask, files(id="registered"))
    assert await ids(ask) == ["registered", "posted"]
    assert (await ask("GET", "/servers?status=all")).ids == ["registered", "posted"]
    assert (await ask("GET", "/connections/posted")).json["zone"] == "eu-1"


async def test_no_metadata_value_breaks_the_list(ask: Client) -> None:
    """A registrant may call any text a literal: what cannot be one is shown as the text."""
    metadata = {"deep": "[" * 4096, "endless": "1e999", "plain": "1.5"}
    body = leased("odd", metadata=metadata, connection={"literals": list(metadata)})
    assert (await ask("POST", "/servers", body)).status == 201
    assert await ids(ask) == ["odd"]
    shown = (await ask("GET", "/connections/odd")).json
    assert shown["metadata"] == metadata | {"plain": 1.5}
