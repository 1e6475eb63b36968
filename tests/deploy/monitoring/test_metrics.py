"""The figures of a facade and a sidecar count what they say, and no more series than they may."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.missed import MissedInstances
from mcp_discovery.adapters.observed_store import Tally, observed
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.errors import (
    DuplicateInstanceError,
    RegistrationLostError,
    StoreDeniedError,
    StoreUnavailableError,
)
from mcp_discovery.facade.http.metrics import Metrics
from mcp_discovery.health import ANSWERS, Health, Status, silent_for, utcnow
from mcp_discovery.instance import Holder, Instance, Lease
from mcp_discovery.sidecar.metrics import SidecarFigures
from mcp_discovery.tls_files import TLSFiles
from tests.records import document, record
from tests.stores.tls import Tls

_Key = tuple[str, *tuple[tuple[str, str], ...]]

AWAY = StoreUnavailableError("embedded:", "it is away")


def instance(id: str, status: Status, *, ago: float = 0.0, reason: str = ANSWERS) -> Instance:
    """An instance that has had ``status`` since ``ago`` seconds; its server has its name."""
    since = utcnow() - timedelta(seconds=ago)
    health = Health(status, reason, since=since, last_seen=since)
    lease = Lease(ttl=10.0, reap_after=300.0, holder=Holder(id="h", by="sidecar", host="here"))
    return Instance(record(id, name=id.partition("-")[0]), health, lease)


def samples(exposition: str) -> dict[_Key, float]:
    """Name and labels → value."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def figures_of(catalog: Catalog) -> Metrics:
    """A facade's figures over ``catalog``."""
    tally = Tally("register", "heartbeat", "watch")
    return Metrics(catalog, {}, tally=tally, version="1.2.3", missed=MissedInstances(catalog))


async def test_who_is_unwell_is_told_by_name_and_in_bounds() -> None:
    catalog = Catalog(EmbeddedStore())
    metrics = figures_of(catalog)
    few = [
        instance("shop-1", Status.HEALTHY),
        instance("shop-2", Status.DOWN),
        instance("bank-1", Status.DEGRADED, reason="slower than 1 s"),
    ]
    catalog.apply(Snapshot({each.record.id: each for each in few}))
    told = samples(metrics.exposition().decode())
    unwell = {key[1:] for key in told if key[0] == "mcp_discovery_instance_unwell"}
    assert unwell == {
        (("id", "shop-2"), ("name", "shop"), ("status", "down")),
        (("id", "bank-1"), ("name", "bank"), ("status", "degraded")),
    }
    lost = {key: told[key] for key in told if key[0] == "mcp_discovery_server_unavailable"}
    assert lost == {("mcp_discovery_server_unavailable", ("name", "bank")): 1}
    many = [instance(f"s{n}-1", Status.DEGRADED, reason="slow") for n in range(300)]
    many.append(instance("worst-1", Status.DOWN))
    catalog.apply(Snapshot({each.record.id: each for each in many}))
    told = samples(metrics.exposition().decode())
    for name in ("mcp_discovery_instance_unwell", "mcp_discovery_server_unavailable"):
        assert sum(key[0] == name for key in told) == 200, name
    down = ("id", "worst-1"), ("name", "worst"), ("status", "down")
    assert told["mcp_discovery_instance_unwell", *down] == 1


async def test_who_left_without_a_goodbye_is_told_of_and_who_leaves_in_good_order_is_no_loss() -> (
    None
):
    catalog = Catalog(EmbeddedStore())
    metrics = figures_of(catalog)
    leaving = Status.DRAINING
    silent = instance("bank-1", Status.DOWN, ago=300, reason=silent_for(10))
    known = [
        *(instance("shop-1", leaving), instance("shop-2", leaving), silent),
        *(instance("till-1", leaving), instance("till-2", Status.DOWN, reason="refused")),
    ]
    catalog.apply(Snapshot({each.record.id: each for each in known}))
    for _ in range(2):  # bank-1 is down, and then gone
        told = samples(metrics.exposition().decode())
        lost = {
            dict(key[1:])["name"]: value
            for key, value in told.items()
            if key[0] == "mcp_discovery_server_unavailable"
        }
        assert lost == {"bank": 1, "till": 1}
        catalog.apply(Change("bank-1", None))
    gone = ("id", "bank-1"), ("name", "bank"), ("status", "gone")
    assert told["mcp_discovery_instance_unwell", *gone] == 1


async def test_nothing_is_said_of_a_list_that_was_never_read() -> None:
    catalog = Catalog(EmbeddedStore())
    metrics = figures_of(catalog)
    catalog._gone_stale(AWAY)
    of_list = ("instances", "stale_seconds", "servers", "skipped", "revision", "instance_unwell")
    names = {f"mcp_discovery_{name}" for name in of_list}
    told = samples(metrics.exposition().decode())
    assert told[("mcp_discovery_ready",)] == 0
    assert not names & {key[0] for key in told}
    catalog.apply(Snapshot({}))
    told = samples(metrics.exposition().decode())
    assert told[("mcp_discovery_ready",)] == 1
    assert names - {"mcp_discovery_instance_unwell"} <= {key[0] for key in told}


async def test_held_instances_are_told_while_they_are_held() -> None:
    catalog = Catalog(EmbeddedStore())
    metrics = figures_of(catalog)
    catalog.apply(Snapshot({"shop-1": instance("shop-1", Status.HEALTHY)}))
    catalog.apply(Snapshot({}))
    told = samples(metrics.exposition().decode())
    assert told[("mcp_discovery_held_instances",)] == told[("mcp_discovery_held_total",)] == 1
    catalog.apply(Snapshot({"shop-1": instance("shop-1", Status.HEALTHY)}))
    told = samples(metrics.exposition().decode())
    assert told[("mcp_discovery_held_instances",)] == 0
    assert told[("mcp_discovery_held_total",)] == 1


async def test_lag_is_of_statuses_that_a_registrant_reported() -> None:
    catalog = Catalog(EmbeddedStore())
    metrics = figures_of(catalog)

    def counted() -> tuple[float, float]:
        told = samples(metrics.exposition().decode())
        name = "mcp_discovery_change_lag_seconds"
        return told[(f"{name}_count",)], told[(f"{name}_sum",)]

    long_ago = instance("shop-1", Status.HEALTHY, ago=3600)
    catalog.apply(Snapshot({"shop-1": long_ago}))
    assert counted() == (0, 0)  # it is new here: whenever it became healthy
    slow = instance("shop-1", Status.DEGRADED, ago=3, reason="slower than 1 s")
    catalog.apply(Change("shop-1", slow))
    number, seconds = counted()
    assert number == 1
    assert seconds == pytest.approx(3, abs=0.5)
    assert counted() == (number, seconds)  # asked again, it is not counted again
    silent = instance("shop-1", Status.DOWN, ago=7, reason=silent_for(10))
    catalog.apply(Change("shop-1", silent))
    catalog.apply(Change("shop-1", long_ago))  # heard of again, healthy since before
    assert counted() == (number, seconds)
    catalog.apply(Snapshot({}))  # held, which is this facade's own doing
    catalog.apply(Snapshot({"shop-1": long_ago}))
    assert counted() == (number, seconds)
    ahead = instance("shop-1", Status.DEGRADED, ago=-60, reason="slow")
    catalog.apply(Change("shop-1", ahead))
    assert counted() == (2, seconds)  # its clock is ahead: no lag, not a negative one
    catalog._gone_stale(AWAY)
    catalog.apply(Snapshot({"shop-1": instance("shop-1", Status.HEALTHY, ago=300)}))
    assert counted() == (2, seconds)  # it changed while the store was away


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (RegistrationLostError("a", "gone"), "lost"),
        (StoreDeniedError("etcd://x", "permission denied"), "denied"),
        (StoreUnavailableError("etcd://x", "refused"), "unavailable"),
        (DuplicateInstanceError("a", holder="a sidecar"), "refused"),
    ],
)
def test_each_way_that_a_call_ends_has_its_name(error: Exception | None, outcome: str) -> None:
    tally = Tally("heartbeat")
    assert set(tally.counts.values()) == {0}
    try:
        with tally("heartbeat"):
            if error is not None:
                raise error
    except type(error) as raised:  # type: ignore[misc]
        assert raised is error
    assert +tally.counts == {("heartbeat", outcome): 1}


async def test_calls_are_counted_at_a_real_store() -> None:
    tally = Tally()
    async with EmbeddedStore() as inner:
        store = observed(inner, tally)
        registration = await store.register(record(), document("find"), ttl=5, reap_after=10)
        await registration.heartbeat(Health(Status.HEALTHY, ANSWERS))
        await registration.deregister()
        with pytest.raises(RegistrationLostError):
            await registration.heartbeat(Health(Status.HEALTHY, ANSWERS))
    assert {each: number for each, (_, number) in tally.durations.items()} == {
        "register": 1,
        "heartbeat": 2,
        "deregister": 1,
    }
    assert all(0 < seconds < 10 for seconds, _ in tally.durations.values())
    assert tally.counts == {
        ("register", "ok"): 1,
        ("heartbeat", "ok"): 1,
        ("deregister", "ok"): 1,
        ("heartbeat", "lost"): 1,
    }


async def test_both_tell_when_certificates_expire(tmp_path: Path) -> None:
    tls = Tls(tmp_path)
    odd = tmp_path / 'a "b" \\c\nd.pem'
    odd.write_bytes(tls.ca_file.read_bytes())
    files = TLSFiles(str(odd), whom="server")
    (known,) = files.certificates()
    facade = figures_of(Catalog(EmbeddedStore())).exposition().decode()
    for role, told in (("facade", facade), ("sidecar", SidecarFigures().exposition(None))):
        found = samples(told)
        labels = ("file", str(odd)), ("purpose", "server-ca"), ("role", role)
        assert found["mcp_discovery_certificate_expiry_seconds", *labels] == known.expires
        life = known.expires - known.starts
        assert found["mcp_discovery_certificate_lifetime_seconds", *labels] == life


def test_a_sidecar_tells_what_it_counted() -> None:
    why: str | None = "waiting for the MCP server"
    figures = SidecarFigures()
    told = samples(figures.exposition(why))
    assert told[("mcp_discovery_sidecar_registered",)] == 0
    assert ("mcp_discovery_sidecar_last_heartbeat_timestamp_seconds",) not in told
    why = None
    figures.instance = "shop", "shop-1"
    figures.health = Health(Status.DEGRADED, "slow")
    for seconds in (0.003, 0.005, 0.2, 60.0):
        figures.answered(seconds)
    figures.failed()
    with figures.store_call("heartbeat"):
        pass
    with pytest.raises(StoreUnavailableError), figures.store_call("heartbeat"):
        raise StoreUnavailableError("etcd://x", "refused")
    told = samples(figures.exposition(why))
    prefix = "mcp_discovery_sidecar"
    assert told[(f"{prefix}_registered",)] == 1
    assert told[f"{prefix}_instance_info", ("id", "shop-1"), ("name", "shop")] == 1
    statuses = {
        dict(labels)["status"]: told[name, *labels]
        for name, *labels in told
        if name == f"{prefix}_server_status"
    }
    assert statuses == {"healthy": 0, "degraded": 1, "draining": 0, "down": 0, "quarantined": 0}
    probes = f"{prefix}_probe_duration_seconds"
    buckets = {
        dict(labels)["le"]: told[name, *labels]
        for name, *labels in told
        if name == f"{probes}_bucket"
    }
    assert (buckets["0.005"], buckets["0.1"], buckets["0.25"]) == (2, 2, 3)
    assert (buckets["10.0"], buckets["+Inf"], told[(f"{probes}_count",)]) == (3, 4, 4)
    assert told[(f"{probes}_sum",)] == pytest.approx(60.208)
    assert told[(f"{prefix}_probes_failed_total",)] == 1
    calls = f"{prefix}_store_operations_total"
    assert told[calls, ("operation", "heartbeat"), ("outcome", "ok")] == 1
    assert told[calls, ("operation", "heartbeat"), ("outcome", "unavailable")] == 1
    assert told[calls, ("operation", "register"), ("outcome", "denied")] == 0
    at = told[(f"{prefix}_last_heartbeat_timestamp_seconds",)]
    assert at == pytest.approx(time.time(), abs=5)
    assert 0 <= told[(f"{prefix}_last_heartbeat_duration_seconds",)] < 5
    assert told[(f"{prefix}_time_seconds",)] == pytest.approx(time.time(), abs=5)
