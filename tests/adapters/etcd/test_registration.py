"""What a registration writes into etcd, and what it notices there."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from typing import Any

import pytest

from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.adapters.etcd.keys import Keys, encode
from mcp_discovery.adapters.store import StoreOptions, new_holder
from mcp_discovery.errors import (
    DocumentNotFoundError,
    DuplicateInstanceError,
    RegistrationLostError,
    StoreFault,
    StoreUnavailableError,
)
from mcp_discovery.health import Health, Status, healthy
from tests.adapters.etcd.conftest import registered
from tests.contract.watcher import watching
from tests.records import document, record
from tests.stores.etcd import EtcdServer, prefix_end
from tests.stores.server import RequestRefused
from tests.stores.tls import Tls
from tests.stores.waiting import repeat, until


async def revision(server: EtcdServer) -> int:
    answer = await server.call("kv/range", {"key": encode("/")})
    return int(answer["header"]["revision"])


async def lease_of(server: EtcdServer, key: str) -> str:
    answer = await server.call("kv/range", {"key": encode(key)})
    return str(answer["kvs"][0]["lease"])


async def under(server: EtcdServer, keys: Keys) -> list[str]:
    span = {"key": encode(keys.prefix), "range_end": encode(prefix_end(keys.prefix))}
    answer = await server.call("kv/range", span | {"keys_only": True})
    found = (base64.b64decode(kv["key"]).decode() for kv in answer.get("kvs", []))
    return [key.removeprefix(keys.prefix) for key in found]


async def leases(server: EtcdServer) -> set[str]:
    return {lease["ID"] for lease in (await server.call("lease/leases", {})).get("leases", [])}


async def test_the_keys_and_their_leases(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    registration = await registered(store, ttl=20, reap_after=60)
    digest = document("a").digest
    assert await under(etcd_server, keys) == [
        f"documents/{digest}",
        "ids/catalog-1",
        "live/catalog-1",
        "servers/product-catalog/catalog-1",
    ]
    for key, ttl in (
        (keys.live("catalog-1"), "20"),
        (keys.record("product-catalog", "catalog-1"), "60"),
        (keys.name_of("catalog-1"), "60"),
    ):
        lease = {"ID": await lease_of(etcd_server, key)}
        assert (await etcd_server.call("lease/timetolive", lease))["grantedTTL"] == ttl
    await registration.deregister()
    assert await under(etcd_server, keys) == [f"documents/{digest}"]


async def test_one_transaction_writes_both_keys(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    await registered(store)
    revisions = []
    for key in (keys.live("catalog-1"), keys.record("product-catalog", "catalog-1")):
        answer = await etcd_server.call("kv/range", {"key": encode(key)})
        revisions.append(answer["kvs"][0]["mod_revision"])
    assert revisions[0] == revisions[1]


async def test_idle_heartbeats_move_no_revision() -> None:
    # A server of its own: what other tests leave on the shared one expires at any time.
    async with EtcdServer() as server, EtcdStore(server.store_url) as store:
        registration = await registered(store, ttl=1, reap_after=2)
        before = await revision(server)
        # Twice reap_after: both leases are kept alive, nothing else.
        await repeat(lambda: registration.heartbeat(healthy()), every=0.2, seconds=4)
        assert await revision(server) == before


async def test_a_heartbeat_with_news_keeps_the_lease(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    registration = await registered(store)
    lease = await lease_of(etcd_server, keys.live("catalog-1"))
    await registration.heartbeat(Health(Status.DEGRADED, "slow"))
    await registration.update(record(tags=["other"]), document("b"))
    await registration.drain()
    assert await lease_of(etcd_server, keys.live("catalog-1")) == lease


@pytest.mark.parametrize("which", ["live", "record"])
async def test_a_lease_revoked_by_hand_is_a_lost_registration(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys, which: str
) -> None:
    registration = await registered(store)
    key = keys.live("catalog-1")
    if which == "record":
        key = keys.record("product-catalog", "catalog-1")
    lease = await lease_of(etcd_server, key)
    await etcd_server.call("lease/revoke", {"ID": lease})
    with pytest.raises(RegistrationLostError, match="lease"):
        await registration.heartbeat(healthy())
    again = await registered(store)
    await again.heartbeat(healthy())


async def test_a_key_removed_by_hand_is_noticed_within_ttl(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    registration = await registered(store, ttl=1, reap_after=30)
    await etcd_server.call("kv/deleterange", {"key": encode(keys.live("catalog-1"))})

    async def lost() -> bool:
        try:
            await registration.heartbeat(healthy())
        except RegistrationLostError as error:
            return "removed" in error.why
        return False

    await until(lost, timeout=2, what="RegistrationLost")


async def test_news_are_not_written_over_anothers_keys(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    registration = await registered(store)
    await etcd_server.put(keys.live("catalog-1"), "{}")
    with pytest.raises(RegistrationLostError, match="took it over"):
        await registration.heartbeat(Health(Status.DEGRADED, "slow"))
    await registration.deregister()
    assert await etcd_server.get(keys.live("catalog-1")) is None


async def test_deregistering_leaves_a_successor_alone(
    etcd_server: EtcdServer, namespace: str, store: EtcdStore
) -> None:
    old = await registered(store, ttl=1, reap_after=60)
    async with EtcdStore(f"{etcd_server.store_url}/{namespace}") as other:

        async def taken_over() -> Any:
            try:
                return await registered(other)
            except DuplicateInstanceError as error:
                assert "sidecar on" in error.holder
                assert error.url == "http://127.0.0.1:8001/mcp?of=catalog-1"
                return None

        new = await until(taken_over, timeout=5, what="the takeover")
        with pytest.raises(RegistrationLostError):
            await old.heartbeat(healthy())
        await old.deregister()
        await new.heartbeat(Health(Status.DEGRADED, "slow"))


async def test_of_racing_registrants_one_wins(
    etcd_server: EtcdServer, namespace: str, keys: Keys
) -> None:
    before = await leases(etcd_server)
    url = f"{etcd_server.store_url}/{namespace}"
    stores = [EtcdStore(url) for _ in range(8)]
    results = await asyncio.gather(*(registered(each) for each in stores), return_exceptions=True)
    won = [result for result in results if not isinstance(result, BaseException)]
    assert len(won) == 1
    assert sum(isinstance(result, DuplicateInstanceError) for result in results) == 7
    await won[0].heartbeat(Health(Status.DEGRADED, "slow"))
    # Those who lost gave their leases back.
    assert len(await leases(etcd_server) - before) == 2
    for each in stores:
        await each.close()


async def test_an_answer_that_was_lost_takes_nobody_off_the_list(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """etcd has done what was asked, and its answer does not arrive: of that, real ones make a
    coincidence only."""
    gateway = store._gateway
    really = gateway.txn

    async def faulty_txn(guards: list[Any], writes: list[Any]) -> Any:
        answer = await really(guards, writes)
        if guards:
            raise StoreUnavailableError(store.url, "the answer is lost")
        return answer

    before = await leases(etcd_server)
    monkeypatch.setattr(gateway, "txn", faulty_txn)
    with pytest.raises(StoreUnavailableError):
        await registered(store)
    written = set(await under(etcd_server, keys))
    assert any(key.startswith("servers/") for key in written)
    monkeypatch.undo()
    async with watching(store) as seen:
        again = await registered(store)
        await again.heartbeat(Health(Status.DEGRADED, "slow"))
        await seen.until_status(again.id, Status.DEGRADED, 5)
        assert None not in seen.history(again.id)
    assert set(await under(etcd_server, keys)) == written
    # What the first attempt was granted was given back when the second had moved its keys.
    assert len(await leases(etcd_server) - before) == 2


async def test_registering_again_gives_the_old_leases_back(
    etcd_server: EtcdServer, store: EtcdStore
) -> None:
    before = await leases(etcd_server)
    for _ in range(3):
        last = await registered(store)
    assert len(await leases(etcd_server) - before) == 2
    await last.heartbeat(healthy())
    await last.deregister()
    assert await leases(etcd_server) <= before


async def test_an_update_may_rename_the_server(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    registration = await registered(store)
    async with watching(store) as watcher:
        await registration.update(record(name="renamed"), document("a"))
        shown = await watcher.until_shows("catalog-1", lambda seen: seen.record.name == "renamed")
        assert shown.health.status is Status.HEALTHY
        assert set(watcher.history("catalog-1")) == {Status.HEALTHY}
    assert "servers/product-catalog/catalog-1" not in await under(etcd_server, keys)
    await registration.heartbeat(Health(Status.DEGRADED, "slow"))
    await registration.deregister()
    assert await under(etcd_server, keys) == [f"documents/{document('a').digest}"]


async def test_another_server_may_take_over_the_id_of_a_silent_one(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    await registered(store, ttl=1, reap_after=60)
    async with watching(store) as watcher:
        await watcher.until_status("catalog-1", Status.DOWN, 4)
        await store.register(
            record(name="renamed"), document("a"), ttl=20, reap_after=60, holder=new_holder()
        )
        await watcher.until_shows("catalog-1", lambda seen: seen.record.name == "renamed")
    assert "servers/product-catalog/catalog-1" not in await under(etcd_server, keys)


async def test_a_drain_that_failed_is_made_up_for(namespace: str) -> None:
    async with EtcdServer() as server, EtcdStore(f"{server.store_url}/{namespace}") as store:
        registration = await registered(store)
        await server.stop()
        with pytest.raises(StoreUnavailableError):
            await registration.drain()
        await server.start()
        await registration.heartbeat(healthy())
        async with watching(store) as watcher:
            assert watcher.status("catalog-1") is Status.DRAINING


async def test_no_space_is_said_clearly(namespace: str) -> None:
    server = EtcdServer(arguments=["--quota-backend-bytes=4000000"])
    async with server, EtcdStore(f"{server.store_url}/{namespace}") as store:
        registration = await registered(store)
        with pytest.raises(RequestRefused):
            for number in range(50):  # etcd looks at its size only now and then
                await server.put(f"filler-{number}", "x" * 1_000_000)
        big = document("big", filler=900_000)
        with pytest.raises(StoreUnavailableError, match="out of space"):
            await store.register(record("n-2"), big, ttl=20, reap_after=60)
        with pytest.raises(StoreUnavailableError, match="out of space"):
            await registration.heartbeat(Health(Status.DEGRADED, "slow"))
        with pytest.raises(DocumentNotFoundError):
            await store.document(big.digest)


async def test_plain_http_to_a_tls_server_is_unavailable(tmp_path: Any) -> None:
    tls = Tls(tmp_path)
    async with EtcdServer(tls=tls) as server:
        plain = server.store_url.replace("etcd+https", "etcd")
        async with EtcdStore(plain) as store:
            with pytest.raises(StoreUnavailableError):
                await registered(store)


async def test_users_turned_on_or_changed_under_a_registration(namespace: str) -> None:
    async with EtcdServer() as server:
        options = StoreOptions(user="root", password="s3cr3t")
        async with EtcdStore(f"{server.store_url}/{namespace}", options) as store:
            registration = await registered(store)
            await server.call("auth/user/add", {"name": "root", "password": "s3cr3t"})
            await server.call("auth/role/add", {"name": "root"})
            await server.call("auth/user/grant", {"user": "root", "role": "root"})
            await server.call("auth/enable", {})
            await registration.heartbeat(Health(Status.DEGRADED, "users are on"))
            # Every token of before is unknown to a server that has started again.
            await server.restart()
            await registration.heartbeat(Health(Status.DEGRADED, "started again"))
            token = await server.authenticate("root", "s3cr3t")
            await server.request(
                "POST",
                "/v3/auth/user/changepw",
                body={"name": "root", "password": "s3cr3t"},
                headers={"Authorization": token},
            )
            await registration.heartbeat(Health(Status.DEGRADED, "password changed"))
            async with watching(store) as watcher:
                shown = watcher.instances["catalog-1"]
                assert shown.health.reason == "password changed"


async def test_deleted_keys_are_noticed_whatever_the_ttl(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    registration = await registered(store)
    span = {"key": encode(keys.prefix), "range_end": encode(prefix_end(keys.prefix))}
    await etcd_server.call("kv/deleterange", span)
    with pytest.raises(RegistrationLostError, match="were removed"):
        await repeat(lambda: registration.heartbeat(healthy()), every=0.2, seconds=4)


async def test_a_health_that_etcd_cannot_take_is_not_kept_alive() -> None:
    """Out of space it takes no writes, and renews leases: a dead server must not stay healthy."""
    async with EtcdServer() as server, EtcdStore(server.store_url) as store:
        dead = await registered(store, "dead-1", ttl=2)
        living = await registered(store, "living-1", ttl=2)
        better = await registered(store, "better-1", ttl=2)
        await better.heartbeat(Health(Status.DEGRADED, "slower than 1 s"))
        async with watching(store) as watcher:
            member = (await server.call("maintenance/status", {}))["header"]["member_id"]
            alarm = {"action": "ACTIVATE", "memberID": member, "alarm": "NOSPACE"}
            await server.call("maintenance/alarm", alarm)

            async def fallen() -> bool:
                with suppress(RegistrationLostError, StoreUnavailableError):
                    await dead.heartbeat(Health(Status.DOWN, "connection refused"))
                await living.heartbeat(healthy())
                # What is better than it is listed harms nobody, so that is renewed.
                with pytest.raises(StoreUnavailableError) as full:
                    await better.heartbeat(healthy())
                assert (full.value.fault, full.value.renewed) == (StoreFault.OUT_OF_SPACE, True)
                return watcher.status("dead-1") is Status.DOWN

            await until(fallen, timeout=2 + 2, what="the one that is dead shown as down")
            assert watcher.status("living-1") is Status.HEALTHY
            assert watcher.status("better-1") is Status.DEGRADED


async def test_an_older_health_in_a_restored_store_is_noticed(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    registration = await registered(store, ttl=2)
    key = encode(keys.live("catalog-1"))
    (older,) = (await etcd_server.call("kv/range", {"key": key}))["kvs"]
    await registration.heartbeat(Health(Status.DEGRADED, "slow"))
    await etcd_server.call("kv/put", {"key": key, "value": older["value"], "lease": older["lease"]})
    with pytest.raises(RegistrationLostError, match="another health"):
        slow = Health(Status.DEGRADED, "slow")
        await repeat(lambda: registration.heartbeat(slow), every=0.2, seconds=10)
