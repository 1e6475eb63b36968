"""What is registered can be read by another client, python-etcd3, which knows nothing of us."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.adapters.etcd.keys import Keys
from mcp_discovery.health import Health, Status
from tests.records import document, record
from tests.stores.etcd import EtcdServer

# In a process of its own: beside a current protobuf it imports with the pure-Python parser only,
# and that is chosen for a whole process.
READER = """
import json, sys
import etcd3
host, port, prefix = sys.argv[1:]
client = etcd3.client(host=host, port=int(port))
found = {}
for value, meta in client.get_prefix(prefix):
    ttl = etcd3.Lease(meta.lease_id, None, etcd_client=client).granted_ttl if meta.lease_id else 0
    found[meta.key.decode()] = [value.hex(), ttl]
print(json.dumps(found))
"""


async def test_etcd3_reads_what_was_registered(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    offered = document("search_products")
    given = record(title="Großes Angebot")
    registration = await store.register(given, offered, ttl=20, reap_after=60)
    await registration.heartbeat(Health(Status.DEGRADED, "slow"))
    found = read_with_etcd3(etcd_server.http_port, keys.prefix)

    live, ttl = found[keys.live("catalog-1")]
    assert ttl == 20
    health = json.loads(live)
    assert (health["status"], health["reason"]) == ("degraded", "slow")
    assert health["holder"] == store.holder.id

    written, reap_after = found[keys.record("product-catalog", "catalog-1")]
    assert reap_after == 60
    content = json.loads(written)
    assert content["title"] == "Großes Angebot"
    assert content["endpoint"]["url"] == given.endpoint.url
    assert content["capabilities"]["digest"] == offered.digest

    packed, lease = found[keys.document(offered.digest)]
    assert lease == 0
    tools = orjson.loads(gzip.decompress(packed))["tools"]
    assert [tool["name"] for tool in tools] == ["search_products"]


def read_with_etcd3(port: int, prefix: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", READER, "127.0.0.1", str(port), prefix],
        env=os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return {key: (bytes.fromhex(value), ttl) for key, (value, ttl) in found.items()}
