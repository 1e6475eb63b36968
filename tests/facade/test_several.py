"""Several facades over one real store are equal."""

from __future__ import annotations

import pytest

from adapters import open_store
from tests.facade.harness import Client, leased, served
from tests.facade.plain import HealthServer
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer
from tests.stores.waiting import until


@pytest.fixture(params=["consul", "etcd"])
def store_url(request: pytest.FixtureRequest, namespace: str) -> str:
    """The URL of an empty place in a real store."""
    server: ConsulServer | EtcdServer = request.getfixturevalue(f"{request.param}_server")
    return f"{server.store_url}/{namespace}"


async def test_a_post_to_one_appears_in_the_other(store_url: str) -> None:
    async with (
        open_store(store_url) as first,
        open_store(store_url) as second,
        served(first, settle=5.0) as one,
        served(second, settle=5.0) as two,
    ):
        async with two.events() as events:
            assert (await events.next()).data["servers"] == []
            body = leased("a", tags=["x"], capabilities=["find"])
            assert (await one("POST", "/servers", body)).status == 201
            # Written is listed, over a store across the network too.
            assert (await one("GET", "/servers?tags=x")).ids == ["a"]
            assert (await events.next()).data["server"]["id"] == "a"
        told = (await two("GET", "/servers/a/capabilities")).json
        assert told["tools"] == [{"name": "find"}]
        elsewhere = await two("POST", "/servers/a/heartbeat")
        assert elsewhere.status == 404
        assert elsewhere.json["type"].endswith(":registration-lost")
        # Who lands on the other one registers there anew, and stays the same holder.
        assert (await two("POST", "/servers", body)).status == 201
        assert (await two("POST", "/servers/a/heartbeat")).status == 200
        assert (await two("DELETE", "/servers/a")).status == 204
        await is_gone(one)


async def is_gone(ask: Client) -> None:
    async def gone() -> bool:
        return (await ask("GET", "/servers/a")).status == 404

    await until(gone, timeout=5, what="a being gone")


async def test_what_one_leaves_the_other_adopts(store_url: str) -> None:
    plain = HealthServer()
    await plain.start()
    body = {"id": "a", "name": "products", "url": plain.base_url, "healthUrl": plain.health_url}
    try:
        async with open_store(store_url) as second, served(second, kept_ttl=3.0) as two:
            async with open_store(store_url) as first, served(first, kept_ttl=3.0) as one:
                assert (await one("POST", "/servers", body)).status == 201
                await two.until_status("a", "healthy")
            await two.until_status("a", "down", timeout=10)
            await two.until_status("a", "healthy", timeout=10)
            plain.status = 500
            await two.until_status("a", "degraded")
            assert (await two("DELETE", "/servers/a")).status == 204
            await is_gone(two)
    finally:
        await plain.stop()
