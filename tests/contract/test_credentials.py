"""Credentials and TLS, over the stores that have them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import StoreDeniedError, StoreUnavailableError
from mcp_discovery.health import Status
from tests.contract.watcher import watching
from tests.records import document, record
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer
from tests.stores.tls import Tls

Server = ConsulServer | EtcdServer


@pytest.fixture(params=["consul", "etcd"])
def server_type(request: pytest.FixtureRequest) -> Callable[..., Server]:
    return ConsulServer if request.param == "consul" else EtcdServer


async def one_round(url: str, options: StoreOptions) -> None:
    """Registers, watches, deregisters."""
    async with open_store(url, options) as store, watching(store) as watcher:
        registration = await store.register(record(), document("a"), ttl=30, reap_after=60)
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)
        assert await store.document(document("a").digest) == document("a")
        await registration.deregister()
        await watcher.until_status("catalog-1", None, 5)


async def everything_raises(expected: type[Exception], url: str, options: StoreOptions) -> None:
    async with open_store(url, options) as store:
        with pytest.raises(expected):
            await store.register(record(), document("a"), ttl=30, reap_after=60)
        with pytest.raises(expected):
            async with aclosing(store.watch()) as events:
                await anext(events)
        with pytest.raises(expected) as caught:
            await store.document(document("a").digest)
    assert "s3cr3t" not in str(caught.value)


async def test_tls_with_a_private_ca_and_a_client_certificate(
    server_type: Callable[..., Server], tmp_path: Path
) -> None:
    tls = Tls(tmp_path)
    ca = str(tls.ca_file)
    certificate, key = str(tls.client.cert_file), str(tls.client.key_file)
    async with server_type(tls=tls) as server:
        await one_round(server.store_url, StoreOptions(ca=ca, certificate=certificate, key=key))
        await everything_raises(
            StoreUnavailableError, server.store_url, StoreOptions(ca=ca, timeout=3)
        )
        with pytest.raises(StoreUnavailableError, match="certificate"):
            async with open_store(server.store_url) as store:
                await store.document("0" * 64)


async def test_consul_with_a_token() -> None:
    rules = """
        service_prefix "mcp" { policy = "write" }
        key_prefix "mcp/" { policy = "write" }
        node_prefix "" { policy = "read" }
        agent_prefix "" { policy = "read" }
    """
    async with ConsulServer(acl=True) as server:
        token = await server.create_token(rules)
        await one_round(server.store_url, StoreOptions(token=token))
        powerless = await server.create_token('node_prefix "" { policy = "read" }')
        for wrong in (None, "s3cr3t-5b5e-4d7e-9f5c-000000000000", powerless):
            await everything_raises(StoreDeniedError, server.store_url, StoreOptions(token=wrong))


async def test_etcd_with_user_and_password() -> None:
    async with EtcdServer(auth=True) as server:
        await server.add_user("discovery", "s3cr3t", prefix="/mcp/")
        await server.add_user("stranger", "s3cr3t-2")
        url = server.store_url
        await one_round(url, StoreOptions(user="discovery", password="s3cr3t"))
        for user, password in (
            (None, None),
            ("discovery", "s3cr3t-wrong"),
            ("nobody", "s3cr3t"),
            ("stranger", "s3cr3t-2"),
        ):
            await everything_raises(
                StoreDeniedError, url, StoreOptions(user=user, password=password)
            )
