"""The probe loop: asks the MCP server whether it lives, and turns the answers into health."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

import aiohttp

from mcp_discovery.health import ANSWERS, Health, Status
from mcp_discovery.probe import (
    McpProbe,
    NoAnswerError,
    NotOkError,
    ProbeError,
    UnreachableError,
    probe_health_url,
)
from mcp_discovery.sidecar.advertise import dialled_url
from mcp_discovery.sidecar.door import Door, pause
from mcp_discovery.sidecar.settings import Settings, public
from mcp_discovery.sidecar.tasks import alongside, happens

log = logging.getLogger(__name__)

#: Parts of the interval: the pause after an answer, at most, and the patience with the next one.
#: Together they are less than the whole, so that even a server that hangs right after it answered
#: is found within the interval. The next probe starts after the last one ended, so a slow server is
#: never asked twice at once.
_PAUSE = 0.25
_PATIENCE = 0.7

#: A server that does not answer is asked again after this pause, or as soon as it listens, …
_RETRY = 0.25
#: … with this time-out, so that it is found soon after it came up, …
_QUICK = 1.0
#: … and, when it does not answer at once, with this one as well: it may be slow.
_PATIENT = 15.0
_AT_ONCE = 0.25

#: How long a connection has to last to be taken for more than a false start.
_WORTH_IT = 1.0

#: How often to say that the server is still awaited.
_STILL_WAITING = 30.0


def pause_between_probes(settings: Settings) -> float:
    """Seconds from an answer to the next probe: a whole number of them makes the time between two
    heartbeats, so that probe and heartbeat wake an idle process together."""
    return settings.beat_every / math.ceil(settings.beat_every / (_PAUSE * settings.interval))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found; ``at`` is when, by ``time.monotonic()``."""

    health: Health
    at: float


class HealthUrlError(ProbeError):
    """The health URL gave no answer, while the MCP server may well have."""


class Watchdog:
    """Watches one MCP server.

    ``make_probe`` makes a new probe of it; ``found`` is called with each finding; ``follow`` runs
    beside the probing for as long as one probe stays connected.
    """

    def __init__(
        self,
        settings: Settings,
        http: aiohttp.ClientSession,
        make_probe: Callable[[], McpProbe],
        *,
        found: Callable[[Finding], None],
        follow: Callable[[McpProbe], Coroutine[Any, Any, None]],
    ) -> None:
        self._http = http
        self._make_probe = make_probe
        self._found = found
        self._follow = follow
        self._health_url = settings.health_url
        self._door = Door.of(dialled_url(settings.url))
        self._interval = settings.interval
        self._pause = pause_between_probes(settings)
        # Rounded, because both are read in reasons.
        self._timeout = round(_PATIENCE * settings.interval, 2)
        self._longest = max(self._timeout, round(settings.ttl / 2, 2))
        self._slow = round(settings.slow, 2)
        self._lag = 0.0  # how long the server's last answer took
        self._look_now = asyncio.Event()
        self._health: Health | None = None
        self._failure: ProbeError | None = None
        self._place = public(settings.url)
        self._waiting_told: float | None = None
        self.turned = time.monotonic()
        """When the loop last came round."""

    def look(self) -> None:
        """Probes at once: something hints at a change."""
        self._look_now.set()

    async def run(self) -> NoReturn:
        """Waits for the server, watches it until it fails, and so on."""
        while True:
            probe = await self._reached()
            reached = time.monotonic()
            # A modern server was greeted with the very question that a probe asks.
            answered = probe.era == "modern" and self._lag <= self._slow
            try:
                async with alongside(self._follow(probe)):
                    await self._watch(probe, answered=answered and self._health_url is None)
            finally:
                await probe.close()
            # A server that shakes hands and fails the first probe is not worth a hurry.
            await self._rest(_RETRY if time.monotonic() - reached > _WORTH_IT else _WORTH_IT)

    async def _watch(self, probe: McpProbe, *, answered: bool) -> None:
        """Probes until the MCP server fails a probe; ``answered`` says that it just did."""
        while True:
            self._turn()
            try:
                degraded = "" if answered else await self._check(probe)
            except HealthUrlError as failure:
                # The MCP server itself answers: its connection stays.
                self._failed(failure)
                await self._rest(_RETRY)
                continue
            except ProbeError as failure:
                self._failed(failure)
                return
            self._failure = None
            answered = False
            if degraded:
                self._conclude(Status.DEGRADED, degraded)
            else:
                self._conclude(Status.HEALTHY, ANSWERS)
            await self._rest(self._pause)

    @property
    def _patience(self) -> float:
        """How long to wait for an answer.

        A server that is known to be slow is ``degraded``, and offered to nobody, while it is waited
        for: it gets the time that it takes, within the half of TTL.
        """
        if self._lag <= self._slow:
            return self._timeout
        return min(max(self._timeout, round(2 * self._lag, 2)), self._longest)

    async def _check(self, probe: McpProbe) -> str:
        """One probe: why the server is degraded, ``""`` when it is not. Raises ``ProbeError``."""
        if self._health_url is None:
            return await self._ping(probe)
        async with alongside(self._asked(probe), self._health_status(self._health_url)) as asked:
            ping, health = asked
            _, pending = await asyncio.wait(
                asked, timeout=self._slow, return_when=asyncio.FIRST_EXCEPTION
            )
            slow = f"slower than {self._slow:g} s" if pending else ""
            if pending and not any(task.done() and task.exception() for task in asked):
                complaint = str(health.result()) if health.done() else ""
                self._conclude(Status.DEGRADED, complaint or slow)
                await asyncio.wait(asked, return_when=asyncio.FIRST_EXCEPTION)
            for task in (ping, health):
                if task.done():
                    task.result()
            self._lag = ping.result()
            return str(health.result()) or slow

    async def _asked(self, probe: McpProbe) -> float:
        """One round trip, in seconds; it also looks for what the server has changed."""
        return await probe.ping(self._patience, reading_within=self._interval)

    async def _ping(self, probe: McpProbe) -> str:
        slow = ""

        def tell() -> None:
            nonlocal slow
            slow = f"slower than {self._slow:g} s"
            self._conclude(Status.DEGRADED, slow)

        told = asyncio.get_running_loop().call_later(self._slow, tell)
        try:
            self._lag = await self._asked(probe)
        finally:
            told.cancel()
        return slow

    async def _health_status(self, url: str) -> str:
        """What the health URL complains of; ``""`` when nothing. Raises ``ProbeError``."""
        try:
            await probe_health_url(self._http, url, self._timeout)
        except NotOkError as answer:
            return f"health URL answered {answer.status}"
        except ProbeError as failure:
            raise HealthUrlError(f"health URL: {failure}") from failure
        return ""

    async def _reached(self) -> McpProbe:
        """A connected probe, as soon as the server answers, however slow it is."""
        attempts: list[asyncio.Task[McpProbe]] = []
        awaited = False  # at the door, before the last attempt
        try:
            while True:
                self._turn()
                timeout = _QUICK if attempts else _PATIENT
                newest = asyncio.create_task(self._connected(timeout))
                attempts.append(newest)
                end = time.monotonic() + _QUICK
                while not newest.done() and (left := end - time.monotonic()) > 0:
                    await asyncio.wait(attempts, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                    if (probe := _success(attempts)) is not None:
                        return probe
                failure = newest.exception() if newest.done() else None
                self._failed(failure if isinstance(failure, ProbeError) else NoAnswerError(_QUICK))
                if not attempts:
                    # A door that seems open, and a connection that is refused: not in a hurry.
                    awaited = not awaited and isinstance(failure, UnreachableError)
                    await (self._until_open() if awaited else self._rest(_RETRY))
                    continue
                await asyncio.wait(attempts, timeout=_RETRY, return_when=asyncio.FIRST_COMPLETED)
                if (probe := _success(attempts)) is not None:
                    return probe
        finally:
            await _given_up(attempts)

    async def _until_open(self) -> None:
        """Waits while nobody listens at the server's port; where that cannot be seen, a moment."""
        if self._door is None or not self._door.is_shut():
            await self._rest(_RETRY)
            return
        began = told = time.monotonic()
        while self._door.is_shut():
            now = time.monotonic()
            if now - told >= _RETRY:
                self._turn()
                self._failed(UnreachableError("connection refused"))
                told = now
            await asyncio.sleep(pause(now - began, _RETRY))

    async def _connected(self, timeout: float) -> McpProbe:
        probe = self._make_probe()
        began = time.monotonic()
        try:
            await probe.connect(timeout)
        except BaseException:
            await probe.close()
            raise
        self._lag = time.monotonic() - began
        return probe

    def _failed(self, failure: ProbeError) -> None:
        # A reason that only differs in a time-out is the same reason: it must not churn the store.
        same = isinstance(failure, NoAnswerError) and isinstance(self._failure, NoAnswerError)
        if self._failure is None or not same:
            self._failure = failure
        if self._health is not None:
            self._conclude(Status.DOWN, str(self._failure))
            return
        now = time.monotonic()
        if self._waiting_told is None:
            log.info("waiting for the MCP server at %s: %s", self._place, failure)
            self._waiting_told = now
        elif now - self._waiting_told >= _STILL_WAITING:
            log.warning("still waiting for the MCP server at %s: %s", self._place, failure)
            self._waiting_told = now

    def _conclude(self, status: Status, reason: str) -> None:
        before = self._health
        if before is None:
            health = Health(status, reason)
        else:
            health = before.then(status, reason, heard=status is not Status.DOWN)
        self._health = health
        if before is not None and health != before:
            level = logging.INFO if status is Status.HEALTHY else logging.WARNING
            log.log(level, "%s: %s (was %s)", status, reason, before.status)
        self._found(Finding(health, time.monotonic()))

    def _turn(self) -> None:
        self.turned = time.monotonic()
        self._look_now.clear()

    async def _rest(self, pause: float) -> None:
        await happens(self._look_now, pause)


def _success(attempts: list[asyncio.Task[McpProbe]]) -> McpProbe | None:
    """What one of ``attempts`` connected, if any has; those that ended are taken out of the list.

    Raises what no attempt should end with.
    """
    for attempt in [each for each in attempts if each.done()]:
        attempts.remove(attempt)
        try:
            return attempt.result()
        except ProbeError:
            continue
    return None


async def _given_up(attempts: Iterable[asyncio.Task[McpProbe]]) -> None:
    """Ends attempts that nobody waits for any more, and closes what they connected."""
    for attempt in attempts:
        attempt.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, McpProbe):
            await result.close()
