"""What the sweeper removes from Consul, and when."""

from __future__ import annotations

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from tests.records import document, record
from tests.stores import ConsulServer


async def keys(server: ConsulServer, namespace: str) -> set[str]:
    answer = await server.api("GET", f"/v1/kv/{namespace}/?keys&consistent")
    return {key.removeprefix(f"{namespace}/") for key in answer.json()}


async def test_orphans_and_unnamed_documents_go_after_a_while(
    consul_server: ConsulServer,
    store: ConsulStore,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, left = document("kept"), document("left")
    await store.register(record("kept-1"), kept, ttl=60, reap_after=60)
    await store.register(record("left-1"), left, ttl=60, reap_after=60)
    await consul_server.api("PUT", "/v1/agent/service/deregister/left-1")
    await consul_server.put(f"{namespace}/servers/foreign", "not ours")
    await consul_server.put(f"{namespace}/documents/readme", "not ours")
    lasting = {
        "servers/product-catalog/kept-1",
        f"documents/{kept.digest}/1-of-1",
        "servers/foreign",
        "documents/readme",
    }
    orphan, unnamed = "servers/product-catalog/left-1", f"documents/{left.digest}/1-of-1"

    assert await store.sweep() == 0
    assert await store.sweep() == 0
    assert await keys(consul_server, namespace) == lasting | {orphan, unnamed}

    monkeypatch.setattr("mcp_discovery.adapters.consul.store.GRACE", 0.0)
    assert await store.sweep() == 1
    assert await keys(consul_server, namespace) == lasting | {unnamed}
    assert await store.sweep() == 1
    assert await keys(consul_server, namespace) == lasting


async def test_what_is_referenced_again_starts_its_minute_anew(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    offered = document("a")
    await store.register(record(), offered, ttl=60, reap_after=60)
    await consul_server.api("PUT", "/v1/agent/service/deregister/catalog-1")
    assert await store.sweep() == 0
    await store.register(record(), offered, ttl=60, reap_after=60)
    assert await store.sweep() == 0
    assert not store._unreferenced._since
