"""Connections over a real Consul and a real etcd."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_discovery.adapters import open_store
from tests.facade.connections.bodies import files, ids, register
from tests.facade.harness import Client, served
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer
from tests.stores.waiting import until

KEPT: dict[str, Any] = {"settle": 5.0, "posted_ttl": 10.0, "heartbeat": 1.0}


@pytest.fixture(params=["consul", "etcd"])
def store_url(request: pytest.FixtureRequest, namespace: str) -> str:
    """The URL of an empty place in a real store."""
    server: ConsulServer | EtcdServer = request.getfixturevalue(f"{request.param}_server")
    return f"{server.store_url}/{namespace}"


async def until_ids(ask: Client, query: str, expected: list[str]) -> None:
    async def listed() -> bool:
        return await ids(ask, query) == expected

    await until(listed, timeout=10, what=f"{query} being {expected}")


async def test_a_life_that_two_facades_see(store_url: str) -> None:
    async with (
        open_store(store_url) as first,
        open_store(store_url) as second,
        served(first, **KEPT) as one,
        served(second, **KEPT) as two,
    ):
        id = await register(one, files(metadata={"tier": 1}, healthCheck={"interval": 60}))
        await until_ids(two, "?protocol=stdio&status=active", [id])
        patch = {"status": "idle", "metadata": {"maintenance": True}}
        reply = await one("PATCH", f"/connections/{id}", patch)
        assert (reply.status, reply.json["status"]) == (200, "idle")
        await until_ids(two, "?status=idle", [id])
        shown = (await two("GET", f"/connections/{id}")).json
        assert shown["metadata"] == {"tier": 1, "maintenance": True}
        assert shown["healthCheck"] == {"interval": 60}
        # The other facade may be asked as well.
        reply = await two("PATCH", f"/connections/{id}", {"status": "active"})
        assert (reply.status, reply.json["status"]) == (200, "active")
        await until_ids(one, "?status=active", [id])

        export = (await two("GET", "/registry/export")).json
        assert (await one("DELETE", f"/connections/{id}")).status == 200
        await until_ids(two, "", [])
        reply = await two("POST", "/registry/import", export)
        assert reply.json["created"] == [id], reply.json
        await until_ids(one, "", [id])
