"""``python -m benchmarks.change_delays WHO URL``: tells when each change of one instance has come.

``WHO`` is ``catalog``, the catalog over the store at URL; ``events``, a reader of the facade there;
or a bare watch of what the adapter watches, with nothing made of it but what it says: ``etcd`` or
``consul``.

Writes a line as soon as it follows, and one for every change: a JSON list of the change's number,
-1 for none, and of the second at which it was read (of the monotonic clock, the same in all
processes of a machine).
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import aiohttp
import orjson

from benchmarks import data
from benchmarks.store_contents import KEYS
from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.consul.checks import health_check
from mcp_discovery.health import Health, Status

#: The one that changes.
CHANGED = data.instance(500)
#: How the reason for its health begins that a change gives it; the change's number follows.
_REASON = "change "
#: Watches are silent for as long as nothing changes.
_PATIENT = aiohttp.ClientTimeout(total=None)


def health(number: int) -> Health:
    """What change ``number`` makes of its health: another status and another reason."""
    return Health((Status.HEALTHY, Status.DEGRADED)[number % 2], f"{_REASON}{number}")


async def _catalog(url: str) -> AsyncGenerator[str, None]:
    async with open_store(url) as store, Catalog(store) as catalog:
        await catalog.ready()
        view = catalog.view
        while True:
            yield view.entries[CHANGED.id].health.reason
            view = await catalog.after(view)


async def _events(url: str) -> AsyncGenerator[str, None]:
    async with aiohttp.ClientSession(timeout=_PATIENT) as http, http.get(f"{url}/events") as answer:
        async for event in _parts(answer, b"\n\n"):
            fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line)
            if fields.get(b"event") == b"snapshot":
                yield "follows"
            elif fields.get(b"event") == b"change":
                yield orjson.loads(fields[b"data"])["server"]["reason"]


async def _etcd(url: str) -> AsyncGenerator[str, None]:
    first, end = (base64.b64encode(key.encode()).decode() for key in KEYS.watched)
    body = orjson.dumps({"create_request": {"key": first, "range_end": end}})
    async with (
        aiohttp.ClientSession(timeout=_PATIENT) as http,
        http.post(f"{url}/v3/watch", data=body) as answer,
    ):
        async for line in _parts(answer, b"\n"):
            result = orjson.loads(line)["result"]
            if result.get("created"):
                yield "follows"
            for event in result.get("events", ()):
                yield orjson.loads(base64.b64decode(event["kv"]["value"]))["reason"]


async def _consul(url: str) -> AsyncGenerator[str, None]:
    where, index = f"{url}/v1/health/service/mcp", ""
    async with aiohttp.ClientSession(timeout=_PATIENT) as http:
        while True:
            params = {"index": index, "wait": "60s"} if index else {}
            async with http.get(where, params=params) as answer:
                index = answer.headers["X-Consul-Index"]
                listed = orjson.loads(await answer.read())
            own = next(each for each in listed if each["Service"]["ID"] == CHANGED.id)
            said = {check["CheckID"]: check["Output"] for check in own["Checks"]}
            yield said[health_check(CHANGED.id)].partition("\n")[0]


async def _parts(answer: aiohttp.ClientResponse, end: bytes) -> AsyncIterator[bytes]:
    """What comes in, cut at ``end``."""
    assert answer.status == 200, await answer.text()
    rest = b""
    async for chunk in answer.content.iter_any():
        *parts, rest = (rest + chunk).split(end)
        for part in parts:
            yield part


_WHO = {"catalog": _catalog, "events": _events, "etcd": _etcd, "consul": _consul}


async def _tell(who: str, url: str) -> None:
    async with aclosing(_WHO[who](url)) as reasons:
        async for reason in reasons:
            at = time.monotonic()
            number = int(reason.removeprefix(_REASON)) if reason.startswith(_REASON) else -1
            sys.stdout.write(orjson.dumps([number, at]).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_tell(*sys.argv[1:]))
