"""Fixtures: stores shared by a whole test process.

For `pytest_plugins = ["tests.stores.fixtures"]` in the root conftest.

A start costs one to two seconds, so tests that break nothing share one server per process (per
worker under pytest-xdist). They stay apart by name, `namespace` being a fresh one for each test:

    f"{etcd_server.store_url}/{namespace}"       # every key under that prefix
    f"{consul_server.store_url}/{namespace}"     # KV prefix and Consul service of that name

A test that kills, pauses, wipes or floods a store starts its own with `async with`. The servers
belong to no event loop, so tests with loops of their own may use them.
"""

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def consul_server() -> AsyncIterator[ConsulServer]:
    """A Consul server without ACLs and TLS, shared by this process: write under `namespace`."""
    async with ConsulServer() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def etcd_server() -> AsyncIterator[EtcdServer]:
    """An etcd server without users and TLS, shared by this process: write under `namespace`."""
    async with EtcdServer() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """A DNS label that nothing else in a shared store is named after."""
    return f"t-{uuid.uuid4().hex[:12]}"
