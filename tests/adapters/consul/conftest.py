"""A store on the shared Consul server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from tests.stores import ConsulServer


@pytest.fixture
async def store(consul_server: ConsulServer, namespace: str) -> AsyncIterator[ConsulStore]:
    async with ConsulStore(f"{consul_server.store_url}/{namespace}") as store:
        yield store
