"""Capability documents, the same over every store."""

from __future__ import annotations

import pytest

from mcp_discovery.adapters import kept_document
from mcp_discovery.adapters.store import Store
from mcp_discovery.errors import DocumentNotFoundError, InvalidDocumentError
from mcp_discovery.health import healthy
from tests.contract.environments import StoreEnvironment
from tests.records import document, record
from tests.stores.waiting import until


@pytest.mark.parametrize("size", [300_000, 3_000_000], ids=["300KB", "3MB"])
async def test_a_large_document_round_trips_and_is_stored_once(
    environment: StoreEnvironment, store: Store, size: int
) -> None:
    large = document(*(f"tool_{n}" for n in range(10)), filler=size // 10)
    assert abs(len(large.canonical) - size) < size / 10
    await store.register(record("n-0"), large, ttl=60, reap_after=120)
    before = await environment.writes()
    for number in range(1, 10):
        await store.register(record(f"n-{number}"), large, ttl=60, reap_after=120)
    assert await environment.digests() == {large.digest}
    assert before != await environment.writes() or before is None
    read = await (await environment.open()).document(large.digest)
    assert read == large
    assert read.digest == large.digest


async def test_an_unknown_digest(store: Store) -> None:
    with pytest.raises(DocumentNotFoundError):
        await store.document("0" * 64)


async def test_a_document_over_the_limit_is_refused(
    environment: StoreEnvironment, store: Store
) -> None:
    huge = document("a", filler=17 * 2**20)
    with pytest.raises(InvalidDocumentError, match="over the limit"):
        await store.register(record(), huge, ttl=60, reap_after=120)
    assert await environment.digests() == set()


@pytest.mark.over(("embedded", "file", "consul", "etcd", "tiny"))  # a facade sweeps its own store
async def test_a_sweep_removes_what_nobody_refers_to(
    environment: StoreEnvironment, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, unused = document("used"), document("unused")
    registration = await store.register(record(), unused, ttl=60, reap_after=120)
    await registration.update(record(), used)
    sweeper = await environment.open()
    clock = [1000.0]
    monkeypatch.setattr("mcp_discovery.adapters.unreferenced_keys.time.monotonic", lambda: clock[0])
    assert await sweeper.sweep() == 0  # seen for the first time
    clock[0] += 59
    assert await sweeper.sweep() == 0
    assert await environment.digests() == {used.digest, unused.digest}
    clock[0] += 2
    assert await sweeper.sweep() >= 1
    assert await environment.digests() == {used.digest}
    assert await store.document(used.digest) == used


@pytest.mark.over(("consul", "etcd"))  # others cannot write into the rest
@pytest.mark.parametrize("filler", [0, 3_000_000], ids=["short", "in parts"])
async def test_what_somebody_deleted_is_put_back(
    environment: StoreEnvironment, store: Store, monkeypatch: pytest.MonkeyPatch, filler: int
) -> None:
    assert kept_document.EVERY * 2 < 60
    monkeypatch.setattr(kept_document, "EVERY", 0.5)
    first, second = document("a", filler=filler), document("b", filler=filler)
    registration = await store.register(record(), first, ttl=10, reap_after=120)
    for kept in (first, second):
        if kept is second:
            await registration.update(record(), second)
        keys = await environment.document_keys(kept.digest)
        assert len(keys) > 1 if filler else keys
        for gone in (keys[:1], keys[-1:], keys):
            for key in gone:
                await environment.delete(key)

            async def whole(digest: str = kept.digest, keys: list[str] = keys) -> bool:
                await registration.heartbeat(healthy())
                return await environment.document_keys(digest) == keys

            await until(whole, timeout=10, what=f"all of {keys}")
            assert await store.document(kept.digest) == kept
