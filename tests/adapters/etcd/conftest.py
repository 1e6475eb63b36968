"""What the etcd adapter's tests share: a store of each test's own, on the shared server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.adapters.etcd.keys import Keys
from mcp_discovery.adapters.store import Registration, Store
from tests.records import document, record
from tests.stores.etcd import EtcdServer


@pytest.fixture
async def store(etcd_server: EtcdServer, namespace: str) -> AsyncIterator[EtcdStore]:
    """An empty store under a prefix of its own."""
    async with EtcdStore(f"{etcd_server.store_url}/{namespace}") as opened:
        yield opened


@pytest.fixture
def keys(namespace: str) -> Keys:
    """The spelling of ``store``'s keys."""
    return Keys(f"/{namespace}/")


async def registered(
    store: Store, id: str = "catalog-1", *, ttl: float = 20, reap_after: float = 60
) -> Registration:
    """An instance of the product catalog."""
    return await store.register(record(id), document("a"), ttl=ttl, reap_after=reap_after)
