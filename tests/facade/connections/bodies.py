"""Bodies and requests that several tests make."""

from __future__ import annotations

from typing import Any

from tests.facade.harness import Client, leased


def files(**more: Any) -> dict[str, Any]:
    """A stdio connection."""
    body: dict[str, Any] = {
        "name": "filesystem-mcp",
        "protocol": "stdio",
        "endpoint": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem"]},
        "capabilities": ["read_file", "write_file"],
    }
    return body | more


async def register(ask: Client, body: dict[str, Any]) -> str:
    """Registers a connection; returns its id."""
    reply = await ask("POST", "/connections", body)
    assert reply.status == 201, reply.body
    id: str = reply.json["id"]
    return id


async def loaded(ask: Client, id: str, active: int, capacity: int = 20, **more: Any) -> None:
    """Registers, as its own registrant, a healthy server that reports its load."""
    assert (await ask("POST", "/servers", leased(id, **more))).status == 201
    load = {"active": active, "capacity": capacity}
    assert (await ask("POST", f"/servers/{id}/heartbeat", {"load": load})).status == 200


async def ids(ask: Client, query: str = "") -> list[str]:
    """The ids of the connections in the list."""
    reply = await ask("GET", f"/connections{query}")
    assert reply.status == 200, reply.body
    return [each["id"] for each in reply.json["connections"]]


async def discovered(ask: Client, body: Any) -> list[str]:
    """The ids of the connections that discovery offers."""
    reply = await ask("POST", "/connections/discover", body)
    assert reply.status == 200, reply.body
    return [each["id"] for each in reply.json["connections"]]
