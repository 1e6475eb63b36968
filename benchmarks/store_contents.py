"""Fills real stores with very many instances, as they lie there when sidecars keep them.

Registering one by one takes a store many minutes for ten thousand; what a watch reads is the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import aiohttp
import orjson

from benchmarks import data
from mcp_discovery.adapters.consul import checks
from mcp_discovery.adapters.consul.labels import own_meta
from mcp_discovery.adapters.consul.registration import Editions, service_definition
from mcp_discovery.adapters.dns_names import dns_names
from mcp_discovery.adapters.etcd.keys import Keys, LiveValue, encode, put
from mcp_discovery.instance import Instance, encode_registration

#: A node that has no agent, so that no agent takes away what it does not know.
_NODE = "benchmark"
_SERVICE = "mcp"
KEYS = Keys("/mcp/")
#: Operations in one transaction: both stores' limits are a little above.
_OPERATIONS = 60


async def fill_etcd(url: str, count: int) -> None:
    """Puts ``count`` instances into the etcd at ``url``, without leases: they stay."""
    async with aiohttp.ClientSession() as http:
        for writes in _in_transactions(map(_etcd_writes, data.instances(count))):
            await _send(http, "POST", f"{url}/v3/kv/txn", {"success": writes})


def _etcd_writes(instance: Instance) -> list[dict[str, object]]:
    record, lease = instance.record, instance.lease
    live = LiveValue(instance.health, None, lease.holder.id, record.name)
    return [
        put(KEYS.record(record.name, record.id), encode_registration(record, lease), "0"),
        put(KEYS.live(record.id), live.encode(), "0"),
    ]


async def fill_consul(url: str, count: int) -> None:
    """Puts ``count`` instances into the Consul at ``url``, on a node of their own."""
    node = {"Node": _NODE, "Address": "127.0.0.1"}
    async with aiohttp.ClientSession() as http:
        await _send(http, "PUT", f"{url}/v1/catalog/register", node)
        for operations in _in_transactions(map(_consul_writes, data.instances(count))):
            await _send(http, "PUT", f"{url}/v1/txn", operations)


def _consul_writes(instance: Instance) -> list[dict[str, object]]:
    record, lease = instance.record, instance.lease
    service = service_definition(
        _SERVICE,
        record,
        lease,
        checks.PASSING,
        Editions.first(),
        tags=dns_names(record),
        meta=own_meta(record),
    )
    checks_of: list[dict[str, str]] = service.pop("Checks")
    beat, told = checks_of
    status, output = checks.to_check(instance.health, None, lease.holder.id)
    key = f"{_SERVICE}/servers/{record.name}/{record.id}"
    written = [
        _check(instance, beat, checks.PASSING, checks.heartbeat_output(lease.holder.id)),
        _check(instance, told, status, output),
    ]
    value = encode(encode_registration(record, lease))
    of_node = {"Service": service.pop("Name"), **service}
    writes: list[dict[str, object]] = [
        {"KV": {"Verb": "set", "Key": key, "Value": value}},
        {"Service": {"Verb": "set", "Node": _NODE, "Service": of_node}},
    ]
    writes += [{"Check": {"Verb": "set", "Check": check}} for check in written]
    return writes


def _check(
    instance: Instance, definition: dict[str, str], status: str, output: str
) -> dict[str, object]:
    return {
        "Node": _NODE,
        "CheckID": definition["CheckID"],
        "Name": definition["Name"],
        "Notes": definition["Notes"],
        "Status": status,
        "Output": output,
        "ServiceID": instance.id,
        "ServiceName": _SERVICE,
        "ServiceTags": [instance.record.name, *instance.record.tags],
    }


def _in_transactions(
    writes: Iterator[list[dict[str, object]]],
) -> Iterator[list[dict[str, object]]]:
    gathered: list[dict[str, object]] = []
    for each in writes:
        gathered += each
        if len(gathered) >= _OPERATIONS:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


async def _send(http: aiohttp.ClientSession, method: str, url: str, body: object) -> None:
    async with http.request(method, url, data=orjson.dumps(body)) as response:
        if response.status != 200:
            raise RuntimeError(f"{url} answered {response.status}: {await response.text()}")
