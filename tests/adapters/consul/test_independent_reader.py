"""What this adapter writes, read by python-consul2, which knows nothing of it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from typing import Any

import consul
import pytest

from mcp_discovery.adapters.consul import ConsulStore
from tests.records import document, record
from tests.stores import ConsulServer


# python-consul2's own, about API that this test does not use.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:consul.base")
async def test_python_consul2_reads_services_records_and_documents(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    offered = document("search_products", "get_product", filler=1_000_000)
    given = record()
    await store.register(given, offered, ttl=30, reap_after=60)
    reader = consul.Consul(host="127.0.0.1", port=consul_server.http_port)

    def read() -> tuple[Any, Any, Any]:
        _, services = reader.health.service(namespace, passing=True, tag="products")
        _, one = reader.kv.get(f"{namespace}/servers/product-catalog/catalog-1")
        _, parts = reader.kv.get(f"{namespace}/documents/{offered.digest}/", recurse=True)
        return services, one, parts

    services, one, parts = await asyncio.to_thread(read)

    (service,) = (entry["Service"] for entry in services)
    assert service["ID"] == "catalog-1"
    assert (service["Address"], service["Port"]) == ("127.0.0.1", 8001)
    assert service["Meta"]["url"] == given.endpoint.url

    stored = json.loads(one["Value"])
    assert (stored["name"], stored["tags"]) == ("product-catalog", ["products", "inventory"])
    assert stored["capabilities"]["digest"] == offered.digest
    assert stored["lease"]["ttl"] == 30

    by_number = sorted(parts, key=lambda part: int(part["Key"].rpartition("/")[2].split("-")[0]))
    assert len(by_number) > 1
    plain = gzip.decompress(b"".join(part["Value"] for part in by_number))
    assert hashlib.sha256(plain).hexdigest() == offered.digest
    assert [tool["name"] for tool in json.loads(plain)["tools"]] == [
        "search_products",
        "get_product",
    ]
