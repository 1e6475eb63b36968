"""Records of an older and of a newer schema side by side, as during an upgrade."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.health import Health, Status
from tests.programs import facade
from tests.records import document, record
from tests.stores import ConsulServer, EtcdServer
from tests.stores.etcd import encode

_NEWER: dict[str, Any] = {
    "schema": 99,
    "shards": [{"from": 0, "to": 127}],
    "endpoint": {"url": "http://127.0.0.1:8001/mcp?of=newer", "quic": {"port": 1}},
    "capabilities": {"tools": ["search"], "skills": ["cook"]},
    "auth": {"type": "none", "passkey": True},
}
#: What the first version could not do without.
_OLDEST = ("id", "name", "endpoint", "lease")


async def rewritten(server: ConsulServer | EtcdServer, id: str, how: str) -> None:
    """Puts the record of ``id`` as a program of another version would have written it."""
    name = record(id).name
    if isinstance(server, ConsulServer):
        key = f"mcp/servers/{name}/{id}"
        raw = await server.get(key)
        assert raw is not None
        await server.put(key, _as_version(raw, how))
        return
    key = f"/mcp/servers/{name}/{id}"
    (kv,) = (await server.call("kv/range", {"key": encode(key)}))["kvs"]
    value = _as_version(base64.b64decode(kv["value"]).decode(), how)
    await server.call("kv/put", {"key": encode(key), "value": encode(value), "lease": kv["lease"]})


def _as_version(raw: str, how: str) -> str:
    content: dict[str, Any] = orjson.loads(raw)
    if how == "older":
        content = {key: content[key] for key in _OLDEST}
    else:
        content |= _NEWER
        content["lease"]["region"] = "moon"
    return orjson.dumps(content).decode()


@pytest.mark.parametrize("kind", [ConsulServer, EtcdServer])
async def test_both_are_listed_and_unknown_fields_are_kept(
    kind: type[ConsulServer | EtcdServer], tmp_path: Path
) -> None:
    async with (
        kind() as server,
        open_store(server.store_url) as store,
        facade(tmp_path, server.store_url) as asked,
    ):
        registrations = {
            id: await store.register(record(id), document("search"), ttl=30, reap_after=60)
            for id in ("older", "newer", "ours")
        }
        for id in ("older", "newer"):
            await rewritten(server, id, id)
        # Whatever the record looks like, its health is told as ever.
        for each in registrations.values():
            await each.heartbeat(Health(Status.DEGRADED, "slow"))
        for id in registrations:
            await asked.until_status(id, "degraded", 10)
        shown = await asked.servers()
        newer = shown["newer"]
        for field in ("schema", "shards"):
            assert newer[field] == _NEWER[field], newer
        assert newer["endpoint"]["quic"] == {"port": 1}
        assert newer["capabilities"]["skills"] == ["cook"]
        assert shown["older"]["name"] == shown["ours"]["name"]
        assert "Traceback" not in asked.process.log
