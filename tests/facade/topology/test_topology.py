"""The topology over real stores: who is there, and for whom."""

from __future__ import annotations

from pathlib import Path

from mcp_discovery.adapters import open_store
from tests.facade.access.tokens import bearer, guarded
from tests.facade.harness import Client, leased, served
from tests.stores import ConsulServer, EtcdServer


async def test_it_tells_registrants_the_store_and_the_facade(ask: Client) -> None:
    posted = {"id": "kept", "name": "kept", "url": "http://127.0.0.1:9/mcp"}
    await ask("POST", "/servers", posted)
    await ask("POST", "/servers", leased("own", zone="a"))
    found = (await ask("GET", "/topology")).json
    by = {each["by"]: each for each in found["registrants"]}
    assert (by["facade"]["names"], by["facade"]["isThis"]) == (["kept"], True)
    assert by["facade"]["holder"] == found["facade"]["holder"]
    assert (by["sidecar"]["names"], by["sidecar"]["zones"]) == (["products"], ["a"])
    assert found["zones"] == [{"zone": "a", "instances": 1, "healthy": 1}]
    assert [each["role"] for each in found["store"]["members"]] == ["alone"]
    page = (await ask("GET", "/ui/topology")).body.decode()
    assert "This facade" in page
    assert "in memory" in page


async def test_members_of_real_stores_are_shown(
    consul_server: ConsulServer, etcd_server: EtcdServer, namespace: str
) -> None:
    for server in (consul_server, etcd_server):
        async with (
            open_store(f"{server.store_url}/{namespace}") as store,
            served(store) as ask,
        ):
            await ask("POST", "/servers", leased("own"))
            found = (await ask("GET", "/topology")).json["store"]
            assert found["reachable"]
            # Agents of other tests may have joined.
            servers = [each["role"] for each in found["members"] if each["role"] != "client"]
            assert servers in (["leader"], ["alone"])
            page = (await ask("GET", "/ui/topology")).body.decode()
            assert found["members"][0]["name"] in page


async def test_a_store_that_is_away_is_told(etcd_server: EtcdServer) -> None:
    async with EtcdServer() as own, open_store(own.store_url) as store, served(store) as ask:
        await own.kill()
        found = (await ask("GET", "/topology")).json["store"]
        assert found["reachable"] is False
        assert found["problem"]
        page = await ask("GET", "/ui/topology")
        assert (page.status, b"Cannot be reached" in page.body) == (200, True)


async def test_it_is_for_those_who_administer_all(tmp_path: Path) -> None:
    async with guarded(tmp_path, {}) as ask:
        for path in ("/topology", "/ui/topology"):
            assert (await ask("GET", path)).status == 401
            assert (await ask("GET", path, headers=bearer("reader"))).status == 403
            assert (await ask("GET", path, headers=bearer("operator"))).status == 200
