"""The published examples, sent letter for letter, and answers of the published shape."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from tests.facade.connections import seed
from tests.facade.connections.bodies import files, loaded, register
from tests.facade.connections.shapes import assert_shape
from tests.facade.harness import Client, leased
from tests.servers.process import odd

#: What answers have besides what the examples show.
BESIDE = frozenset(
    {
        "reason",
        "metadata",
        "tags",
        "zone",
        "healthCheck",
        "transport",
        "kind",
        "lease",
        "requestsPerMinute",
        "activeConnections",
        "lastCheck",
        "protocol",
        "endpoint",
    }
)
NPX = {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/tmp"]}


def example(text: bytes) -> Any:
    return orjson.loads(text)


async def filesystem(ask: Client, id: str, active: int, **more: Any) -> None:
    """A stdio server as the examples have it, kept alive and measured by its own registrant."""
    offered = ["read_file", "write_file", "list_directory"]
    body = {"id": id, "name": "filesystem-mcp", "endpoint": {"transport": "stdio", **NPX}}
    body |= {"capabilities": offered, "lease": {"ttl": 60}} | more
    assert (await ask("POST", "/servers", body)).status == 201
    load = {"active": active, "capacity": 20, "rate": 45, "latency": 0.12, "errorRate": 0.001}
    assert (await ask("POST", f"/servers/{id}/heartbeat", {"load": load})).status == 200


async def test_list(ask: Client) -> None:
    await filesystem(ask, "mcp-conn-123", 5)
    await ask("POST", "/servers", leased("other"))
    reply = await ask("GET", "/connections?status=active&capability=filesystem&protocol=stdio")
    assert reply.status == 200
    assert_shape(reply.json, example(seed.LISTED), beside=BESIDE)
    listed = reply.json["connections"][0]
    shown = example(seed.LISTED)["connections"][0]
    for name in ("id", "name", "type", "protocol", "status", "capabilities", "endpoint", "metrics"):
        assert listed[name] == shown[name], name
    assert listed["health"]["errorRate"] == 0.001
    assert (reply.json["total"], reply.json["filtered"]) == (2, 1)


async def test_register(ask: Client) -> None:
    reply = await ask("POST", "/connections", seed.REGISTER)
    assert reply.status == 201
    told, shown = reply.json, example(seed.REGISTERED)
    assert_shape(told, shown)
    assert reply.headers["Location"] == f"/connections/{told['id']}"
    assert (told["name"], told["status"]) == ("gitlab-mcp", "active")
    assert told["connection"]["health"]["status"] == "initializing"
    assert told["connection"]["capabilities"] == shown["connection"]["capabilities"]
    entry = (await ask("GET", f"/servers/{told['id']}")).json
    assert (entry["version"], entry["owner"]) == ("1.0.0", "llm-platform")
    assert entry["metadata"] == {"environment": "production"}
    assert entry["endpoint"]["args"][-1] == "${GITLAB_TOKEN}"
    listed = (await ask("GET", f"/connections/{told['id']}")).json
    assert listed["metadata"] == example(seed.REGISTER)["metadata"]
    assert listed["healthCheck"] == {"interval": 30, "timeout": 5000}
    assert "npx" in str((await ask("GET", "/connections?protocol=stdio")).json)


async def test_details(ask: Client) -> None:
    issue = example(seed.DETAILS)["capabilities"][0]
    tool = {"name": issue["name"], "description": issue["description"]}
    document = {"tools": [tool | {"inputSchema": issue["schema"]}]}
    await filesystem(ask, "mcp-conn-456", 1, document=document, capabilities=None)
    for success in (True, True, False):
        outcome = {"latency": 150, "success": success, "capability": "create_issue"}
        assert (await ask("POST", "/connections/mcp-conn-456/outcome", outcome)).status == 204
    reply = await ask("GET", "/connections/mcp-conn-456")
    assert reply.status == 200
    assert_shape(reply.json, example(seed.DETAILS), beside=BESIDE)
    assert reply.json["capabilities"] == [issue | {"kind": "tool"}]
    metrics = reply.json["metrics"]
    assert metrics["totalRequests"] == 3
    assert metrics["successRate"] == pytest.approx(1 - metrics["errorRate"])


async def test_update_and_disconnect(ask: Client) -> None:
    id = (await ask("POST", "/connections", seed.REGISTER)).json["id"]
    reply = await ask("PATCH", f"/connections/{id}", seed.UPDATE)
    assert reply.status == 200
    assert reply.json["status"] == "idle"
    assert reply.json["metadata"] == example(seed.REGISTER)["metadata"] | {"maintenance": True}
    assert reply.json["healthCheck"] == {"interval": 60, "timeout": 5000}

    reply = await ask("DELETE", f"/connections/{id}")
    assert reply.status == 200
    assert_shape(reply.json, example(seed.DISCONNECTED))
    assert (reply.json["id"], reply.json["status"]) == (id, "disconnected")
    assert reply.json["message"] == example(seed.DISCONNECTED)["message"]
    assert (await ask("GET", f"/connections/{id}")).status == 404


async def test_discover(ask: Client) -> None:
    long_ago = {"health": {"status": "healthy", "since": "2025-01-15T10:00:00Z"}}
    await filesystem(ask, "mcp-conn-123", 5, **long_ago)
    await filesystem(ask, "mcp-conn-789", 3, **long_ago)
    await filesystem(ask, "too-new", 0)
    reply = await ask("POST", "/connections/discover", seed.DISCOVER)
    assert reply.status == 200
    assert_shape(reply.json, example(seed.DISCOVERED), beside=BESIDE)
    assert [each["id"] for each in reply.json["connections"]] == ["mcp-conn-789", "mcp-conn-123"]
    assert [each["load"] for each in reply.json["connections"]] == [0.15, 0.25]
    shown = {key: value for key, value in reply.json.items() if key != "connections"}
    assert shown == {"totalMatching": 2, "loadBalanced": True, "strategy": "least-loaded"}


async def test_what_servers_count_themselves(ask: Client) -> None:
    """The totals and means of the registry are made of what each of them reports."""
    tools = {"read_file": {"requests": 15000, "latency": 0.1}, "write_file": {"requests": 8523}}
    rates = {"requests": 24_000, "rate": 5000, "latency": 0.14, "errorRate": 0.012}
    others = {"tools": {"read_file": {"requests": 234, "latency": 0.2}}, "requests": 234}
    for id, load in (("a", rates | {"tools": tools}), ("b", others | {"rate": 250})):
        body = leased(id, capabilities=["read_file", "write_file"])
        assert (await ask("POST", "/servers", body)).status == 201
        for status in ("degraded", "healthy"):  # a load goes at once with another health
            beat = {"status": status, "reason": "", "load": load}
            assert (await ask("POST", f"/servers/{id}/heartbeat", beat)).status == 200
    found = {
        each["name"]: each for each in (await ask("GET", "/capabilities")).json["capabilities"]
    }
    assert found["read_file"]["totalRequests"] == 15234
    assert found["read_file"]["averageLatency"] == pytest.approx(101.5, abs=0.1)
    assert found["write_file"]["totalRequests"] == 8523
    assert "averageLatency" not in found["write_file"]
    # What clients report of them is the same calls.
    outcome = {"latency": 9000, "success": False, "capability": "write_file"}
    assert (await ask("POST", "/connections/a/outcome", outcome)).status == 204
    stats = (await ask("GET", "/registry/stats")).json
    assert_shape(stats, example(seed.STATS))
    assert stats["capabilities"]["mostUsed"] == [
        {"name": "read_file", "requests": 15234},
        {"name": "write_file", "requests": 8523},
    ]
    performance = stats["performance"]
    assert performance["requestsPerSecond"] == 87.5
    assert (performance["averageLatency"], performance["errorRate"]) == (140, 0.012)
    assert (await ask("GET", "/health")).json["performance"]["averageLatency"] == 140
    details = (await ask("GET", "/connections/a")).json
    assert details["metrics"]["totalRequests"] == 24_000
    assert details["metrics"]["requestsPerMinute"] == 5000


async def test_capabilities(ask: Client) -> None:
    tool = {"name": "read_file", "description": "Read file from filesystem"}
    body = files(capabilities=[tool])
    id = await register(ask, body)
    outcome = {"latency": 120, "success": True, "capability": "read_file"}
    assert (await ask("POST", f"/connections/{id}/outcome", outcome)).status == 204
    reply = await ask("GET", "/capabilities")
    assert_shape(reply.json, example(seed.CAPABILITIES), beside=BESIDE)
    assert reply.json["capabilities"] == [
        tool | {"kind": "tool", "providers": 1, "totalRequests": 1, "averageLatency": 120}
    ]


async def test_health_check(ask: Client) -> None:
    async with odd() as server:
        body = {"id": "mcp-conn-456", "name": "gitlab-mcp", "url": server.url}
        assert (await ask("POST", "/servers", body | {"lease": {"ttl": 60}})).status == 201
        load: dict[str, Any] = {"active": 3, "capacity": 20}
        measured = load | {"memory": 45_300_000, "cpu": 0.125, "running": True}
        for each in (load, measured):
            beat = {"load": each}
            assert (await ask("POST", "/servers/mcp-conn-456/heartbeat", beat)).status == 200
            reply = await ask("POST", "/connections/mcp-conn-456/health-check", {"timeout": 10_000})
            assert reply.status == 200
            shown = example(seed.CHECKED)
            if each is load:  # which does not tell the others
                assert reply.json["diagnostics"] == {"processRunning": True, "activeRequests": 3}
    assert_shape(reply.json, shown)
    assert reply.json["health"]["status"] == "healthy"
    assert reply.json["diagnostics"] == shown["diagnostics"]
    beat = {"load": measured | {"memory": 1_250_000, "running": False, "cpu": None}}
    assert (await ask("POST", "/servers/mcp-conn-456/heartbeat", beat)).status == 200
    reply = await ask("POST", "/connections/mcp-conn-456/health-check", {"timeout": 10_000})
    assert reply.json["health"]["status"] == "error"  # its server has gone meanwhile
    told = {"processRunning": False, "memoryUsage": "1.2MB", "activeRequests": 3}
    assert reply.json["diagnostics"] == told


async def test_batch_health_check(ask: Client) -> None:
    async with AsyncExitStack() as stack:
        for id in example(seed.BATCH)["connectionIds"]:
            server = await stack.enter_async_context(odd())
            body = {"id": id, "name": "files", "endpoint": server.url}
            await register(ask, body | {"healthCheck": {"enabled": False, "timeout": 5000}})
        await server.control(hang=True)
        reply = await ask("POST", "/connections/health-check/batch", seed.BATCH)
    assert reply.status == 200
    results, summary = reply.json["results"], reply.json["summary"]
    shown = example(seed.BATCH_CHECKED)
    for result, like in zip(results, shown["results"], strict=True):
        assert_shape(result, like)
    assert summary == shown["summary"]
    assert [each["status"] for each in results] == ["healthy", "healthy", "error"]
    assert results[2] == shown["results"][2]


async def test_stats(ask: Client) -> None:
    await loaded(ask, "a", 1, capabilities=["read_file"])
    await register(ask, files(status="idle"))
    outcome = {"latency": 145, "success": False, "capability": "read_file"}
    assert (await ask("POST", "/connections/a/outcome", outcome)).status == 204
    reply = await ask("GET", "/registry/stats")
    assert_shape(reply.json, example(seed.STATS))
    counted = {"total": 2, "active": 1, "idle": 1, "disconnected": 0, "error": 0}
    assert reply.json["connections"] == counted
    assert reply.json["protocols"] == {"stdio": 1, "http": 1, "websocket": 0}
    mostly = [{"name": "read_file", "requests": 1}]
    assert reply.json["capabilities"] == {"total": 1, "mostUsed": mostly}


async def test_export(ask: Client) -> None:
    await register(ask, files(endpoint=NPX))
    reply = await ask("GET", "/registry/export")
    assert_shape(reply.json, example(seed.EXPORTED), beside={"id", "documents"})
    assert reply.json["connections"][0]["endpoint"] == NPX


async def test_distribution(ask: Client) -> None:
    for number, active in enumerate((18, 17)):
        await loaded(ask, f"mcp-conn-{number}", active)
    reply = await ask("GET", "/load-balancing/distribution")
    assert_shape(reply.json, example(seed.DISTRIBUTION), beside={"name"})
    assert reply.json["strategy"] == "least-loaded"
    assert [each["load"] for each in reply.json["connections"]] == [0.9, 0.85]
    assert reply.json["recommendations"] == [
        {
            "action": "scale-up",
            "reason": "Load exceeding 80% on 2 connections of products",
            "name": "products",
            "suggestedConnections": 1,
        }
    ]


async def test_health(ask: Client) -> None:
    await loaded(ask, "a", 1)
    assert "performance" not in (await ask("GET", "/health")).json
    outcome = {"latency": 145, "success": True}
    assert (await ask("POST", "/connections/a/outcome", outcome)).status == 204
    assert_shape((await ask("GET", "/health")).json, example(seed.HEALTH))
