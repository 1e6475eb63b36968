"""One look at a server from outside: what its MCP endpoint and its health URL answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus

import aiohttp

from mcp_discovery.health import ANSWERS, Status
from mcp_discovery.probe import (
    BadAnswerError,
    Introspection,
    McpProbe,
    NotOkError,
    ProbeError,
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
    """A status with its reason, and all that the server offers where it told.

    ``latency`` is how many seconds the server took to answer well, to MCP if it was asked that;
    ``asked`` is false where there was nothing to ask.
    """

    status: Status
    reason: str
    introspection: Introspection | None = None
    latency: float | None = None
    asked: bool = True


@dataclass(frozen=True, slots=True)
class _Reply:
    """What came of one question; ``seconds`` where it was answered well."""

    outcome: Outcome
    reason: str
    seconds: float | None = None
    introspection: Introspection | None = None

    @property
    def alone(self) -> Status:
        """The verdict on a server that was asked nothing else."""
        status = {Outcome.OK: Status.HEALTHY, Outcome.WRONG: Status.DEGRADED}
        return status.get(self.outcome, Status.DOWN)


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
                return Finding(Status.DEGRADED, NOT_DIALLED, asked=False)
            health = await self._ask_health_url(self._health_url)
            return Finding(health.alone, health.reason, latency=health.seconds)
        if self._health_url is None:
            mcp = await self._ask_mcp(self._probe)
            return Finding(mcp.alone, mcp.reason, mcp.introspection, mcp.seconds)
        mcp, health = await asyncio.gather(
            self._ask_mcp(self._probe), self._ask_health_url(self._health_url)
        )
        status, reason = _both(mcp.outcome, mcp.reason, health.outcome, health.reason)
        latency = health.seconds if mcp.seconds is None else mcp.seconds
        return Finding(status, reason, mcp.introspection, latency)

    async def close(self) -> None:
        """Ends what is open towards the server."""
        if self._probe is not None:
            await self._probe.close()

    async def _ask_mcp(self, probe: McpProbe) -> _Reply:
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            seconds = await probe.ping(self._timeout)
        except BadAnswerError as error:
            if error.wants_credentials and self._asks_for_credentials:
                why = "answers, and asks for credentials as its record says"
                return _Reply(Outcome.OK, why, clock() - started)
            # A way that leads back to a facade reaches no server, whatever a health URL says.
            nowhere = error.status == HTTPStatus.LOOP_DETECTED and self._health_url is not None
            return _Reply(Outcome.SILENT if nowhere else Outcome.WRONG, str(error))
        except ProbeError as error:
            return _Reply(Outcome.SILENT, str(error))
        try:
            # It lives, whatever comes of its lists: what was known of them stays.
            offered = await probe.introspect(max(0.1, started + self._timeout - clock()))
        except ProbeError:
            offered = None
        return _Reply(Outcome.OK, ANSWERS, seconds, offered)

    async def _ask_health_url(self, url: str) -> _Reply:
        try:
            seconds = await probe_health_url(self._session, url, self._timeout)
        except NotOkError as error:
            return _Reply(Outcome.WRONG, str(error))
        except ProbeError as error:
            return _Reply(Outcome.SILENT, f"its health endpoint: {error}")
        return _Reply(Outcome.OK, "its health endpoint answers", seconds)


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
