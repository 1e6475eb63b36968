"""Who may register an id, and what registering leaves in Consul."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.consul.api import ConsulAgent as ConsulAgentApi
from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.documents import PART_BYTES, is_whole
from mcp_discovery.adapters.consul.registration import ConsulRegistration
from mcp_discovery.adapters.store import new_holder
from mcp_discovery.errors import (
    DocumentNotFoundError,
    DuplicateInstanceError,
    InvalidStoreURLError,
    RegistrationLostError,
    StoreUnavailableError,
)
from mcp_discovery.health import Status, healthy
from tests.contract.watcher import watching
from tests.records import document, record
from tests.stores import ConsulAgent, ConsulServer, until

DOC = document("search_products")


async def test_a_foreign_service_is_not_overwritten(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    for name in ("web", namespace):
        id = f"web-{namespace}"
        web = {"ID": id, "Name": name, "Port": 80}
        await consul_server.api("PUT", "/v1/agent/service/register", body=web)
        with pytest.raises(
            DuplicateInstanceError, match=f"Consul service '{name}' on the local agent"
        ):
            await store.register(record(id), DOC, ttl=5, reap_after=60)
        answer = await consul_server.api("GET", f"/v1/agent/service/{id}")
        assert (answer.json()["Service"], answer.json()["Port"]) == (name, 80)
        await consul_server.api("PUT", f"/v1/agent/service/deregister/{id}")


async def test_what_lies_in_consul(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    long = "http://10.0.0.5/mcp?" + "x" * 600
    given = record(
        "here-1",
        weight=0,
        tags=["products", "product-catalog"],
        endpoint={"url": "https://mcp.example:8443/a/mcp"},
    )
    await store.register(given, DOC, ttl=5, reap_after=30)
    await store.register(record("long-1", endpoint={"url": long}), DOC, ttl=5, reap_after=90)
    stdio = {"transport": "stdio", "command": "mcp-server"}
    await store.register(record("stdio-1", endpoint=stdio), DOC, ttl=5, reap_after=90)

    async def service(id: str) -> dict[str, object]:
        answer = await consul_server.api("GET", f"/v1/agent/service/{id}")
        found: dict[str, object] = answer.json()
        return found

    here = await service("here-1")
    assert here["Service"] == namespace
    assert here["Tags"] == [
        *(
            "product-catalog",
            "product-catalog.server",
            "_product-catalog.server",
        ),  # its name first, each once
        *("products", "products.tag", "product-catalog.tag"),
    ]
    assert (here["Address"], here["Port"]) == ("mcp.example", 8443)
    assert here["Weights"] == {"Passing": 1, "Warning": 1}
    assert here["Meta"] == {
        "url": "https://mcp.example:8443/a/mcp",
        "path": "/a/mcp",
        "transport": "streamable-http",
        "version": "1.2.3",
        "digest": DOC.digest,
    }
    assert "url" not in (await service("long-1"))["Meta"]  # type: ignore[operator]
    assert (await service("long-1"))["Port"] == 80
    assert (await service("stdio-1"))["Port"] == 0


async def test_of_two_at_once_one_wins(consul_server: ConsulServer, namespace: str) -> None:
    url = f"{consul_server.store_url}/{namespace}"
    async with ConsulStore(url) as one, ConsulStore(url) as two:
        for attempt in range(5):
            results = await asyncio.gather(
                *(
                    party.register(record(f"race-{attempt}"), DOC, ttl=10, reap_after=60)
                    for party in (one, two)
                ),
                return_exceptions=True,
            )
            held = [result for result in results if isinstance(result, ConsulRegistration)]
            assert len(held) == 1, results
            assert any(isinstance(result, DuplicateInstanceError) for result in results), results
            await held[0].heartbeat(healthy())
            await held[0].require_held()


async def test_one_whose_service_was_never_renewed_yet_is_not_replaced(
    consul_server: ConsulServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its check is critical until then, as that of one whose TTL has lapsed."""
    url = f"{consul_server.store_url}/{namespace}"
    begin, registered = ConsulRegistration.begin, asyncio.Event()

    async def late(registration: ConsulRegistration) -> None:
        registered.set()
        await asyncio.sleep(0.3)
        await begin(registration)

    monkeypatch.setattr(ConsulRegistration, "begin", late)
    monkeypatch.setattr("mcp_discovery.adapters.consul.ownership.IN_PROGRESS", 10.0)
    async with ConsulStore(url) as one, ConsulStore(url) as two, asyncio.TaskGroup() as group:
        first = group.create_task(one.register(record("race-1"), DOC, ttl=10, reap_after=60))
        await registered.wait()
        with pytest.raises(DuplicateInstanceError):
            await two.register(record("race-1"), DOC, ttl=10, reap_after=60)
        await (await first).require_held()


async def test_an_id_is_one_over_all_nodes_and_passes_on_when_its_node_dies(
    namespace: str,
) -> None:
    async with ConsulServer() as server:
        one, two = ConsulAgent(server, "node-one"), ConsulAgent(server, "node-two")
        async with (
            one,
            two,
            ConsulStore(f"{one.store_url}/{namespace}") as there,
            ConsulStore(f"{two.store_url}/{namespace}") as here,
            watching(here) as watcher,
        ):
            before = record(name="before")
            await there.register(before, DOC, ttl=60, reap_after=120)
            await watcher.until_status("catalog-1", Status.HEALTHY, 5)
            after = record(name="after")
            with pytest.raises(DuplicateInstanceError, match="held by a sidecar on"):
                await here.register(after, DOC, ttl=60, reap_after=120)

            await one.kill()
            await watcher.until_status("catalog-1", Status.DOWN, 20)
            assert watcher.instances["catalog-1"].health.reason == "node node-one is unreachable"

            registration = await here.register(after, DOC, ttl=60, reap_after=120)
            await watcher.until_status("catalog-1", Status.HEALTHY, 5)
            assert watcher.instances["catalog-1"].record.name == "after"
            await registration.heartbeat(healthy())
            # Nothing of the earlier life is left: neither the service nor the record.
            left = await server.api("GET", f"/v1/health/service/{namespace}?consistent")
            assert [entry["Node"]["Node"] for entry in left.json()] == ["node-two"]
            keys = await server.api("GET", f"/v1/kv/{namespace}/servers/?keys&consistent")
            assert keys.json() == [f"{namespace}/servers/after/catalog-1"]


async def test_a_record_without_a_service_gives_way(
    consul_server: ConsulServer, store: ConsulStore
) -> None:
    await store.register(record(), DOC, ttl=60, reap_after=60, holder=new_holder())
    await consul_server.api("PUT", "/v1/agent/service/deregister/catalog-1")
    await store.register(record(), DOC, ttl=60, reap_after=60, holder=new_holder())


async def test_an_update_may_rename_the_server(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    async with watching(store) as watcher:
        registration = await store.register(record(name="before"), DOC, ttl=20, reap_after=60)
        await registration.update(record(name="after"), document("other"))
        await watcher.until_shows("catalog-1", lambda seen: seen.record.name == "after")
        assert watcher.history("catalog-1") == [None, Status.HEALTHY]
        await registration.heartbeat(healthy())
        keys = await consul_server.api("GET", f"/v1/kv/{namespace}/servers/?keys&consistent")
        assert keys.json() == [f"{namespace}/servers/after/catalog-1"]
        await consul_server.api("DELETE", f"/v1/kv/{namespace}/servers/?recurse")
        with pytest.raises(RegistrationLostError):
            await registration.update(record(name="after"), document("other"))


async def test_a_document_is_whole_or_not_there_and_is_mended(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    large = document("a", "b", "c", filler=1_000_000)
    await store.register(record(), large, ttl=20, reap_after=60)
    prefix = f"/v1/kv/{namespace}/documents/{large.digest}/"

    async def parts() -> dict[str, bytes]:
        answer = await consul_server.api("GET", f"{prefix}?recurse&consistent")
        return {item["Key"]: base64.b64decode(item["Value"]) for item in answer.json()}

    written = await parts()
    assert len(written) > 1
    assert is_whole(key.rpartition("/")[2] for key in written) == len(written)
    assert max(map(len, written.values())) <= PART_BYTES

    missing, damaged = sorted(written)[:2]
    await consul_server.api("DELETE", f"/v1/kv/{missing}")
    with pytest.raises(DocumentNotFoundError):
        await store.document(large.digest)
    await store.register(record(), large, ttl=20, reap_after=60)
    assert await store.document(large.digest) == large

    await consul_server.api("PUT", f"/v1/kv/{damaged}", data=b"not gzip")
    with pytest.raises(DocumentNotFoundError):
        await store.document(large.digest)
    await store.register(record("other-1"), large, ttl=20, reap_after=60)
    assert await store.document(large.digest) == large
    assert await parts() == written


async def test_a_reason_that_the_agent_could_not_pass_on_is_passed_on_later(
    store: ConsulStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent passes a check that differs in its output alone on after minutes only."""
    registration = await store.register(record(), DOC, ttl=20, reap_after=60)
    degraded = healthy().then(Status.DEGRADED, "slower than 1 s")
    await registration.heartbeat(degraded)
    register = ConsulAgentApi.register
    failed: list[str] = []

    async def failing_once(agent: ConsulAgentApi, definition: dict[str, Any]) -> None:
        if not failed:
            failed.append(definition["ID"])
            raise StoreUnavailableError(store.url, "the answer was lost")
        await register(agent, definition)

    monkeypatch.setattr(ConsulAgentApi, "register", failing_once)
    other = degraded.then(Status.DEGRADED, "the health endpoint answered HTTP 503")
    with pytest.raises(StoreUnavailableError):
        await registration.heartbeat(other)
    async with watching(store) as watcher:
        await registration.heartbeat(other)
        await watcher.until(
            lambda: watcher.instances[registration.id].health.reason == other.reason,
            5,
            "the other reason",
        )
    assert failed == [registration.id]


async def test_what_the_servers_lack_twice_is_registered_with_the_agent_again(
    store: ConsulStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent has everything, but lost the moment to tell its servers."""
    registration = await store.register(record(), DOC, ttl=1, reap_after=60)
    assert isinstance(registration, ConsulRegistration)
    register = ConsulAgentApi.register
    calls: list[str] = []

    async def counted(agent: ConsulAgentApi, definition: dict[str, Any]) -> None:
        calls.append(definition["ID"])
        await register(agent, definition)

    async def lacking(*_: object) -> None:
        return None

    monkeypatch.setattr(ConsulAgentApi, "register", counted)
    await registration._verify()
    assert calls == []
    with monkeypatch.context() as patched:
        patched.setattr(ConsulApi, "parts", lacking)
        await registration._verify()
        assert calls == []
        await registration._verify()
        assert calls == [registration.id]
    await registration._verify()
    assert calls == [registration.id]


async def test_a_document_swept_meanwhile_is_put_back(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    registration = await store.register(record(), DOC, ttl=1, reap_after=60)
    await consul_server.api("DELETE", f"/v1/kv/{namespace}/documents/?recurse")

    async def back() -> bool:
        await registration.heartbeat(healthy())
        try:
            return await store.document(DOC.digest) == DOC
        except DocumentNotFoundError:
            return False

    await until(back, timeout=5, what="the document back in the store")


async def test_each_server_a_service_of_its_own(
    consul_server: ConsulServer, namespace: str
) -> None:
    url = f"{consul_server.store_url}/{namespace}?mode=service-per-server"
    async with ConsulStore(url) as store, ConsulStore(url) as reader, watching(reader) as watcher:
        one = await store.register(record("one-1", name="one"), DOC, ttl=2, reap_after=60)
        two = await store.register(record("two-1", name="two"), DOC, ttl=20, reap_after=60)
        await watcher.until_status("one-1", Status.HEALTHY, 5)
        await watcher.until_status("two-1", Status.HEALTHY, 5)
        answer = await consul_server.api("GET", f"/v1/catalog/service/{namespace}-one")
        assert [entry["ServiceID"] for entry in answer.json()] == ["one-1"]
        await two.update(record("two-1", name="three"), DOC)
        await watcher.until_shows("two-1", lambda seen: seen.record.name == "three")
        await two.heartbeat(healthy())
        assert watcher.history("two-1") == [None, Status.HEALTHY]
        services = json.loads((await consul_server.api("GET", "/v1/catalog/services")).body)
        assert {f"{namespace}-three", f"{namespace}-two"} & set(services) == {f"{namespace}-three"}
        with pytest.raises(DuplicateInstanceError):
            await reader.register(record("two-1", name="four"), DOC, ttl=20, reap_after=60)
        await two.drain()
        await watcher.until_status("two-1", Status.DRAINING, 5)
        four = await reader.register(record("two-1", name="four"), DOC, ttl=20, reap_after=60)
        await watcher.until_shows("two-1", lambda seen: seen.record.name == "four")
        services = json.loads((await consul_server.api("GET", "/v1/catalog/services")).body)
        assert {f"{namespace}-three", f"{namespace}-four"} & set(services) == {f"{namespace}-four"}
        await watcher.until_status("one-1", Status.DOWN, 5)
        assert watcher.instances["one-1"].health.reason == "no heartbeat for 2 s"
        await one.deregister()
        await two.deregister()
        assert watcher.status("two-1") is Status.HEALTHY  # another's by now
        await four.deregister()
        await watcher.until_status("one-1", None, 5)
        await watcher.until_status("two-1", None, 5)


async def test_a_datacenter_other_than_the_agents_is_refused(
    consul_server: ConsulServer, namespace: str
) -> None:
    url = f"{consul_server.store_url}/{namespace}"
    async with ConsulStore(f"{url}?dc=dc1") as store, watching(store) as watcher:
        await store.register(record(), DOC, ttl=20, reap_after=60)
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)
    async with ConsulStore(f"{url}?dc=eu-2") as store:
        with pytest.raises(InvalidStoreURLError, match="its agent is of datacenter 'dc1'"):
            await store.register(record(), DOC, ttl=20, reap_after=60)


async def test_a_leftover_of_a_restored_snapshot_holds_no_id(tmp_path: Path) -> None:
    """The catalog has a service of this agent's node that passes; the agent has none."""
    async with (
        ConsulServer() as server,
        ConsulAgent(server) as agent,
        ConsulStore(agent.store_url) as store,
    ):
        one = await store.register(record(), DOC, ttl=60, reap_after=120)
        await server.save_snapshot(tmp_path / "snapshot")
        await one.deregister()
        await server.restore_snapshot(tmp_path / "snapshot")
        again = await store.register(
            record(), DOC, ttl=60, reap_after=120, holder=new_holder("sidecar")
        )
        await again.heartbeat(healthy())


async def _until_lost(registration: ConsulRegistration) -> str:
    """Sends heartbeats until one says that the registration is lost; returns why."""

    async def lost() -> str | None:
        try:
            await registration.heartbeat(healthy())
        except RegistrationLostError as error:
            return error.why
        return None

    why = await until(lost, timeout=6, what="a heartbeat finding out")
    assert why is not None
    return why


async def test_another_service_in_its_place_is_found_out_and_registered_anew(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    """Through the agent, with its checks left as they are: DNS leads elsewhere then."""
    registration = await store.register(record(), DOC, ttl=5, reap_after=60)
    changes: list[dict[str, Any]] = [{"Address": "10.6.6.6"}, {"Port": 6}, {"Tags": ["evil"]}]
    for change in changes:
        mine = await consul_server.api("GET", "/v1/agent/service/catalog-1")
        kept = ("ID", "Address", "Port", "Tags", "Meta", "Weights")
        body = {name: mine.json()[name] for name in kept} | {"Name": namespace} | change
        await consul_server.api("PUT", "/v1/agent/service/register", body=body)
        why = await _until_lost(registration)
        assert why.startswith("another program has registered its service")
        registration = await store.register(record(), DOC, ttl=5, reap_after=60)
        again = await consul_server.api("GET", "/v1/agent/service/catalog-1")
        assert {name: again.json()[name] for name in kept} == {
            name: mine.json()[name] for name in kept
        }
    await registration.heartbeat(healthy())


async def test_another_record_in_its_place_is_found_out_and_written_anew(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    registration = await store.register(record(), DOC, ttl=5, reap_after=60)
    key = f"/v1/kv/{namespace}/servers/{record().name}/catalog-1"
    written = await consul_server.api("GET", f"{key}?raw&consistent")
    evil = written.json() | {
        "endpoint": {"transport": "streamable-http", "url": "http://10.6.6.6/"}
    }
    async with watching(store) as watcher:
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)
        await consul_server.api("PUT", key, body=evil)
        why = await _until_lost(registration)
        assert why == "its record in Consul's KV is another than was written last"
        registration = await store.register(record(), DOC, ttl=5, reap_after=60)
        url = record().endpoint.url
        await watcher.until_shows("catalog-1", lambda seen: seen.record.endpoint.url == url)
        await consul_server.api("DELETE", key)
        assert await _until_lost(registration) == "its record is gone from Consul's KV"
        registration = await store.register(record(), DOC, ttl=5, reap_after=60)
    with pytest.raises(DuplicateInstanceError):
        await store.register(record(), DOC, ttl=5, reap_after=60, holder=new_holder())
    await registration.heartbeat(healthy())


async def test_comparing_writes_nothing_and_wakes_nobody(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    registration = await store.register(record(), DOC, ttl=2, reap_after=60)

    async def indexes() -> list[str]:
        paths = f"/v1/health/service/{namespace}", f"/v1/kv/{namespace}/servers/?recurse"
        answers = [await consul_server.api("GET", path) for path in paths]
        return [answer.headers["X-Consul-Index"] for answer in answers]

    async def settled() -> bool:
        return await indexes() == await indexes()

    for _ in range(3):
        await registration.heartbeat(healthy())
    await until(settled, timeout=5, what="indexes that stand still")
    before = await indexes()
    for _ in range(12):  # half of them verify
        await registration.heartbeat(healthy())
    assert await indexes() == before
