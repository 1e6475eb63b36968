"""One look at a server from outside: what its MCP endpoint and its health URL answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

import aiohttp

from mcp_discovery.health import ANSWERS, Status
from mcp_discovery.probe import (
    BadAnswer,
    Introspection,
    McpProbe,
    NotOk,
    ProbeFailed,
    probe_health_url,
)
from mcp_discovery.record import Record

#: The reason of a stdio server without a health URL: there is nothing that could be dialled.
NOT_DIALLED = "not probed: its clients start it themselves"


class Outcome(Enum):
    """What came of asking."""

    OK = "ok"
    WRONG = "answered, but not OK"
    SILENT = "no answer"


@dataclass(frozen=True, slots=True)
class Finding:
    """A status with its reason, and all that the server offers where it told."""

    status: Status
    reason: str
    introspection: Introspection | None = None


class Examiner:
    """Examines one server, as often as it is asked to. ``session`` stays the caller's."""

    def __init__(self, record: Record, session: aiohttp.ClientSession, timeout: float) -> None:
        """``timeout`` in seconds is for each question, both of which are asked at once."""
        self._session = session
        self._timeout = timeout
        self._health_url = record.health_url
        self._asks_for_credentials = record.auth.type != "none"
        self._probe: McpProbe | None = None
        if record.endpoint.url is not None:
            self._probe = McpProbe(
                record.endpoint.url, transport=record.endpoint.transport, session=session
            )

    async def examine(self) -> Finding:
        """Asks, and judges the answers; never raises for what a server does."""
        if self._probe is None:
            if self._health_url is None:
                return Finding(Status.DEGRADED, NOT_DIALLED)
            health, why = await self._ask_health_url(self._health_url)
            status = {Outcome.OK: Status.HEALTHY, Outcome.WRONG: Status.DEGRADED}
            return Finding(status.get(health, Status.DOWN), why)
        if self._health_url is None:
            mcp, reason, introspection = await self._ask_mcp(self._probe)
            status = {Outcome.OK: Status.HEALTHY, Outcome.WRONG: Status.DEGRADED}
            return Finding(status.get(mcp, Status.DOWN), reason, introspection)
        (mcp, reason, introspection), (health, why) = await asyncio.gather(
            self._ask_mcp(self._probe), self._ask_health_url(self._health_url)
        )
        return Finding(*_both(mcp, reason, health, why), introspection)

    async def close(self) -> None:
        """Ends what is open towards the server."""
        if self._probe is not None:
            await self._probe.close()

    async def _ask_mcp(self, probe: McpProbe) -> tuple[Outcome, str, Introspection | None]:
        clock = asyncio.get_running_loop().time
        until = clock() + self._timeout
        try:
            await probe.ping(self._timeout)
        except BadAnswer as error:
            if error.wants_credentials and self._asks_for_credentials:
                return Outcome.OK, "answers, and asks for credentials as its record says", None
            return Outcome.WRONG, str(error), None
        except ProbeFailed as error:
            return Outcome.SILENT, str(error), None
        try:
            # It lives, whatever comes of its lists: what was known of them stays.
            return Outcome.OK, ANSWERS, await probe.introspect(max(0.1, until - clock()))
        except ProbeFailed:
            return Outcome.OK, ANSWERS, None

    async def _ask_health_url(self, url: str) -> tuple[Outcome, str]:
        try:
            await probe_health_url(self._session, url, self._timeout)
        except NotOk as error:
            return Outcome.WRONG, str(error)
        except ProbeFailed as error:
            return Outcome.SILENT, f"its health endpoint: {error}"
        return Outcome.OK, "its health endpoint answers"


def _both(mcp: Outcome, reason: str, health: Outcome, why: str) -> tuple[Status, str]:
    """The verdict on a server that has both.

    Its health URL is how it wants to be judged as long as that and its MCP endpoint are reached;
    of two that are not both reached, the one that is keeps it from being ``down``.
    """
    match health, mcp:
        case Outcome.OK, Outcome.OK:
            return Status.HEALTHY, reason
        case Outcome.OK, Outcome.WRONG:
            return Status.HEALTHY, f"its health endpoint answers; its MCP endpoint: {reason}"
        case Outcome.OK, Outcome.SILENT:
            return Status.DEGRADED, f"its health endpoint answers; its MCP endpoint: {reason}"
        case Outcome.WRONG, _:
            return Status.DEGRADED, why
        case Outcome.SILENT, Outcome.OK:
            return Status.DEGRADED, f"answers MCP; {why}"
        case _:
            return Status.DOWN, why
