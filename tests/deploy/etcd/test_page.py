"""``docs/etcd.md`` held against what is really written, and its commands run as they stand."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.adapters.etcd import documents as documents_module
from mcp_discovery.adapters.etcd.keys import encode
from mcp_discovery.health import Health, Load, Status, healthy
from mcp_discovery.record import Record
from tests.adapters.etcd.test_independent_reader import read_with_etcd3
from tests.deploy.etcd import page
from tests.deploy.etcd.roles import environment, run
from tests.records import document, record
from tests.stores.etcd import EtcdServer


async def everything(server: EtcdServer) -> dict[str, bytes]:
    """All keys of a store, with their values."""
    span = {"key": encode("\0"), "range_end": encode("\0")}
    found = (await server.call("kv/range", span))["kvs"]
    return {
        base64.b64decode(kv["key"]).decode(): base64.b64decode(kv.get("value", "")) for kv in found
    }


def everything_said(id: str = "catalog-1") -> Record:
    """A record with every field that there is."""
    return record(
        id,
        title="Catalog",
        websiteUrl="https://example.com",
        auth={"type": "oauth2", "tokenEndpoint": "https://example.com/token", "scopes": ["a"]},
        protocol={
            "versions": ["2026-07-28"],
            "era": "modern",
            "serverInfo": {},
            "instructions": "",
        },
        zone="a",
        owner="team",
        metadata={"a": "b"},
        healthUrl="http://127.0.0.1:8001/health",
        startedAt="2026-11-21T09:00:00Z",
    )


async def test_what_is_written_is_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "CHUNK", 1000)
    async with EtcdServer() as server:
        async with EtcdStore(
            f"{server.store_url}?skydns=example.internal&skydns-agents=true"
        ) as store:
            for id, offered in (("catalog-1", document("a")), ("catalog-2", _large())):
                registration = await store.register(
                    everything_said(id), offered, ttl=20, reap_after=60
                )
                await registration.heartbeat(healthy(), Load(1, 2, 3.0, 4.0, 5.0, 0.5))
            await store.put_query("payments", b"{}")
        written = await everything(server)
        patterns = page.keys()
        unused = set(patterns)
        for key in written:
            (told,) = [name for name, pattern in patterns.items() if pattern.fullmatch(key)]
            unused.discard(told)
        assert not unused, "the page tells keys that nobody writes"

        for pattern, key in (
            ("live/<id>", "/mcp/live/catalog-1"),
            ("servers/<name>/<id>", "/mcp/servers/product-catalog/catalog-1"),
        ):
            always, optional = page.fields(pattern)
            there = set(json.loads(written[key]))
            assert always <= there, f"{pattern}: {always - there} are not written"
            assert there <= always | optional, (
                f"{pattern}: the page lacks {there - always - optional}"
            )
            # Those that this instance does not have are the tombstone's, and a first heartbeat's.
            assert optional - there <= {"removed", "load"}
        for pattern, key in (
            ("/skydns/internal/example/mcp/<path>/<id>/host", "mcp/products/catalog-1/host"),
            ("/skydns/internal/example/mcp/<path>/<id>/text", "mcp/products/catalog-1/text"),
            ("/skydns/internal/example/_<label>/_mcp/<id>", "_products/_mcp/catalog-1"),
            (
                "/skydns/internal/example/mcp/_agents/<name>/<id>",
                "mcp/_agents/product-catalog/catalog-1",
            ),
        ):
            (row,) = [line for line in page.INTERFACE.splitlines() if f"| `{pattern}` |" in line]
            value: dict[str, Any] = json.loads(written[f"/skydns/internal/example/{key}"])
            assert set(value) == set(
                row.split("|")[2].replace("SkyDNS: ", "").strip(" `").split("`, `")
            )

        small = document("a").digest
        content = gzip.decompress(written[f"/mcp/documents/{small}"])
        assert hashlib.sha256(content).hexdigest() == small
        assert set(json.loads(written[f"/mcp/documents/{_large().digest}"])) == {"chunks", "bytes"}


def _large() -> Any:
    return document("large", filler=20_000)


def test_the_page_shows_what_it_describes() -> None:
    lines = page.example("/mcp/ids/").splitlines()
    patterns = page.keys()
    for key, value in zip(lines[::2], lines[1::2], strict=True):
        (told,) = [name for name, pattern in patterns.items() if pattern.fullmatch(key)]
        if told in ("live/<id>", "servers/<name>/<id>"):
            always, optional = page.fields(told)
            assert always <= set(json.loads(value)) <= always | optional


async def test_a_stranger_resolves_a_name_by_the_page_alone(tmp_path: Path) -> None:
    """Its reader, as it stands, with nothing but etcdctl; and python-etcd3 finds the same keys."""
    reader = tmp_path / "urls.py"
    reader.write_text(page.example("# urls.py NAME"))
    async with EtcdServer() as server, EtcdStore(server.store_url) as store:

        async def resolved(name: str) -> list[str]:
            code, said = await run(environment(server), sys.executable, str(reader), name)
            assert code == 0, said
            return said.split()

        assert await resolved("product-catalog") == []
        registrations = {
            id: await store.register(record(id), document("a"), ttl=20, reap_after=60)
            for id in ("catalog-1", "catalog-2", "catalog-3", "catalog-4")
        }
        await registrations["catalog-2"].heartbeat(Health(Status.DEGRADED, "slow"))
        await registrations["catalog-3"].drain()
        # One that fell silent: its health is gone, its record is there yet.
        await server.call("kv/deleterange", {"key": encode("/mcp/live/catalog-4")})
        await store.register(record("other-1", name="other"), document("a"), ttl=20, reap_after=60)
        assert await resolved("product-catalog") == ["http://127.0.0.1:8001/mcp?of=catalog-1"]
        assert await resolved("other") == ["http://127.0.0.1:8001/mcp?of=other-1"]
        found = read_with_etcd3(server.http_port, "/mcp/servers/product-catalog/")
        assert sorted(key.rpartition("/")[2] for key in found) == sorted(registrations)
