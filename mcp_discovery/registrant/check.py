"""One health check: a server's MCP endpoint and its health URL are asked at once and judged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from mcp_discovery.health import Status
from mcp_discovery.probe import McpProbe, ProbeError, probe_health_url
from mcp_discovery.probe.verdict import Reply, Verdict, verdict
from mcp_discovery.registrant.tasks import alongside


@dataclass(frozen=True, slots=True)
class HealthCheckResult:
    """The verdict, and the two answers that it was made of; ``None`` where nothing was asked."""

    verdict: Verdict
    mcp: Reply | None = None
    health: Reply | None = None

    @property
    def asked(self) -> bool:
        """Whether there was anything to ask."""
        return self.mcp is not None or self.health is not None

    @property
    def failed(self) -> bool:
        """Whether an answer was missing or bad; one that is merely late is neither."""
        failures = [each.failure for each in (self.mcp, self.health) if each is not None]
        return self.verdict.status is not Status.HEALTHY and any(failures)

    @property
    def latency(self) -> float | None:
        """Seconds that the answer took, of MCP if that answered; ``None`` without an answer."""
        seconds = [each.seconds for each in (self.mcp, self.health) if each is not None]
        return next((each for each in seconds if each is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How one server is checked, as often as it is asked for.

    ``http`` is for the health URL and stays the caller's. ``slow_after`` is the time in seconds
    after which an answer is late. ``expects_credentials`` says that the record announces
    credentials and that the probes carry none.
    """

    http: aiohttp.ClientSession
    health_url: str | None
    slow_after: float
    expects_credentials: bool = False

    async def run(
        self,
        probe: McpProbe | None,
        *,
        timeout: float,
        mcp_timeout: float | None = None,
        reading_within: float | None = None,
        on_late: Callable[[Verdict], None] | None = None,
    ) -> HealthCheckResult:
        """Asks, and judges the answers; never raises for what a server does.

        Each question may take ``timeout`` seconds, the one to MCP ``mcp_timeout`` where that is
        given. ``reading_within`` is as in :meth:`McpProbe.ping`. ``on_late`` is called with the
        verdict as far as it is known when the slow-after time is over.
        """
        mcp = Reply() if probe is not None else None
        health = Reply() if self.health_url is not None else None
        slower_than: float | None = None

        def judge() -> Verdict:
            return verdict(
                mcp,
                health,
                slower_than=slower_than,
                expects_credentials=self.expects_credentials,
            )

        def late() -> None:
            nonlocal slower_than
            slower_than = self.slow_after
            if on_late is not None:
                on_late(judge())

        async def ask_mcp(probe: McpProbe) -> None:
            nonlocal mcp
            began = time.monotonic()
            try:
                seconds = await probe.ping(mcp_timeout or timeout, reading_within=reading_within)
                mcp = Reply(seconds)
            except ProbeError as failure:
                mcp = Reply(failure=failure)
                if judge().status is not Status.DOWN:  # a refusal that counts as an answer
                    mcp = Reply(time.monotonic() - began, failure)

        async def ask_health(url: str) -> None:
            nonlocal health
            try:
                health = Reply(await probe_health_url(self.http, url, timeout))
            except ProbeError as failure:
                health = Reply(failure=failure)

        timer = asyncio.get_running_loop().call_later(self.slow_after, late)
        try:
            if probe is not None and self.health_url is not None:
                async with alongside(ask_mcp(probe), ask_health(self.health_url)) as (first, other):
                    await asyncio.wait({first})
                    first.result()
                    if judge().status is not Status.DOWN:  # otherwise the health URL cannot help
                        await other
            elif probe is not None:
                await ask_mcp(probe)
            elif self.health_url is not None:
                await ask_health(self.health_url)
        finally:
            timer.cancel()
        return HealthCheckResult(judge(), mcp, health)
