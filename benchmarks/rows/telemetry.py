"""What traces and metrics over OTLP cost a facade."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from benchmarks import data
from benchmarks.harness import Contender, Contest, Goal, Scale, row
from benchmarks.load_generator import load
from benchmarks.processes import python

_INSTANCES = 1000
_QUERY = f"/servers?tags={data.WANTED}"


@asynccontextmanager
async def _receiver() -> AsyncIterator[str]:
    """Takes OTLP/HTTP, and forgets it; gives its URL."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(content_type="application/x-protobuf")

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/{signal}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _sampled(url: str, share: float) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": f"{share:g}",
    }


@row(
    13,
    "telemetry",
    "GET /servers?tags=…, 20 of 1,000, with traces, metrics and logs over OTLP, beside none",
    unit="requests/s",
    goals=(Goal(0.95, at_least=True),),
)
async def beside_none(scale: Scale) -> AsyncGenerator[Contest, None]:
    """One trace of a hundred is recorded, and, without a goal, each."""
    module, count = "benchmarks.filled_facade", str(_INSTANCES)
    async with (
        _receiver() as receiver,
        python(module, count) as (plain, _),
        python(module, count, environment=_sampled(receiver, 0.01)) as (one, _),
        python(module, count, environment=_sampled(receiver, 1)) as (each, _),
    ):

        def under_load(url: str) -> Callable[[], Awaitable[float]]:
            # Not in bursts: what is sent once in seconds is shared by all requests meanwhile.
            async def rate() -> float:
                return (await load(url + _QUERY, scale)).rate

            return rate

        contenders = [
            Contender("1 % of traces", under_load(one)),
            Contender("all traces", under_load(each), has_goal=False),
        ]
        yield Contest(contenders, Contender("without", under_load(plain)))
