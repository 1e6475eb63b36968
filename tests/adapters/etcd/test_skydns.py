"""SkyDNS records: there in the same transaction as the health that they follow, and only then."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from mcp_discovery.adapters.dns_names import AmbiguousLabels
from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.adapters.etcd import registration as registration_module
from mcp_discovery.adapters.etcd.keys import Keys, encode
from mcp_discovery.adapters.etcd.skydns import DNSRecords, DNSZone, in_parts, text_of
from mcp_discovery.adapters.store import Registration, Snapshot
from mcp_discovery.errors import RegistrationLostError, StoreUnavailableError
from mcp_discovery.health import Health, Status, healthy
from mcp_discovery.record import Record
from tests.adapters.etcd.proxy import FaultyProxy
from tests.contract.watcher import watching
from tests.records import document, record
from tests.stores import binaries
from tests.stores.etcd import EtcdServer, prefix_end, restorer
from tests.stores.process import run_tool
from tests.stores.waiting import repeat, until

#: Every record of ``tests.records.record()``, below ``/skydns/<namespace>/``.
EVERY = sorted(
    [
        *(
            f"_{label}/_mcp/catalog-1"
            for label in ("product-catalog", "products", "inventory")
        ),
        *(
            f"mcp/{path}/catalog-1/{kind}"
            for path in (
                *("product-catalog", "server/product-catalog", "server/_product-catalog"),
                *("products", "tag/products", "inventory", "tag/inventory"),
            )
            for kind in ("host", "text")
        ),
    ]
)  # fmt: skip


@pytest.fixture
def url(etcd_server: EtcdServer, namespace: str) -> str:
    """A store with a zone of its own; the last segment of its prefix is ``mcp``."""
    return f"{etcd_server.store_url}/{namespace}/mcp?skydns={namespace}"


@pytest.fixture
async def named(url: str) -> AsyncIterator[EtcdStore]:
    """The store of ``url``."""
    async with EtcdStore(url) as opened:
        yield opened


async def found(server: EtcdServer, namespace: str) -> dict[str, dict[str, Any]]:
    """The names' keys, as etcd has them."""
    prefix = f"/skydns/{namespace}/"
    span = {"key": encode(prefix), "range_end": encode(prefix_end(prefix))}
    answer = await server.call("kv/range", span)
    return {
        base64.b64decode(kv["key"]).decode().removeprefix(prefix): kv
        for kv in answer.get("kvs", [])
    }


async def names(server: EtcdServer, namespace: str) -> list[str]:
    return sorted(await found(server, namespace))


async def registered(store: EtcdStore, ttl: float = 20, **fields: Any) -> Registration:
    return await store.register(record(**fields), document("a"), ttl=ttl, reap_after=60)


async def test_they_are_written_with_the_health_and_on_its_lease(
    etcd_server: EtcdServer, named: EtcdStore, namespace: str
) -> None:
    await registered(named, endpoint={"url": "http://10.0.0.7:8001/mcp"}, weight=3)
    (live,) = (
        await etcd_server.call(
            "kv/range", {"key": encode(Keys(f"/{namespace}/mcp/").live("catalog-1"))}
        )
    )["kvs"]
    there = await found(etcd_server, namespace)
    assert sorted(there) == EVERY
    for kv in there.values():
        assert (kv["lease"], kv["mod_revision"]) == (live["lease"], live["mod_revision"])
    values = {key: orjson.loads(base64.b64decode(kv["value"])) for key, kv in there.items()}
    common = {"port": 8001, "weight": 3, "ttl": 1}
    assert values["mcp/products/catalog-1/host"] == {"host": "10.0.0.7", "targetstrip": 1} | common
    assert (
        values["_products/_mcp/catalog-1"]
        == {"host": f"catalog-1.products.mcp.{namespace}"} | common
    )
    assert values["mcp/products/catalog-1/text"] == {
        "text": "id=catalog-1 version=1.2.3 transport=streamable-http scheme=http path=/mcp",
        "ttl": 1,
    }


@pytest.mark.parametrize("status", [Status.DEGRADED, Status.DOWN, Status.DRAINING])
async def test_only_a_healthy_instance_has_them(
    etcd_server: EtcdServer, named: EtcdStore, namespace: str, status: Status
) -> None:
    registration = await registered(named)
    assert await names(etcd_server, namespace) == EVERY
    await registration.heartbeat(Health(status, "why"))
    assert await names(etcd_server, namespace) == []
    await registration.heartbeat(healthy())
    assert await names(etcd_server, namespace) == EVERY
    await registration.drain()
    assert await names(etcd_server, namespace) == []
    await registration.heartbeat(healthy())
    assert await names(etcd_server, namespace) == []


async def test_an_instance_that_starts_unwell_has_none(
    etcd_server: EtcdServer, named: EtcdStore, namespace: str
) -> None:
    registration = await named.register(
        record(), document("a"), ttl=20, reap_after=60, health=Health(Status.DOWN, "starting")
    )
    assert await names(etcd_server, namespace) == []
    await registration.heartbeat(healthy())
    assert await names(etcd_server, namespace) == EVERY


async def test_idle_heartbeats_write_nothing(
    etcd_server: EtcdServer, named: EtcdStore, namespace: str
) -> None:
    registration = await registered(named, ttl=1)
    before = (await found(etcd_server, namespace))["mcp/products/catalog-1/host"]["mod_revision"]
    # For so long that the verifying reads are among them.
    await repeat(lambda: registration.heartbeat(healthy()), every=0.2, seconds=3.5)
    there = await found(etcd_server, namespace)
    assert {kv["mod_revision"] for kv in there.values()} == {before}


async def test_an_update_keeps_them_right(
    etcd_server: EtcdServer, named: EtcdStore, namespace: str
) -> None:
    registration = await registered(named)
    await registration.update(record(tags=["stock"], name="renamed"), document("b"))
    assert await names(etcd_server, namespace) == sorted(
        [f"_{label}/_mcp/catalog-1" for label in ("renamed", "stock")]
        + [
            f"mcp/{path}/catalog-1/{kind}"
            for path in ("renamed", "server/renamed", "server/_renamed", "stock", "tag/stock")
            for kind in ("host", "text")
        ]
    )
    # Unwell, its names change without a record.
    await registration.heartbeat(Health(Status.DOWN, "connection refused"))
    await registration.update(record(tags=["other"]), document("b"))
    assert await names(etcd_server, namespace) == []
    await registration.heartbeat(healthy())
    assert "mcp/other/catalog-1/host" in await names(etcd_server, namespace)
    assert "mcp/renamed/catalog-1/host" not in await names(etcd_server, namespace)
    await registration.deregister()
    assert await names(etcd_server, namespace) == []


def alone(keys: list[str], label: str) -> list[str]:
    """The ids that have ``label`` for a name by itself."""
    return sorted({key.split("/")[2] for key in keys if key.startswith(f"mcp/{label}/")})


async def test_a_label_that_is_a_name_and_anothers_tag_is_served_for_neither(
    etcd_server: EtcdServer, named: EtcdStore, namespace: str
) -> None:
    async def beats(*all_: Registration) -> None:
        for each in all_:
            each._heartbeats._verified -= 60  # type: ignore[attr-defined]
            each._ambiguous._next = 0.0  # type: ignore[attr-defined]
            await each.heartbeat(healthy())

    tagged = await registered(named, id="thief", name="other", tags=["stock", "eu"])
    assert alone(await names(etcd_server, namespace), "stock") == ["thief"]
    stock = await registered(named, id="stock-1", name="stock", tags=["eu"])
    assert alone(await names(etcd_server, namespace), "stock") == ["thief"]  # as before it came
    await beats(tagged, stock)
    there = await names(etcd_server, namespace)
    assert alone(there, "stock") == []
    assert "_stock/_mcp/thief" not in there
    assert "mcp/server/stock/stock-1/host" in there
    assert "mcp/tag/stock/thief/host" in there
    assert alone(there, "eu") == ["stock-1", "thief"]
    # Another one with that tag has it from the beginning.
    late = await registered(named, id="late", name="third", tags=["stock"])
    assert alone(await names(etcd_server, namespace), "stock") == []
    await tagged.deregister()
    await late.update(record("late", name="third", tags=["eu"]), document("a"))
    await beats(stock)
    assert alone(await names(etcd_server, namespace), "stock") == ["stock-1"]
    await stock.deregister()


async def test_labels_below_which_others_stand_are_not_served_alone(
    etcd_server: EtcdServer, named: EtcdStore, namespace: str
) -> None:
    """CoreDNS answers for a name with all that is below it."""
    await registered(named, name="server", tags=["tag"])
    there = await names(etcd_server, namespace)
    assert {key.rpartition("/catalog-1")[0] for key in there} == {
        "mcp/server/server",
        "mcp/server/_server",
        "mcp/tag/tag",
    }


async def test_the_most_tags_fit(etcd_server: EtcdServer, named: EtcdStore, namespace: str) -> None:
    tags = [f"tag-{number}" for number in range(64)]
    registration = await registered(named, tags=tags)
    assert len(await names(etcd_server, namespace)) == 5 * 65 + 2
    await registration.heartbeat(Health(Status.DEGRADED, "slow"))
    assert await names(etcd_server, namespace) == []
    await registration.heartbeat(healthy())
    assert len(await names(etcd_server, namespace)) == 5 * 65 + 2
    # Every name is another one: twice 327 operations, and a rename among them.
    others = [f"other-{number}" for number in range(64)]
    await registration.update(record(tags=others, name="renamed"), document("a"))
    assert len(await names(etcd_server, namespace)) == 5 * 65 + 2
    await registration.deregister()
    assert await names(etcd_server, namespace) == []


async def test_they_go_with_the_lease_of_one_that_died(
    etcd_server: EtcdServer, named: EtcdStore, namespace: str
) -> None:
    await registered(named, ttl=1)

    async def gone() -> bool:
        return not await names(etcd_server, namespace)

    await until(gone, timeout=1 + 2, what="the names of a silent instance gone")


@pytest.mark.parametrize("how", ["removed", "overwritten", "detached"])
async def test_what_somebody_does_to_them_is_mended(
    etcd_server: EtcdServer, named: EtcdStore, namespace: str, how: str
) -> None:
    registration = await registered(named)
    before = await found(etcd_server, namespace)
    key = encode(f"/skydns/{namespace}/mcp/products/catalog-1/host")
    own = before["mcp/products/catalog-1/host"]
    match how:
        case "removed":
            await etcd_server.call("kv/deleterange", {"key": key})
        case "overwritten":
            await etcd_server.call("kv/put", {"key": key, "value": "e30=", "lease": own["lease"]})
        case "detached":
            await etcd_server.call("kv/put", {"key": key, "value": own["value"]})

    async def mended() -> bool:
        await registration.heartbeat(healthy())
        there = await found(etcd_server, namespace)
        return [(k, kv["value"], kv.get("lease")) for k, kv in there.items()] == [
            (k, kv["value"], kv["lease"]) for k, kv in before.items()
        ]

    await until(mended, timeout=5, what="the names as they were")


async def test_watchers_hear_nothing_of_them(
    etcd_server: EtcdServer, named: EtcdStore, namespace: str
) -> None:
    registration = await registered(named)
    async with watching(named) as watcher:
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)
        seen = len(watcher.events)
        await etcd_server.call(
            "kv/deleterange",
            {"key": encode(f"/skydns/{namespace}/mcp/products/catalog-1/host")},
        )

        async def mended() -> bool:
            await registration.heartbeat(healthy())
            return await names(etcd_server, namespace) == EVERY

        await until(mended, timeout=5, what="the names mended")
        await registration.heartbeat(Health(Status.DEGRADED, "slow"))
        await watcher.until_status("catalog-1", Status.DEGRADED, 5)
        assert len(watcher.events) == seen + 1
        assert watcher.failure is None
    assert not named.skipped


async def test_a_store_without_the_option_works_beside_one_with_it(
    etcd_server: EtcdServer, named: EtcdStore, namespace: str
) -> None:
    async with EtcdStore(f"{etcd_server.store_url}/{namespace}/mcp") as plain:
        first = await registered(named)
        await plain.register(record("plain-1"), document("a"), ttl=20, reap_after=60)
        async with watching(plain) as watcher, watching(named) as other:
            for each in (watcher, other):
                await each.until_status("plain-1", Status.HEALTHY, 5)
                await each.until_status("catalog-1", Status.HEALTHY, 5)
        assert await names(etcd_server, namespace) == EVERY
        # One without it takes an instance over: its old names go with its old lease.
        successor = await plain.register(
            record(), document("a"), ttl=20, reap_after=60, takeover=named.holder.id
        )
        assert await names(etcd_server, namespace) == []
        with pytest.raises(RegistrationLostError):
            await first.heartbeat(Health(Status.DEGRADED, "slow"))
        # And back again.
        await named.register(
            record(tags=[]), document("a"), ttl=20, reap_after=60, takeover=plain.holder.id
        )
        assert len(await names(etcd_server, namespace)) == 7
        # Who lost it takes nothing with him.
        await first.deregister()
        await successor.deregister()
        assert len(await names(etcd_server, namespace)) == 7


async def test_a_wiped_store_gets_them_again() -> None:
    async with EtcdServer() as server, EtcdStore(f"{server.store_url}?skydns=zone") as store:
        registration = await registered(store)
        await server.restart(wipe=True)
        with pytest.raises(RegistrationLostError):
            await repeat(lambda: registration.heartbeat(healthy()), every=0.2, seconds=5)
        assert await names(server, "zone") == []
        await registered(store)
        assert await names(server, "zone") == EVERY


async def test_a_store_restored_from_a_backup_has_the_names_of_now(tmp_path: Path) -> None:
    """A real snapshot, from before the tags changed and before another instance came."""
    server = EtcdServer()
    async with server, EtcdStore(f"{server.store_url}?skydns=zone") as store:
        first = await registered(store, ttl=60, tags=["before"])
        backup = str(tmp_path / "backup")
        etcdctl = binaries.tool(server.program, "etcdctl")
        await run_tool(etcdctl, "--endpoints", server.http_url, "snapshot", "save", backup)
        await first.update(record(tags=["after"]), document("a"))
        second = await store.register(
            record("catalog-2", tags=[]), document("a"), ttl=60, reap_after=60
        )
        await server.stop()
        await server.wipe()
        peer = server._peer_url
        await run_tool(
            *(
                restorer(server.program),
                "snapshot",
                "restore",
                backup,
                f"--data-dir={server.data / 'member'}",
            ),
            *(f"--name={server.name}", f"--initial-cluster={server.name}={peer}"),
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster-token={server.port('peer')}",
        )
        await server.start()
        assert any("before" in name for name in await names(server, "zone"))
        for registration in (first, second):
            with pytest.raises(RegistrationLostError):
                beat = registration.heartbeat
                await repeat(lambda beat=beat: beat(healthy()), every=0.1, seconds=5)  # type: ignore[misc]
        await registered(store, tags=["after"])
        await store.register(record("catalog-2", tags=[]), document("a"), ttl=60, reap_after=60)
        assert sorted(
            {key.split("/catalog-")[0] for key in await names(server, "zone") if key[0] == "m"}
        ) == [
            "mcp/after",
            "mcp/product-catalog",
            "mcp/server/_product-catalog",
            "mcp/server/product-catalog",
            "mcp/tag/after",
        ]


async def test_an_answer_that_is_lost_leaves_no_wrong_name(
    etcd_server: EtcdServer, namespace: str
) -> None:
    """The names are removed, nobody hears of it, and the instance is well again."""
    async with FaultyProxy(etcd_server.http_port) as proxy:
        url = f"etcd://127.0.0.1:{proxy.port}/{namespace}/mcp?skydns={namespace}"
        async with EtcdStore(url) as store:
            registration = await registered(store)
            proxy.swallow()
            with pytest.raises(StoreUnavailableError):
                await registration.heartbeat(Health(Status.DEGRADED, "slow"))
            proxy.cut()
            await registration.heartbeat(Health(Status.DEGRADED, "slower"))
            assert await names(etcd_server, namespace) == []
            await registration.heartbeat(healthy())
            assert await names(etcd_server, namespace) == EVERY


async def test_an_answer_that_is_lost_and_an_instance_that_is_well_again(
    etcd_server: EtcdServer, namespace: str
) -> None:
    """Its registrant cannot know whether the change was written, so it writes the next one too."""
    async with FaultyProxy(etcd_server.http_port) as proxy:
        url = f"etcd://127.0.0.1:{proxy.port}/{namespace}/mcp?skydns={namespace}"
        async with EtcdStore(url) as store:
            registration = await registered(store)
            proxy.swallow()
            with pytest.raises(StoreUnavailableError):
                await registration.heartbeat(Health(Status.DEGRADED, "slow"))
            assert await names(etcd_server, namespace) == []
            proxy.cut()
            await registration.heartbeat(healthy())
            assert await names(etcd_server, namespace) == EVERY
            async with aclosing(store.watch()) as events:
                first = await anext(events)
            assert isinstance(first, Snapshot)
            assert first.instances[registration.id].health.status is Status.HEALTHY


async def test_those_of_one_that_leaves_go_in_the_same_transaction(
    etcd_server: EtcdServer,
    named: EtcdStore,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Leases are given back as well as it goes: names must not wait for that."""

    async def not_now(*_: object) -> None:
        pass

    registration = await registered(named)
    monkeypatch.setattr(registration_module, "revoke", not_now)
    await registration.deregister()
    assert await names(etcd_server, namespace) == []


ZONE = DNSZone("/skydns", "example.internal", "mcp")


async def _nothing(_: Record) -> frozenset[str]:
    return frozenset()


NOTHING_FOUND = AmbiguousLabels(_nothing)


def hosts(**endpoint: Any) -> dict[str, Any]:
    records = ZONE.records(record(tags=[], endpoint=endpoint))
    return {key: orjson.loads(value) for key, value in records.items()}


def test_a_host_that_is_a_name_is_served_as_one() -> None:
    served = hosts(url="https://web.example.org/mcp")
    for key in ("mcp/product-catalog/catalog-1/host", "_product-catalog/_mcp/catalog-1"):
        assert served[ZONE.base + key] == {
            "host": "web.example.org",
            "port": 443,
            "weight": 1,
            "ttl": 1,
        }


def test_those_of_dns_aid_are_there_by_option() -> None:
    """One for each instance: TXT of ``<name>._agents``, which tells where it is and how."""
    zone = replace(ZONE, agents=True)
    key = f"{ZONE.base}mcp/_agents/product-catalog/catalog-1"
    for url, where in (
        (
            "http://10.0.0.7:8001/mcp",
            "target=catalog-1.product-catalog.server.mcp.example.internal port=8001",
        ),
        ("https://web.example.org/mcp", "target=web.example.org port=443"),
    ):
        given: Record = record(endpoint={"url": url})
        assert zone.records(given).keys() - ZONE.records(given).keys() == {key}
        text = text_of(given)
        assert orjson.loads(zone.records(given)[key]) == {
            "text": f"v=1 {where} alpn=mcp bap=mcp {text}",
            "ttl": 1,
        }
    assert zone.records(record(endpoint={"transport": "stdio", "command": "server"})) == {}
    agent = record(kind="agent", endpoint={"url": "http://10.0.0.9:9/"}, capabilities={})
    text = orjson.loads(zone.records(agent)[key])["text"]
    target = "catalog-1.product-catalog.agent.mcp.example.internal"
    assert text.startswith(f"v=1 target={target} port=9 alpn=a2a bap=a2a ")


def test_an_agent_has_names_that_lead_to_agents_alone() -> None:
    given = record(kind="agent", endpoint={"url": "http://10.0.0.7:9999"})
    found = replace(ZONE, agents=True).records(given)
    folders = {key.removeprefix(f"{ZONE.base}mcp/").rpartition("/catalog-1")[0] for key in found}
    assert folders == {"agent/product-catalog", "agent/_product-catalog", "_agents/product-catalog"}
    text = orjson.loads(found[f"{ZONE.base}mcp/_agents/product-catalog/catalog-1"])["text"]
    assert "alpn=a2a bap=a2a" in text and "product-catalog.agent.mcp" in text


def test_ipv6_and_default_ports() -> None:
    served = hosts(url="ws://[2001:db8::5]/mcp", transport="websocket")
    own = served["/skydns/internal/example/mcp/product-catalog/catalog-1/host"]
    assert (own["host"], own["port"]) == ("2001:db8::5", 80)


@pytest.mark.parametrize(
    "endpoint",
    [
        {"transport": "stdio", "command": "server"},
        {"url": "http://[fe80::1%25eth0]:8000/mcp"},
        {"url": "http://bücher.example/mcp"},
    ],
)
def test_what_has_no_place_in_dns_has_no_names(endpoint: dict[str, Any]) -> None:
    assert hosts(**endpoint) == {}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", "/"),
        ("/mcp?tenant=a&x=%20y", "/mcp?tenant=a&x=%20y"),
        ('/gr\\"ö', "/gr%5C%22%C3%B6"),
    ],
)
def test_the_text_is_plain_ascii_words(path: str, told: str) -> None:
    text = text_of(record(endpoint={"url": f"http://h:1{path}"}))
    assert text.endswith(f" scheme=http path={told}")
    assert len(text.split(" ")) == 5


def test_a_weight_of_nothing_is_the_least() -> None:
    (own, *_) = ZONE.records(record(weight=0)).values()
    assert orjson.loads(own)["weight"] == 1


def test_what_is_not_known_is_written_again() -> None:
    known, lease = DNSRecords(ZONE, "7", NOTHING_FOUND), record()
    assert len(known.to_write(lease, healthy())) == 17
    # No answer: all of it once more, or all of it away.
    assert len(known.to_write(lease, healthy())) == 17
    assert len(known.to_write(lease, Health(Status.DOWN, "x"))) == 17
    assert not known.settled
    known.written()
    assert known.settled
    assert known.to_write(lease, Health(Status.DOWN, "x")) == []
    none = DNSRecords(None, "7", NOTHING_FOUND)
    assert none.to_write(lease, healthy()) == []
    assert none.settled


@pytest.mark.parametrize(("count", "parts"), [(0, [0]), (1, [1]), (128, [128]), (200, [128, 72])])
def test_operations_are_cut_as_etcd_takes_them(count: int, parts: list[int]) -> None:
    assert [len(part) for part in in_parts(list(range(count)))] == parts


def test_the_same_label_twice_is_one_name() -> None:
    given: Record = record(tags=["product-catalog"])
    assert len(ZONE.records(given)) == 9  # alone, as the name and as the tag
