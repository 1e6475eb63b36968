"""The life of an instance, the same over every store."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from mcp_discovery.adapters.store import Registration, Store, new_holder
from mcp_discovery.errors import DuplicateInstanceError, InvalidRecordError, RegistrationLostError
from mcp_discovery.health import ANSWERS, Health, Load, Status, ToolUse, healthy, most_used
from tests.contract.conftest import SERVED
from tests.contract.environments import StoreEnvironment
from tests.contract.watcher import watching
from tests.records import document, record
from tests.stores.waiting import NotYet, repeat, until

TTL = 2.0
REAP = 4.0
LATE = 2.0  # seconds that the contract allows beyond TTL and reap_after


async def register(store: Store, id: str = "catalog-1", **fields: object) -> Registration:
    return await store.register(
        record(id, **fields), document("search_products"), ttl=TTL, reap_after=REAP
    )


async def test_registered_is_healthy_in_the_watch(
    environment: StoreEnvironment, store: Store
) -> None:
    async with watching(await environment.open()) as watcher:
        given = record(title="Catalogue", metadata={"team": "shop"}, zone="eu-1", weight=3)
        registration = await store.register(
            given, document("search_products"), ttl=TTL, reap_after=REAP
        )
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
    seen = watcher.instances["catalog-1"]
    assert registration.id == "catalog-1"
    assert seen.record.capabilities.digest == document("search_products").digest
    expected = given.model_copy(update={"capabilities": seen.record.capabilities})
    assert seen.record == expected
    assert seen.health.reason == ANSWERS
    assert (seen.lease.ttl, seen.lease.reap_after) == (TTL, REAP)
    assert watcher.history("catalog-1") == [None, Status.HEALTHY]


@pytest.mark.parametrize(
    "target",
    [
        "/mcp?sig=%2Fp%2Fq%2C1&e=&t=%c3%a9+%20%25",
        "/a%2Fb/%7Eu/../c//d/;v=1?",
        "?x[]={y}|^`\"<>\\'&z=100%",
    ],
)
async def test_urls_come_back_as_they_were_registered(
    environment: StoreEnvironment, store: Store, target: str
) -> None:
    url, health = f"HTTPS://[2001:DB8::1]:443{target}", f"http://Shop.example:80{target}"
    async with watching(await environment.open()) as watcher:
        await register(store, endpoint={"url": url}, healthUrl=health)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
    seen = watcher.instances["catalog-1"].record
    assert (seen.endpoint.url, seen.health_url) == (url, health)


async def test_registered_with_the_health_that_it_has(
    environment: StoreEnvironment, store: Store
) -> None:
    down = Health(Status.DOWN, "connection refused")
    async with watching(await environment.open()) as watcher:
        await store.register(record(), document("a"), ttl=TTL, reap_after=REAP, health=down)
        await watcher.until_status("catalog-1", Status.DOWN, 2)
    assert watcher.instances["catalog-1"].health.reason == "connection refused"
    assert watcher.history("catalog-1") == [None, Status.DOWN]


async def test_heartbeats_keep_it_write_nothing_and_wake_nobody(
    environment: StoreEnvironment, store: Store
) -> None:
    async with watching(await environment.open()) as watcher:
        registration = await register(store)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        await registration.heartbeat(healthy())
        before, events = await environment.writes(), len(watcher.events)
        await repeat(lambda: registration.heartbeat(healthy()), every=TTL / 4, seconds=2 * TTL)
        assert await environment.writes() == before
        assert watcher.events[events:] == []
        assert watcher.status("catalog-1") is Status.HEALTHY


async def test_a_change_of_health_shows_at_once_and_keeps_its_reason(
    environment: StoreEnvironment, store: Store
) -> None:
    async with watching(await environment.open()) as watcher:
        registration = await register(store)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        for status, reason in (
            (Status.DOWN, "no answer within 1 s — späť"),
            (Status.DEGRADED, "slower than 1 s"),
            (Status.HEALTHY, ANSWERS),
        ):
            await registration.heartbeat(Health(status, reason))
            await watcher.until_status("catalog-1", status, 2)
            assert watcher.instances["catalog-1"].health.reason == reason


async def test_down_reported_by_a_living_registrant_lasts(
    environment: StoreEnvironment, store: Store
) -> None:
    """It is heard of, so it is neither silent nor reaped."""
    async with watching(await environment.open()) as watcher:
        registration = await register(store)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        down = Health(Status.DOWN, "connection refused")
        await repeat(lambda: registration.heartbeat(down), every=TTL / 4, seconds=REAP + 1)
        assert watcher.instances["catalog-1"].health.reason == "connection refused"
        assert watcher.history("catalog-1") == [None, Status.HEALTHY, Status.DOWN]


async def test_silent_is_down_with_the_reason_then_gone(
    environment: StoreEnvironment, store: Store
) -> None:
    async with watching(await environment.open()) as watcher:
        registration = await register(store)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        await registration.heartbeat(healthy())
        silent = time.monotonic()
        await watcher.until_status("catalog-1", Status.DOWN, TTL + LATE)
        assert time.monotonic() - silent > TTL - 0.5
        assert watcher.instances["catalog-1"].health.reason == "no heartbeat for 2 s"
        with pytest.raises(RegistrationLostError):  # a bare heartbeat never revives
            await registration.heartbeat(healthy())
        await watcher.until_status("catalog-1", None, silent + REAP + LATE - time.monotonic())
        assert time.monotonic() - silent > REAP - 0.5


FULL = Load(
    active=3,
    capacity=20,
    rate=90.5,
    latency=0.12,
    p95=0.3,
    error_rate=0.02,
    requests=1234,
    memory=45_000_000,
    cpu=0.125,
    running=True,
    tools=(ToolUse("search_products", 1000, 0.1), ToolUse("späť", 234)),
)


async def test_load_is_seen(
    environment: StoreEnvironment, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_discovery.adapters.heartbeats.LOAD_EVERY", 0.0)
    async with watching(await environment.open()) as watcher:
        registration = await register(store)
        await registration.heartbeat(healthy(), FULL)
        await watcher.until_shows("catalog-1", lambda seen: seen.load == FULL)
        await registration.heartbeat(healthy(), FULL)
        before, events = await environment.writes(), len(watcher.events)
        for by in (1.09, 0.95, 1.0):  # a move below a tenth is not worth a write
            near = replace(FULL, rate=90 * by, latency=0.12 * by, memory=int(45e6 * by))
            await registration.heartbeat(healthy(), near)
        assert await environment.writes() == before
        await registration.heartbeat(Health(Status.DEGRADED, "slow"))
        await watcher.until_status("catalog-1", Status.DEGRADED, 2)
        assert len(watcher.events) == events + 1
        kept = watcher.instances["catalog-1"].load
        assert kept is not None and (kept.tools, kept.running) == (FULL.tools, True)
        await registration.heartbeat(Health(Status.DEGRADED, "slow"), replace(FULL, running=False))
        await watcher.until_shows(
            "catalog-1", lambda seen: seen.load is not None and seen.load.running is False
        )
        await registration.heartbeat(Health(Status.DEGRADED, "slow"))  # it still has what it wrote
        await registration.heartbeat(Health(Status.DEGRADED, "slow"))


async def test_a_load_of_any_size_costs_no_health(
    environment: StoreEnvironment, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason and the tools share the little room that a store has for what changes often."""
    monkeypatch.setattr("mcp_discovery.adapters.heartbeats.LOAD_EVERY", 0.0)
    tools = most_used(ToolUse(f"{n:02}{'x' * 30}", 2**52 + n, 123.456789) for n in range(99))
    largest = replace(FULL, requests=2**53, memory=2**53, tools=tools)
    assert len(tools) == 16
    ill = Health(Status.DEGRADED, "ž" * 500)
    async with watching(await environment.open()) as watcher:
        registration = await register(store)
        await registration.heartbeat(ill, largest)
        await watcher.until_shows("catalog-1", lambda seen: seen.load == largest)
        assert watcher.instances["catalog-1"].health.reason == ill.reason


async def test_deregistered_is_gone_at_once(environment: StoreEnvironment, store: Store) -> None:
    async with watching(await environment.open()) as watcher:
        registration = await register(store)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        await registration.deregister()
        assert await watcher.until_status("catalog-1", None, 1) < 1
        assert watcher.history("catalog-1") == [None, Status.HEALTHY, None]
        await registration.deregister()  # once more is no error
        with pytest.raises(RegistrationLostError):
            await registration.heartbeat(healthy())


async def test_drained_is_listed_as_draining_until_it_leaves(
    environment: StoreEnvironment, store: Store
) -> None:
    async with watching(await environment.open()) as watcher:
        registration = await register(store)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        await registration.drain()
        await watcher.until_status("catalog-1", Status.DRAINING, 2)
        await registration.heartbeat(healthy())
        await registration.heartbeat(Health(Status.DOWN, "stopping"))
        await registration.deregister()
        await watcher.until_status("catalog-1", None, 2)
    assert watcher.history("catalog-1") == [
        None,
        Status.HEALTHY,
        Status.DRAINING,
        None,
    ]


async def test_update_of_tags_and_digest(environment: StoreEnvironment, store: Store) -> None:
    async with watching(await environment.open()) as watcher:
        registration = await register(store)
        await registration.heartbeat(Health(Status.DEGRADED, "slow"))
        await watcher.until_status("catalog-1", Status.DEGRADED, 2)
        new = document("search_products", "get_product")
        await registration.update(record(tags=["products", "new"], version="2.0.0"), new)
        seen = await watcher.until_shows("catalog-1", lambda seen: seen.record.version == "2.0.0")
        assert seen.record.tags == ("products", "new")
        assert seen.record.capabilities.digest == new.digest
        assert seen.health.status is Status.DEGRADED  # the health is untouched
        await registration.heartbeat(healthy())
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
    assert (await (await environment.open()).document(new.digest)) == new
    assert None not in watcher.history("catalog-1")[1:]  # never gone meanwhile


async def test_an_update_revives_nobody_and_keeps_the_id(
    environment: StoreEnvironment, store: Store
) -> None:
    async with watching(await environment.open()) as watcher:
        registration = await register(store)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        with pytest.raises(InvalidRecordError, match="must stay 'catalog-1'"):
            await registration.update(record("catalog-2"), document("a"))
        await watcher.until_status("catalog-1", Status.DOWN, TTL + LATE)
        with pytest.raises(RegistrationLostError):
            await registration.update(record(version="2.0.0"), document("a"))
        await watcher.until_status("catalog-1", None, REAP + LATE)
    assert watcher.history("catalog-1") == [None, Status.HEALTHY, Status.DOWN, None]


async def test_a_living_holder_keeps_its_id(environment: StoreEnvironment, store: Store) -> None:
    async with watching(await environment.open()) as watcher:
        first = await store.register(
            record(), document("a"), ttl=TTL, reap_after=30, holder=new_holder()
        )
        other = await environment.open()

        async def second() -> Registration:
            return await other.register(
                record(description="another"),
                document("b"),
                ttl=TTL,
                reap_after=30,
                holder=new_holder(),
            )

        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        with pytest.raises(
            DuplicateInstanceError, match=r"catalog-1.*already held by a sidecar on"
        ):
            await second()
        await first.heartbeat(Health(Status.DOWN, "its server is down, but it lives"))
        with pytest.raises(DuplicateInstanceError):
            await second()
        assert watcher.instances["catalog-1"].record.description == "Products and their stock"

        async def taken_over() -> Registration:
            try:
                return await second()
            except DuplicateInstanceError as error:
                raise NotYet(str(error)) from error

        # The first says nothing from now on.
        taken = await until(taken_over, timeout=TTL + LATE, what="the id being free")
        await watcher.until_shows("catalog-1", lambda seen: seen.record.description == "another")
        with pytest.raises(RegistrationLostError):
            await first.heartbeat(healthy())
        await taken.heartbeat(healthy())
        await first.deregister()  # must not take away what is another's by now
        await taken.heartbeat(healthy())
        assert watcher.status("catalog-1") is Status.HEALTHY


@pytest.mark.parametrize("name", ["product-catalog", "renamed"])
async def test_a_draining_holder_gives_way_to_its_successor(
    environment: StoreEnvironment, store: Store, name: str
) -> None:
    other = await environment.open()
    async with watching(await environment.open()) as watcher:
        old = await store.register(
            record(), document("a"), ttl=20, reap_after=60, holder=new_holder()
        )
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        await old.drain()
        await watcher.until_status("catalog-1", Status.DRAINING, 2)
        await old.heartbeat(healthy())
        successor = new_holder()
        new = await other.register(
            record(name=name, description="successor"),
            document("b"),
            ttl=20,
            reap_after=60,
            holder=successor,
        )
        await watcher.until_shows("catalog-1", lambda seen: seen.lease.holder.id == successor.id)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        with pytest.raises(RegistrationLostError):
            for _ in range(2):  # one of the two verifies
                await old.heartbeat(healthy())
        await old.deregister()  # must not take away what is another's by now
        for _ in range(2):
            await new.heartbeat(healthy())
        with pytest.raises(DuplicateInstanceError):
            await store.register(record(), document("a"), ttl=20, reap_after=60)
        assert watcher.status("catalog-1") is Status.HEALTHY
        assert None not in watcher.history("catalog-1")[1:]  # never gone meanwhile


async def test_a_facades_idle_entry_gives_way_to_nobody(
    environment: StoreEnvironment, store: Store
) -> None:
    idle = await store.register(
        record(), document("a"), ttl=20, reap_after=60, holder=new_holder("facade")
    )
    await idle.drain()
    with pytest.raises(DuplicateInstanceError):
        await (await environment.open()).register(record(), document("a"), ttl=20, reap_after=60)


async def test_the_same_holder_replaces_its_own(
    environment: StoreEnvironment, store: Store
) -> None:
    holder = new_holder()
    async with watching(await environment.open()) as watcher:
        for description in ("first", "second"):
            registration = await store.register(
                record(description=description),
                document("a"),
                ttl=TTL,
                reap_after=REAP,
                holder=holder,
            )
        await watcher.until_shows("catalog-1", lambda seen: seen.record.description == "second")
        await registration.heartbeat(healthy())
    assert len(watcher.instances) == 1


async def test_an_id_may_move_to_another_name(environment: StoreEnvironment, store: Store) -> None:
    holder = new_holder()
    async with watching(await environment.open()) as watcher:
        for name in ("before", "after"):
            await store.register(
                record(name=name), document("a"), ttl=TTL, reap_after=REAP, holder=holder
            )
        await watcher.until(
            lambda: [i.record.name for i in watcher.instances.values()] == ["after"], 2, "one"
        )


async def test_bad_terms_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="at least 1 s"):
        await store.register(record(), document("a"), ttl=0.5, reap_after=30)
    with pytest.raises(ValueError, match="reap_after"):
        await store.register(record(), document("a"), ttl=10, reap_after=5)


@pytest.mark.over(SERVED)
async def test_registers_anew_after_the_store_was_wiped(own_environment: StoreEnvironment) -> None:
    store = await own_environment.open()
    registration = await store.register(record(), document("a"), ttl=20, reap_after=60)
    await registration.heartbeat(healthy())
    await own_environment.wipe()
    with pytest.raises(RegistrationLostError):
        await registration.heartbeat(healthy())
    again = await store.register(record(), document("a"), ttl=20, reap_after=60)
    await again.heartbeat(healthy())
    async with watching(await own_environment.open()) as watcher:
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)
    assert (await store.document(document("a").digest)) == document("a")


async def test_a_living_holder_is_taken_over_by_whoever_names_it(
    environment: StoreEnvironment, store: Store
) -> None:
    former, new, third = new_holder("facade"), new_holder("facade"), new_holder("facade")
    other = await environment.open()
    async with watching(await environment.open()) as watcher:
        first = await store.register(record(), document("a"), holder=former, ttl=20, reap_after=60)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        with pytest.raises(DuplicateInstanceError):
            await other.register(
                record(), document("a"), holder=new, takeover=third.id, ttl=20, reap_after=60
            )
        second = await other.register(
            record(description="another"),
            document("b"),
            health=Health(Status.DEGRADED, "not probed yet"),
            holder=new,
            takeover=former.id,
            ttl=20,
            reap_after=60,
        )
        await watcher.until_shows(
            "catalog-1",
            lambda seen: (
                seen.lease.holder.id == new.id
                and seen.record.description == "another"
                and seen.health.status is Status.DEGRADED
            ),
        )
        with pytest.raises(RegistrationLostError):
            await first.update(record(description="late"), document("a"))
        await first.deregister()  # must not take away what is another's by now
        await second.heartbeat(healthy())
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        await second.deregister()
        await watcher.until_status("catalog-1", None, 2)
