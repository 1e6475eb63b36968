"""Several facades over one real store are equal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.heartbeats import HeartbeatSchedule
from mcp_discovery.adapters.tombstone import is_tombstone
from tests.contract.watcher import watching
from tests.facade.harness import Client, EventReader, leased, served
from tests.facade.plain import HealthServer
from tests.facade.websocket.test_stream import stream
from tests.programs import facade
from tests.stores.consul import ConsulAgent, ConsulServer
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


async def test_each_heartbeat_over_http_renews(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client may pause for a TTL after any of them."""
    renewals = []
    renewed = HeartbeatSchedule.renewed

    def counted(schedule: HeartbeatSchedule, sent: float) -> None:
        renewals.append(sent)
        renewed(schedule, sent)

    monkeypatch.setattr(HeartbeatSchedule, "renewed", counted)
    async with open_store(store_url) as store, served(store) as ask:
        assert (await ask("POST", "/servers", leased("a"))).status == 201
        for _ in range(4):
            before = len(renewals)
            assert (await ask("POST", "/servers/a/heartbeat")).status == 200
            assert len(renewals) == before + 1


@pytest.fixture
async def plain() -> AsyncIterator[HealthServer]:
    """A server that facades probe."""
    server = HealthServer()
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def facades(store_url: str, count: int = 2, **options: Any) -> AsyncIterator[list[Client]]:
    """So many facades, each with a store object of its own, as processes have."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            store = await stack.enter_async_context(open_store(store_url))
            changes = {"settle": 5.0, "posted_ttl": 3.0} | options
            made.append(await stack.enter_async_context(served(store, **changes)))
        yield made


def posted(plain: HealthServer, **more: Any) -> dict[str, Any]:
    body = {"id": "a", "name": "products", "url": plain.base_url, "healthUrl": plain.health_url}
    return body | more


async def keeps(ask: Client) -> int:
    """How many entries the facade keeps."""
    for line in (await ask("GET", "/metrics")).body.splitlines():
        if line.startswith(b"mcp_discovery_posted "):
            return int(float(line.split()[1]))
    raise AssertionError("no such figure")


async def until_keeps(ask: Client, count: int, timeout: float = 10.0) -> None:
    async def so_many() -> bool:
        return await keeps(ask) == count

    await until(so_many, timeout=timeout, what=f"it keeping {count}")


async def is_gone(ask: Client) -> None:
    async def gone() -> bool:
        return (await ask("GET", "/servers/a")).status == 404

    await until(gone, timeout=5, what="a being gone")


async def stays_gone(events: EventReader, seconds: float) -> None:
    """Nothing is told of it any more, for longer than its keeper's TTL and heartbeats take."""
    with pytest.raises(TimeoutError):
        await events.next(seconds)


async def test_any_facade_deletes_what_another_keeps(store_url: str, plain: HealthServer) -> None:
    async with facades(store_url, 3) as (one, two, three):
        assert (await one("POST", "/servers", posted(plain))).status == 201
        await two.until_status("a", "healthy")
        await three.until_status("a", "healthy")
        async with three.events("?status=all") as events:
            assert len((await events.next()).data["servers"]) == 1
            assert (await two("DELETE", "/servers/a")).status == 204
            assert (await two("GET", "/servers/a")).status == 404
            # On a busy machine its probe may be late before it goes.
            while (event := await events.next()).data["server"] is not None:
                assert event.data["id"] == "a"
            assert event.data == {"id": "a", "server": None}
            await until_keeps(one, 0)
            await stays_gone(events, 4.0)
        # The keeper has seen it: nothing is left in the store, not even a tombstone.
        async with open_store(store_url) as store, watching(store) as watcher:
            await watcher.until(lambda: watcher.instances == {}, 5, "an empty store")
        # Anyone may post it again, and another delete it again.
        assert (await three("POST", "/servers", posted(plain))).status == 201
        await one.until_status("a", "healthy")
        assert (await one("DELETE", "/servers/a")).status == 204
        assert (await three("GET", "/servers/a")).status in (200, 404)
        await is_gone(three)
        assert (await two("DELETE", "/servers/a")).status == 404


async def test_a_keeper_that_finds_the_tombstone_first_takes_it_away(
    store_url: str, plain: HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeat may find it before the list tells."""

    async def list_that_tells_nothing(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(
        "mcp_discovery.facade.registration.posted_entries.follow", list_that_tells_nothing
    )
    async with facades(store_url) as (one, two):
        assert (await one("POST", "/servers", posted(plain))).status == 201
        await two.until_status("a", "healthy")
        assert (await two("DELETE", "/servers/a")).status == 204
        await until_keeps(one, 0)
        async with open_store(store_url) as store, watching(store) as watcher:
            await watcher.until(lambda: watcher.instances == {}, 5, "an empty store")


async def test_facades_beside_agents_of_their_own(namespace: str, plain: HealthServer) -> None:
    """An agent keeps the services that were registered through it: each cleans up its own."""
    async with ConsulServer() as server, ConsulAgent(server) as agent:
        urls = [f"{each.store_url}/{namespace}" for each in (agent, server)]
        async with (
            open_store(urls[0]) as first,
            open_store(urls[1]) as second,
            served(first, settle=5.0, posted_ttl=3.0) as one,
            served(second, settle=5.0, posted_ttl=3.0) as two,
        ):
            assert (await one("POST", "/servers", posted(plain))).status == 201
            await two.until_status("a", "healthy")
            assert (await two("PUT", "/servers/a", posted(plain, tags=["x"]))).status == 200
            await until_keeps(one, 0)
            await until_services(agent, [])
            assert (await one("DELETE", "/servers/a")).status == 204
            await until_keeps(two, 0)
            await is_gone(two)
            await until_services(agent, [])
            await until_services(server, [])


async def until_services(node: ConsulServer | ConsulAgent, ids: list[str]) -> None:
    async def just_those() -> bool:
        return sorted((await node.api("GET", "/v1/agent/services")).json()) == ids

    await until(just_those, timeout=5, what=f"its agent having {ids}")


async def test_any_facade_replaces_what_another_keeps(store_url: str, plain: HealthServer) -> None:
    async with facades(store_url) as (one, two):
        assert (await one("POST", "/servers", posted(plain, tags=["old"]))).status == 201
        before = await two.until_status("a", "healthy")
        replaced = await two("PUT", "/servers/a", posted(plain, tags=["new"]))
        assert replaced.status == 200
        assert (await two("GET", "/servers?tags=new")).ids == ["a"]
        await until_keeps(one, 0)
        assert await keeps(two) == 1
        after = (await two("GET", "/servers/a")).json
        assert after["lease"]["holder"] != before["lease"]["holder"]
        assert after["registeredAt"] == before["registeredAt"]
        # A POST of the same server does so too; one of another server under its id does not.
        again = await one("POST", "/servers", posted(plain, tags=["newer"]))
        assert again.status == 201
        await until_keeps(two, 0)
        other = await two("POST", "/servers", posted(plain, url="http://127.0.0.1:9/other"))
        assert other.status == 409
        plain.status = 500
        await two.until_status("a", "degraded")
        entry = (await two("GET", "/servers/a")).json
        assert entry["tags"] == ["newer"]
        assert await keeps(one) == 1


async def test_any_facade_drains_and_probes_what_another_keeps(
    store_url: str, plain: HealthServer
) -> None:
    async with facades(store_url, probe_interval=3600.0) as (one, two):
        assert (await one("POST", "/servers", posted(plain))).status == 201
        await two.until_status("a", "healthy")
        plain.status = 500
        probed = await two("POST", "/servers/a/heartbeat")
        assert (probed.status, probed.json["status"]) == (200, "degraded")
        await one.until_status("a", "degraded")
        assert (await one("POST", "/servers/a/drain")).status == 200
        await two.until_status("a", "draining")
        await until_keeps(two, 0)
        # It stays so, whoever keeps it.
        assert (await two("POST", "/servers/a/heartbeat")).json["status"] == "draining"


async def test_two_that_replace_at_once_do_not_fight(store_url: str, plain: HealthServer) -> None:
    async with facades(store_url) as (one, two):
        assert (await one("POST", "/servers", posted(plain))).status == 201
        await two.until_status("a", "healthy")
        for turn in range(3):
            bodies = [posted(plain, tags=[f"{name}-{turn}"]) for name in ("one", "two")]
            replies = await asyncio.gather(
                one("PUT", "/servers/a", bodies[0]), two("PUT", "/servers/a", bodies[1])
            )
            assert 200 in {reply.status for reply in replies}
            assert {reply.status for reply in replies} <= {200, 409}

        async def one_keeper() -> bool:
            return await keeps(one) + await keeps(two) == 1

        await until(one_keeper, timeout=10, what="one keeper")
        tags = {tuple((await ask("GET", "/servers/a")).json["tags"]) for ask in (one, two)}
        assert len(tags) == 1


async def test_what_was_deleted_stays_so_when_a_hung_keeper_goes_on(
    store_url: str, plain: HealthServer, tmp_path: Path
) -> None:
    """It finds a tombstone, lets go, and takes the tombstone away."""
    async with facade(tmp_path, store_url) as one, facades(store_url, 1, settle=1.0) as (two,):
        reply = await two.session.post(f"{one.url}/servers", json=posted(plain))
        assert reply.status == 201
        await two.until_status("a", "healthy")
        one.process.send(signal.SIGSTOP)
        assert (await two("DELETE", "/servers/a")).status == 204
        assert (await two("GET", "/servers/a")).status == 404
        async with open_store(store_url) as store, watching(store) as watcher:
            await watcher.until(lambda: "a" in watcher.instances, 5, "the tombstone")
            assert is_tombstone(watcher.instances["a"].record)
            one.process.send(signal.SIGCONT)
            await watcher.until(lambda: watcher.instances == {}, 15, "an empty store")
        assert await one.servers() == {}


async def test_what_one_leaves_the_other_adopts(store_url: str, plain: HealthServer) -> None:
    async with open_store(store_url) as second, served(second, posted_ttl=3.0) as two:
        async with open_store(store_url) as first, served(first, posted_ttl=3.0) as one:
            assert (await one("POST", "/servers", posted(plain))).status == 201
            await two.until_status("a", "healthy")
        await two.until_status("a", "down", timeout=10)
        await two.until_status("a", "healthy", timeout=10)
        plain.status = 500
        await two.until_status("a", "degraded")
        assert (await two("DELETE", "/servers/a")).status == 204
        await is_gone(two)
        # The one that kept it may come back: a tombstone would tell it.
        async with watching(second) as watcher:
            await watcher.until(lambda: "a" in watcher.instances, 5, "the tombstone")
            assert is_tombstone(watcher.instances["a"].record)
        assert (await two("POST", "/servers", posted(plain))).status == 201
        assert (await two("GET", "/servers/a")).status == 200


async def test_a_reader_of_events_that_hops_starts_over_and_loses_nothing(store_url: str) -> None:
    async with facades(store_url) as (one, two):
        for id in ("a", "b"):
            assert (await one("POST", "/servers", leased(id))).status == 201
        await two.until_status("b", "healthy")
        async with one.events() as events:
            first = await events.next()
            last = first.id
            known = {entry["id"] for entry in first.data["servers"]}
        assert known == {"a", "b"}
        assert (await one("DELETE", "/servers/a")).status == 204
        assert (await one("POST", "/servers", leased("c"))).status == 201
        await two.until_status("c", "healthy")
        async with two.events(**{"Last-Event-ID": last}) as events:
            over = await events.next()
            assert over.name == "snapshot"
            assert "epoch" in over.data["startedOver"]
            assert [entry["id"] for entry in over.data["servers"]] == ["b", "c"]
            assert (await two("POST", "/servers", leased("d"))).status == 201
            assert (await events.next()).data["id"] == "d"


async def test_a_websocket_that_hops_starts_over_and_loses_nothing(store_url: str) -> None:
    async with facades(store_url) as (one, two):
        assert (await one("POST", "/servers", leased("a"))).status == 201
        await two.until_status("a", "healthy")
        async with stream(one) as told:
            await told.subscribe("connection-status")
            last = (await told.next())["position"]
        assert (await one("POST", "/servers", leased("b"))).status == 201
        assert (await one("POST", "/servers/a/drain")).status == 200
        await two.until_status("a", "draining")
        await two.until_status("b", "healthy")
        async with stream(two) as told:
            await told.subscribe("connection-status", resume=last)
            over = await told.next()
            assert over["type"] == "snapshot"
            assert "epoch" in over["startedOver"]
            statuses = {each["connectionId"]: each["status"] for each in over["connections"]}
            assert statuses == {"a": "idle", "b": "active"}
            assert (await one("DELETE", "/servers/b")).status == 204
            change = await told.next()
            assert (change["connectionId"], change["status"]) == ("b", "disconnected")


async def test_over_another_facade_only_the_keeper_deletes(plain: HealthServer) -> None:
    async with served() as base, facades(base.url) as (one, two):
        assert (await one("POST", "/servers", posted(plain))).status == 201
        await two.until_status("a", "healthy")
        refused = await two("DELETE", "/servers/a")
        assert (refused.status, refused.json["type"]) == (
            409,
            "urn:mcp-discovery:problem:other-holder",
        )
        # What is replaced changes hands all the same.
        assert (await two("PUT", "/servers/a", posted(plain, tags=["x"]))).status == 200
        await until_keeps(one, 0)
        assert (await two("DELETE", "/servers/a")).status == 204
        await is_gone(one)


async def test_a_lease_of_nobody_in_particular_is_deleted_anywhere(store_url: str) -> None:
    async with facades(store_url) as (one, two):
        assert (await one("POST", "/servers", leased("a"))).status == 201
        await two.until_status("a", "healthy")
        assert (await two("DELETE", "/servers/a")).status == 204
        await is_gone(one)
        assert (await one("POST", "/servers/a/heartbeat")).status == 404
        # One that says who it is, is its own to remove.
        named = leased("a", lease={"ttl": 60, "holder": "me"})
        assert (await one("POST", "/servers", named)).status == 201
        await two.until_status("a", "healthy")
        assert (await two("DELETE", "/servers/a")).status == 409
        assert (await two("DELETE", "/servers/a?holder=me")).status == 204
