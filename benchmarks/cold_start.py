"""``python -m benchmarks.cold_start STORE_URL WHO``: how many seconds until a list is there.

``WHO`` is ``catalog`` (all of it indexed and ready to be asked), or ``bare``: the same requests,
one page after the other, their JSON read and the values decoded, and nothing made of it.
Writes one line of JSON: seconds, and how many there were.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson

from benchmarks.store_contents import KEYS
from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.facade.run import freeze_first_list

_PAGE = 1000


async def _catalog(url: str) -> dict[str, float]:
    began = time.perf_counter()
    async with open_store(url) as store, Catalog(store) as catalog:
        settling = asyncio.create_task(freeze_first_list(catalog))  # as a facade does
        await catalog.ready()
        seconds = time.perf_counter() - began
        await settling
        return {"seconds": seconds, "count": len(catalog.view)}


async def _bare(url: str) -> dict[str, float]:
    began = time.perf_counter()
    scheme, _, place = url.partition("://")
    read = _bare_etcd if scheme == "etcd" else _bare_consul
    count = await read(f"http://{place}")
    return {"seconds": time.perf_counter() - began, "count": count}


async def _bare_etcd(url: str) -> int:
    """One range in pages, as large as the adapter's."""
    first, end = (base64.b64encode(key.encode()).decode() for key in KEYS.watched)
    count = 0
    async with aiohttp.ClientSession() as http:
        while True:
            body = {"key": first, "range_end": end, "limit": str(_PAGE)}
            async with http.post(f"{url}/v3/kv/range", data=orjson.dumps(body)) as response:
                answer = orjson.loads(await response.read())
            count += len([base64.b64decode(kv["value"]) for kv in answer["kvs"]])
            if not answer.get("more"):
                return count // 2
            last = base64.b64decode(answer["kvs"][-1]["key"])
            first = base64.b64encode(last + b"\0").decode()


async def _bare_consul(url: str) -> int:
    """The services with their checks and the records, at the same time."""

    def decoded(answer: Any) -> int:
        return len([base64.b64decode(entry["Value"]) for entry in answer])

    async def get(path: str, read: Callable[[Any], int]) -> int:
        async with http.get(f"{url}{path}") as response:
            return read(orjson.loads(await response.read()))

    async with aiohttp.ClientSession() as http:
        count, _ = await asyncio.gather(
            get("/v1/health/service/mcp?consistent", len),
            get("/v1/kv/mcp/servers/?recurse&consistent", decoded),
        )
    return count


if __name__ == "__main__":
    measured = asyncio.run((_catalog if sys.argv[2] == "catalog" else _bare)(sys.argv[1]))
    sys.stdout.write(orjson.dumps(measured).decode() + "\n")
