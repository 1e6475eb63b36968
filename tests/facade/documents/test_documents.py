"""Capability documents by digest."""

from __future__ import annotations

import gzip

from tests.facade.harness import Client, leased
from tests.records import document


async def test_a_document_is_served_by_digest_and_never_changes(ask: Client) -> None:
    offered = document("find", filler=300_000)
    path = f"/documents/{offered.digest}"
    headers = {"Content-Encoding": "gzip"}
    assert (await ask("PUT", path, offered.compressed(), headers=headers)).status == 204
    body = leased("a", capabilities={"tools": ["find"], "digest": offered.digest})
    assert (await ask("POST", "/servers", body)).status == 201

    plain = await ask("GET", path, headers={"Accept-Encoding": "identity"})
    assert plain.body == offered.canonical
    assert "immutable" in plain.headers["Cache-Control"]
    assert plain.headers["ETag"] == f'"{offered.digest}"'
    packed = await ask("GET", path, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.body == offered.canonical  # the client has unpacked it
    same = await ask("GET", path, headers={"If-None-Match": f'"{offered.digest}"'})
    assert (same.status, same.body) == (304, b"")


async def test_a_document_may_be_sent_in_any_spelling(ask: Client) -> None:
    offered = document("find")
    path = f"/documents/{offered.digest}"
    pretty = offered.canonical.replace(b",", b", ").replace(b":", b" :")
    assert (await ask("PUT", path, pretty)).status == 204
    assert (await ask("PUT", path, gzip.compress(pretty))).status == 204
    assert (await ask("GET", path)).body == offered.canonical


async def test_many_pending_documents_are_bounded() -> None:
    from mcp_discovery.adapters.catalog import Catalog
    from mcp_discovery.adapters.embedded import EmbeddedStore
    from mcp_discovery.facade.documents.documents import PENDING_BYTES, Documents

    async with EmbeddedStore() as store:
        documents = Documents(Catalog(store))
        for number in range(12):
            documents.put(document(f"tool-{number}", filler=8 * 2**20))
        assert sum(len(each.canonical) for each in documents._pending.values()) <= PENDING_BYTES
        last = document("tool-11", filler=8 * 2**20)
        assert (await documents.get(last.digest)).digest == last.digest
