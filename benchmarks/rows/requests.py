"""Requests a second for one list, beside others that have the same.

Every request brings an id and an ``Authorization`` of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from benchmarks import data
from benchmarks.harness import Contender, Contest, Goal, Scale, Unavailable, row
from benchmarks.load_generator import load
from benchmarks.processes import answers, facade, fetched, free_port, process, python, tool
from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import Store
from mcp_discovery.health import healthy
from tests.stores.consul import ConsulServer

_INSTANCES = 1000
_QUERY = f"/servers?tags={data.WANTED}"
_AT_ONCE = 32


#: From this share of its core on, the generator may be what is measured.
_FULL = 0.95


def _under_load(
    scale: Scale, url: str, facts: dict[str, str], name: str, *, has_goal: bool = True
) -> Contender:
    """The server at ``url``, measured in requests a second."""
    full: list[str] = []
    rounds = itertools.count(1)

    async def run() -> float:
        number = next(rounds)
        measured = await load(url, scale)
        facts[name] = (
            f"p50 {measured.p50:.2f} ms, p99 {measured.p99:.2f} ms; "
            f"the generator used {measured.cpu:.0%} of a processor"
        )
        if measured.cpu > _FULL:
            full.append(f"{measured.cpu:.0%} in round {number}")
            facts[f"{name}, the generator was at its limit"] = ", ".join(full)
        return measured.rate

    return Contender(name, run, has_goal)


async def _listed(url: str) -> bytes:
    """The answer at ``url``, which must have the servers that are wanted."""
    body = await fetched(url)
    answer = orjson.loads(body)
    found = answer if isinstance(answer, list) else answer["servers"]
    if len(found) != data.WANTED_COUNT:
        raise RuntimeError(f"{url} has {len(found)} servers, not {data.WANTED_COUNT}")
    return body


async def _same(url: str, body: bytes) -> None:
    """Raises unless the response of ``url`` has the bytes of ``body``."""
    if await fetched(url) != body:
        raise RuntimeError(f"{url} does not answer with the bytes that the facade gave")


async def fill(store: Store, count: int) -> None:
    """Registers ``count`` instances in ``store``; they live for an hour unheard of."""
    numbers = iter(range(count))

    async def register() -> None:
        for number in numbers:
            registration = await store.register(
                data.record(number),
                data.document(number),
                ttl=data.LEASE.ttl,
                reap_after=data.LEASE.reap_after,
            )
            await registration.heartbeat(healthy())

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(register())


@row(
    1,
    "requests-consul",
    "GET /servers?tags=…, 20 of 1,000, beside Consul's health of the same 20 by tag",
    unit="requests/s",
    goals=(Goal(5, at_least=True),),
)
async def beside_consul(scale: Scale) -> AsyncGenerator[Contest, None]:
    """The facade watches the very Consul that is asked beside it."""
    facts: dict[str, str] = {}
    async with ConsulServer() as consul:
        url = f"consul://{consul.host}:{consul.port('http')}"
        async with open_store(url) as store:
            await fill(store, _INSTANCES)
        by_tag = f"http{url.removeprefix('consul')}/v1/health/service/mcp?passing&tag={data.WANTED}"
        async with facade("--store", url) as (facade_url, _):
            ours = facade_url + _QUERY
            alone = await _alone(consul, by_tag)
            sizes = [str(len(await _listed(each))) for each in (ours, by_tag, alone)]
            facts["bytes of facade, Consul and Consul's service of just these 20"] = ", ".join(
                sizes
            )
            just = "Consul, a service of just these 20"
            yield Contest(
                [
                    _under_load(scale, ours, facts, "facade"),
                    _under_load(scale, alone, facts, just, has_goal=False),
                ],
                _under_load(scale, by_tag, facts, "Consul"),
                facts=facts,
            )


async def _alone(consul: ConsulServer, by_tag: str) -> str:
    """Registers what ``by_tag`` finds as a service of its own; gives the URL of its health."""
    for number, found in enumerate(orjson.loads(await fetched(by_tag))):
        service = {key: found["Service"][key] for key in ("Tags", "Meta", "Address", "Port")}
        await consul.api(
            "PUT",
            "/v1/agent/service/register",
            body=service
            | {"Name": "alone", "ID": f"alone-{number}"}
            | {"Check": {"TTL": "1h", "Status": "passing"}},
        )
    return by_tag.partition("/v1/")[0] + "/v1/health/service/alone?passing"


@row(
    2,
    "requests-aiohttp",
    "the same, beside a bare aiohttp handler with the same bytes",
    unit="requests/s",
    goals=(Goal(0.75, at_least=True),),
)
async def beside_aiohttp(scale: Scale) -> AsyncGenerator[Contest, None]:
    """One process each, in the same kind of event loop, with the same requests."""
    facts: dict[str, str] = {}
    async with python("benchmarks.filled_facade", str(_INSTANCES)) as (url, _):
        ours = url + _QUERY
        body = await _listed(ours)
        with _file(body) as file:
            async with python("benchmarks.bare_aiohttp", file) as (bare, _):
                theirs = bare + _QUERY
                await _same(theirs, body)
                yield Contest(
                    [_under_load(scale, ours, facts, "facade")],
                    _under_load(scale, theirs, facts, "aiohttp"),
                    facts=facts,
                )


@row(
    3,
    "requests-nginx",
    "the same from two worker processes, beside nginx with one and the same bytes in a file",
    unit="requests/s",
    goals=(Goal(0.25, at_least=True),),
)
async def beside_nginx(scale: Scale) -> AsyncGenerator[Contest, None]:
    """The workers share one Consul, and on two processors they share these with wrk.

    It has no goal: what a server that parses each request in C does with a file is there to be
    known.
    """
    facts: dict[str, str] = {}
    async with ConsulServer() as consul:
        store_url = f"consul://{consul.host}:{consul.port('http')}"
        async with open_store(store_url) as store:
            await fill(store, _INSTANCES)
        async with facade("--store", store_url, "--workers", "2") as (url, _):
            await _all_ready(url)
            ours = url + _QUERY
            body = await _listed(ours)
            with _file(body) as file:
                async with _nginx(Path(file)) as theirs:
                    await _same(theirs, body)
                    yield Contest(
                        [_under_load(scale, ours, facts, "facade", has_goal=False)],
                        _under_load(scale, theirs, facts, "nginx"),
                        facts=facts,
                    )


async def _all_ready(url: str) -> None:
    """Waits until many new connections in a row are answered that all is ready: any worker may
    take any of them."""
    in_a_row = 0
    async with asyncio.timeout(60):
        while in_a_row < 20:
            ready = await answers(f"{url}/ready")
            in_a_row = in_a_row + 1 if ready else 0
            await asyncio.sleep(0 if ready else 0.1)


@contextmanager
def _file(body: bytes) -> Iterator[str]:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # workers of an nginx that root has started are nobody's
        file = Path(folder) / "servers.json"
        file.write_bytes(body)
        yield str(file)


@asynccontextmanager
async def _nginx(file: Path) -> AsyncIterator[str]:
    """nginx with one worker that serves ``file``; gives the file's URL."""
    folder, port = file.parent, free_port()
    paths = "".join(
        f"{each}_temp_path {folder}/{each};"
        for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        "daemon off; worker_processes 1; "
        f"pid {folder}/pid; error_log {folder}/errors; events {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n"
        f"{paths} default_type application/json; open_file_cache max=16;\n"
        f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    # Not -e, which nginx has since 1.19.5: an older one warns where it cannot write its own log.
    command = (tool("nginx"), "-p", str(folder), "-c", f"{folder}/nginx.conf")
    await _accepts(*command, "-t")
    async with process(*command, ready=f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}/{file.name}"


async def _accepts(*command: str) -> None:
    """Raises :class:`Unavailable` where this nginx does not take our configuration."""
    tested = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=10
    )
    if tested.returncode != 0:
        raise Unavailable(f"nginx does not take our configuration: {tested.stderr.strip()}")
