"""How servers are checked that strangers posted: so that what they learn by it is no port scan.

Whoever may post without being known could post any address in the facade's network, and read from
the reason, or from when it comes, whether a port is closed, filtered, or has another protocol.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mcp_discovery.health import Status
from mcp_discovery.probe import Probe, UnreachableError
from mcp_discovery.probe.verdict import Reply, Verdict
from mcp_discovery.registrant.watcher import HealthCheck, HealthCheckResult

log = logging.getLogger(__name__)

#: What is said of all of them that do not answer as an MCP server, whatever they do instead.
CONCEALED: Final = "no MCP server answers there; the facade's log says why"


@dataclass(eq=False, slots=True, kw_only=True)
class StrangersHealthCheck(HealthCheck):
    """Checks as any other does, and says of all that is no MCP server the same, after the same
    time. ``name`` is for the log."""

    name: str

    async def run(
        self,
        probe: Probe | None,
        *,
        timeout: float,
        mcp_timeout: float | None = None,
        along: bool = False,
        on_late: Callable[[Verdict], None] | None = None,
    ) -> HealthCheckResult:
        """See :class:`HealthCheck`. One that is late is not told of before it has answered."""
        began = time.monotonic()
        # Without ``super()``, which a class with slots made by a decorator does not find.
        found = await HealthCheck.run(
            self, probe, timeout=timeout, mcp_timeout=mcp_timeout, along=along
        )
        spoke = found.mcp is not None and found.mcp.failure is None
        if found.verdict.status is Status.HEALTHY or spoke:
            return found
        log.info("%s: %s", self.name, found.verdict.reason)
        patience = max(timeout, mcp_timeout or 0.0)
        await asyncio.sleep(began + patience - time.monotonic())
        failure = UnreachableError(CONCEALED)
        return HealthCheckResult(Verdict(Status.DOWN, CONCEALED), Reply(failure=failure))
