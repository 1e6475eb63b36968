"""Requests a second: one list, asked for again and again, beside others that have the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from adapters import open_store
from adapters.store import Store
from benchmarks import data
from benchmarks.harness import Contender, Contest, Goal, Scale, row
from benchmarks.load import load
from benchmarks.processes import facade, fetched, free_port, process, python, tool
from mcp_discovery.health import healthy
from tests.stores.consul import ConsulServer

_INSTANCES = 1000
_QUESTION = f"/servers?tags={data.WANTED}"
_AT_ONCE = 32


def _rate(
    scale: Scale, url: str, facts: dict[str, str], name: str
) -> Callable[[], Awaitable[float]]:
    async def run() -> float:
        measured = await load(url, scale.of(5, 1))
        facts[name] = (
            f"p50 {measured.p50:.2f} ms, p99 {measured.p99:.2f} ms; "
            f"the generator used {measured.cpu:.0%} of a processor"
        )
        return measured.rate

    return run


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
    goals=(Goal(10, at_least=True),),
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
            ours = facade_url + _QUESTION
            facts["bytes"] = f"{len(await fetched(ours))} beside {len(await fetched(by_tag))}"
            alone = await load(await _alone(consul, by_tag), scale.of(5, 1))
            facts["Consul, a service of just these 20"] = f"{alone.rate:,.0f} requests/s"
            yield Contest(
                [Contender("facade", _rate(scale, ours, facts, "facade"))],
                Contender("Consul", _rate(scale, by_tag, facts, "Consul")),
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
    goals=(Goal(0.9, at_least=True),),
)
async def beside_aiohttp(scale: Scale) -> AsyncGenerator[Contest, None]:
    """One process each."""
    facts: dict[str, str] = {}
    async with python("benchmarks.served", str(_INSTANCES)) as (url, _):
        ours = url + _QUESTION
        own = await load(ours, scale.of(5, 1), headers={"X-Request-Id": "of-its-own"})
        facts["facade, where requests bring ids of their own"] = f"{own.rate:,.0f} requests/s"
        with _file(await fetched(ours)) as file:
            async with python("benchmarks.bare", file) as (bare, _):
                yield Contest(
                    [Contender("facade", _rate(scale, ours, facts, "facade"))],
                    Contender("aiohttp", _rate(scale, f"{bare}/servers", facts, "aiohttp")),
                    facts=facts,
                )


@row(
    3,
    "requests-nginx",
    "the same from two worker processes, beside nginx with one and the same bytes in a file",
    unit="requests/s",
    goals=(Goal(0.6, at_least=True),),
)
async def beside_nginx(scale: Scale) -> AsyncGenerator[Contest, None]:
    """The workers share one Consul; on a machine of two processors they share these with wrk."""
    facts: dict[str, str] = {}
    async with ConsulServer() as consul:
        store_url = f"consul://{consul.host}:{consul.port('http')}"
        async with open_store(store_url) as store:
            await fill(store, _INSTANCES)
        async with facade("--store", store_url, "--workers", "2") as (url, _):
            ours = url + _QUESTION
            with _file(await fetched(ours)) as file:
                async with _nginx(Path(file)) as theirs:
                    yield Contest(
                        [Contender("facade", _rate(scale, ours, facts, "facade"))],
                        Contender("nginx", _rate(scale, theirs, facts, "nginx")),
                        facts=facts,
                    )


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
    command = (tool("nginx"), "-e", f"{folder}/errors", "-p", str(folder))
    async with process(*command, "-c", f"{folder}/nginx.conf", ready=f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}/{file.name}"
