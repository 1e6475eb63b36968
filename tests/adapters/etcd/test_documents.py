"""Documents in chunks, half-written ones, and the sweep."""

from __future__ import annotations

import pytest

from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.adapters.etcd import documents as documents_module
from mcp_discovery.adapters.etcd.keys import Keys, encode
from mcp_discovery.errors import DocumentNotFoundError
from tests.adapters.etcd.test_registration import under
from tests.records import document, record
from tests.stores.etcd import EtcdServer


async def test_a_document_of_3_mb_is_kept_in_chunks(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    big = document("big", filler=6_000_000)  # hexadecimal: gzip makes 3 MB of it
    registration = await store.register(record(), big, ttl=20, reap_after=60)
    chunks = [key for key in await under(etcd_server, keys) if key.startswith("documents/")]
    assert chunks == [f"documents/{big.digest}"] + [
        f"documents/{big.digest}/{number:04}" for number in range(len(chunks) - 1)
    ]
    assert len(chunks) > 4
    assert await store.document(big.digest) == big
    await registration.deregister()


async def test_a_half_written_document_is_none_and_is_written_whole(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "CHUNK", 1000)
    big = document("big", filler=20_000)
    await etcd_server.put(keys.chunk(big.digest, 0), "half of it")
    with pytest.raises(DocumentNotFoundError):
        await store.document(big.digest)
    await store.register(record(), big, ttl=20, reap_after=60)
    assert await store.document(big.digest) == big
    await etcd_server.call("kv/deleterange", {"key": encode(keys.chunk(big.digest, 1))})
    with pytest.raises(DocumentNotFoundError):
        await store.document(big.digest)


async def test_a_foreign_value_is_no_document(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    for digest, value in (("0" * 64, "x"), ("1" * 64, "[]"), ("2" * 64, '{"chunks":1,"bytes":1}')):
        await etcd_server.put(keys.document(digest), value)
        with pytest.raises(DocumentNotFoundError):
            await store.document(digest)
    with pytest.raises(DocumentNotFoundError):
        await store.document("../" * 20)


async def test_a_sweep_takes_all_chunks_and_only_what_stays_unreferenced(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "CHUNK", 1000)
    store._documents._unreferenced._grace = 0.0
    used, orphan = document("used"), document("orphan", filler=20_000)
    await store.register(record(), used, ttl=20, reap_after=60)
    await store._documents.put_missing(orphan)
    before = len(await under(etcd_server, keys))
    assert await store.sweep() > 2
    assert f"documents/{used.digest}" in await under(etcd_server, keys)
    assert len(await under(etcd_server, keys)) == before - len(await chunks_of(orphan.compressed()))
    assert await store.sweep() == 0


async def chunks_of(data: bytes) -> range:
    return range(-1, -(-len(data) // 1000))


async def test_a_sweep_removes_nothing_when_a_record_came_in_between(
    store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = store._documents
    documents._unreferenced._grace = 0.0
    late = document("late")
    await documents.put_missing(late)
    referenced = documents._referenced

    async def then_registered() -> tuple[int, set[str]]:
        found = await referenced()
        await store.register(record(), late, ttl=20, reap_after=60)
        return found

    monkeypatch.setattr(documents, "_referenced", then_registered)
    assert await store.sweep() == 0
    assert await store.document(late.digest) == late
