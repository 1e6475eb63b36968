"""What a sidecar costs beside its server, and how soon it has it listed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from statistics import median

import aiohttp
import orjson

from benchmarks.gate import Gate, gate
from benchmarks.harness import Contender, Contest, Goal, Scale, row
from benchmarks.sidecar_processes import BARE, listed, python, sidecar
from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.etcd.keys import encode
from mcp_discovery.probe.messages import modern_call
from tests.servers.process import example
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer

_STORES = ("etcd", "Consul")
#: How long a sidecar has waited for its server when that becomes reachable, in seconds.
_WAITED = 1.0
#: The TTL of a sidecar by default, within which it has done for good what follows registering.
_TTL = 10.0
#: Requests of the bare client before the one that counts.
_WARM_UP = 5

_numbers = itertools.count(1)


@asynccontextmanager
async def _stores() -> AsyncIterator[Mapping[str, str]]:
    """A real etcd and a real Consul; gives their URLs."""
    async with EtcdServer() as etcd, ConsulServer() as consul:
        yield dict(zip(_STORES, (etcd.store_url, consul.store_url), strict=True))


def _an_id() -> str:
    """Of a sidecar that nobody has seen before."""
    return f"benchmark-{next(_numbers)}"


@row(
    9,
    "sidecar-memory",
    "a sidecar beside a server, registered: resident memory beside `import aiohttp`",
    unit="MB",
    goals=tuple(Goal(1.5, figure=store) for store in _STORES),
)
async def memory(scale: Scale) -> AsyncGenerator[Contest, None]:
    """Both are new processes in every round."""
    async with _stores() as stores, example("product_catalog") as server:

        async def ours() -> dict[str, float]:
            found = {}
            for name, url in stores.items():
                async with open_store(url) as store, sidecar(url, server.url, id := _an_id()) as it:
                    await listed(store, id)
                    found[name] = await it.settled_memory()
            return found

        async def bare() -> dict[str, float]:
            async with python("-c", BARE) as it:
                await it.says("here")
                return dict.fromkeys(_STORES, await it.settled_memory())

        yield Contest([Contender("sidecar", ours)], Contender("aiohttp", bare))


@row(
    9,
    "sidecar-cpu",
    "a sidecar beside a server, idle at the default TTL of 10 s: part of a processor",
    unit="%",
    goals=tuple(Goal(0.3, figure=store, absolute=True) for store in _STORES),
)
async def processor(scale: Scale) -> AsyncGenerator[Contest, None]:
    """One sidecar for each store, at the same time."""
    seconds = scale.of(60, 10)
    facts = {"measured": f"{seconds} s, processor time of all of the process's threads"}
    async with _stores() as stores, example("product_catalog") as server:

        async def idle(name: str, url: str) -> tuple[str, float]:
            async with open_store(url) as store, sidecar(url, server.url, id := _an_id()) as it:
                await listed(store, id)
                await asyncio.sleep(scale.of(int(_TTL), 2))
                before, began = it.cpu(), time.monotonic()
                await asyncio.sleep(seconds)
                return name, (it.cpu() - before) / (time.monotonic() - began) * 100

        async def ours() -> dict[str, float]:
            return dict(await asyncio.gather(*(idle(*each) for each in stores.items())))

        rounds = scale.of(3, 1)
        yield Contest([Contender("sidecar", ours)], rounds=rounds, facts=facts)


@row(
    9,
    "sidecar-listed",
    "a server's port opens → its instance is at a watcher, beside one MCP and one store round trip",
    unit="ms",
    goals=tuple(Goal(1.3, figure=store) for store in _STORES),
)
async def soon(scale: Scale) -> AsyncGenerator[Contest, None]:
    """The sidecar has waited for a second when the port opens.

    Beside it: one bare client whose connections to both are open and warm. The MCP server is asked
    for its tools through the same port (``tools/list`` of 2026-07-28, which needs no handshake),
    then the store takes a value for one key: nobody can be listed without a write.
    """
    facts: dict[str, str] = {}
    steps: dict[str, list[tuple[float, ...]]] = {name: [] for name in _STORES}
    async with _stores() as stores, example("product_catalog") as server:

        async def ours() -> dict[str, float]:
            found = {}
            for name, url in stores.items():
                async with gate(server.port) as door:
                    found[name], *rest = await _until_listed(url, door)
                    steps[name].append(tuple(rest))
                first, last = (median(each) for each in zip(*steps[name], strict=True))
                facts[name] = (
                    f"the sidecar's first bytes came after {first:.1f} ms, the server's last "
                    f"answer before it was listed after {last:.1f} ms (medians)"
                )
            return found

        async def bare() -> dict[str, float]:
            found = {}
            for name, url in stores.items():
                async with gate(server.port) as door, aiohttp.ClientSession() as http:
                    await door.open()
                    for _ in range(_WARM_UP):
                        await _tools(http, f"http://127.0.0.1:{door.port}/mcp")
                        await _written(http, url)
                    began = time.perf_counter()
                    await _tools(http, f"http://127.0.0.1:{door.port}/mcp")
                    asked = time.perf_counter()
                    await _written(http, url)
                    done = time.perf_counter()
                found[name] = (done - began) * 1000
                facts[f"bare client, {name}"] = (
                    f"of these, MCP {(asked - began) * 1000:.1f} ms and the store "
                    f"{(done - asked) * 1000:.1f} ms (last round)"
                )
            return found

        yield Contest([Contender("sidecar", ours)], Contender("bare client", bare), facts=facts)


async def _until_listed(url: str, door: Gate) -> tuple[float, float, float]:
    """Milliseconds from the opening of ``door`` until the instance is seen, until the sidecar
    first spoke, and until the server's last answer before."""
    id = _an_id()
    address = f"http://127.0.0.1:{door.port}/mcp"
    async with open_store(url) as store, sidecar(url, address, id) as it:
        watching = asyncio.create_task(listed(store, id))
        try:
            await it.says("waiting for the MCP server")
            await asyncio.sleep(_WAITED)
            opened = await door.open()
            seen = await watching
        finally:
            watching.cancel()
        first, last = door.first or seen, door.last or seen
        return (seen - opened) * 1000, (first - opened) * 1000, (last - opened) * 1000


async def _tools(http: aiohttp.ClientSession, url: str) -> None:
    """One round trip to an MCP server."""
    call = modern_call("tools/list", 1)
    headers = {
        **call.headers,
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
    }
    async with http.post(url, data=call.body, headers=headers) as response:
        body = await response.read()
        if response.status != 200 or b"inputSchema" not in body:
            raise RuntimeError(f"{url} answered {response.status}: {body[:200]!r}")


async def _written(http: aiohttp.ClientSession, url: str) -> None:
    """One round trip to a store: the value of one key."""
    scheme, _, place = url.partition("://")
    if scheme == "etcd":
        body = orjson.dumps({"key": encode("benchmark"), "value": encode("1")})
        request = http.post(f"http://{place}/v3/kv/put", data=body)
    else:
        request = http.put(f"http://{place}/v1/kv/benchmark", data=b"1")
    async with request as response:
        said = await response.read()
        if response.status != 200:
            raise RuntimeError(f"{url} answered {response.status}: {said[:200]!r}")
