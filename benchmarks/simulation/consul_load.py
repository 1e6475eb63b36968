"""Changes in a Consul that move the index of one of a facade's two lists."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from benchmarks.simulation.loads import asked, next_health
from mcp_discovery.adapters.consul import checks
from mcp_discovery.instance import Instance

#: What a facade asks for, as a blocking query.
SERVICES = "/v1/health/service/mcp"
RECORDS = "/v1/kv/mcp/servers/?recurse"

_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class CheckSetter:
    """Gives one instance another health, as its agent would tell the servers."""

    url: str
    holder: str
    check: dict[str, Any]

    @classmethod
    async def of(cls, http: aiohttp.ClientSession, url: str, instance: Instance) -> CheckSetter:
        """For an instance that is there already."""
        every = orjson.loads(await asked(http, "GET", f"{url}/v1/health/checks/mcp"))
        wanted = checks.health_check(instance.id)
        check = next(each for each in every if each["CheckID"] == wanted)
        return cls(url, instance.lease.holder.id, check)

    async def change(self, http: aiohttp.ClientSession) -> None:
        """Once more another health."""
        status, output = checks.to_check(next_health(), None, self.holder)
        changed = self.check | {"Status": status, "Output": output}
        body = orjson.dumps([{"Check": {"Verb": "set", "Check": changed}}])
        await asked(http, "PUT", f"{self.url}/v1/txn", body)


async def put_record(http: aiohttp.ClientSession, url: str) -> None:
    """Another value under the records; it is none, and skipped by whoever reads it."""
    body = f"{next(_NUMBERS):09}".encode()
    await asked(http, "PUT", f"{url}/v1/kv/mcp/servers/probe/probe", body)
