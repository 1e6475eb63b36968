"""Credentials that are given to a store which does not ask for them: said once, by its object."""

from __future__ import annotations

import uuid
from contextlib import aclosing

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import Store, StoreOptions
from mcp_discovery.health import Health, Status
from tests.records import document, record
from tests.stores import binaries
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer

pytestmark = pytest.mark.parametrize("release", binaries.matrix(), indirect=True, scope="session")


async def read(store: Store) -> None:
    """The first list."""
    async with aclosing(store.watch()) as events:
        await anext(events)


async def test_etcd_with_users_off_and_then_on(caplog: pytest.LogCaptureFixture) -> None:
    async with EtcdServer() as server:
        options = StoreOptions(user="root", password="s3cr3t")
        async with open_store(server.store_url, options) as store:
            assert store.unguarded is None  # nobody has asked yet
            registration = await store.register(record(), document("a"), ttl=30, reap_after=60)
            assert "users are off: the password was not checked" in str(store.unguarded)
            await server.restart()  # connections that end make it authenticate anew
            await read(store)
            assert caplog.text.count("users are off") == 1
            server.password = "s3cr3t"
            await server._furnish()  # turns users on
            await registration.heartbeat(Health(Status.DEGRADED, "slow"))  # it writes
            assert store.unguarded is None
            await registration.deregister()
        assert "s3cr3t" not in caplog.text
        async with open_store(server.store_url, StoreOptions(password="s3cr3t")) as store:
            assert "without a user" in str(store.unguarded)


async def test_consul_without_acls(
    consul_server: ConsulServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, secret = f"{consul_server.store_url}/{namespace}", str(uuid.uuid4())
    async with open_store(url, StoreOptions(token=secret)) as store:
        await read(store)
        assert "ACLs are off: it was not checked" in str(store.unguarded)
        registration = await store.register(record(), document("a"), ttl=30, reap_after=60)
        await registration.deregister()
        assert caplog.text.count("ACLs are off") == 1
    async with open_store(url) as store:
        await read(store)
        assert store.unguarded is None
    assert secret not in caplog.text
