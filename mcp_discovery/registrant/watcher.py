"""Asks one MCP server whether it lives, once or in a loop, and turns the answers into health."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NoReturn

import aiohttp

from mcp_discovery.health import FAIL_AFTER, Health, Status
from mcp_discovery.probe import (
    SYSTEM_TLS,
    Probe,
    ProbeError,
    ServerTls,
    probe_health_url,
)
from mcp_discovery.probe.bearer import BearerAuth
from mcp_discovery.probe.standing import Standing
from mcp_discovery.probe.verdict import (
    Reply,
    Verdict,
    at_address,
    limits_requests,
    mcp_verdict,
    of_agent,
    unless_repeated,
    unless_unread,
    verdict,
)
from mcp_discovery.registrant.arrival import Arrival, LocalPort
from mcp_discovery.registrant.tasks import alongside, is_set
from mcp_discovery.telemetry import spans

log = logging.getLogger(__name__)

#: Seconds between two log lines that say that the server is still awaited.
_STILL_WAITING = 30.0
#: The longest pause, in seconds, for a server that says how long it does not want to be asked, and
#: for one that only says that it is asked too often, unless its usual pause is longer.
_LONGEST_QUIET, _USUAL_QUIET = 300.0, 30.0
#: The loop comes round at least every so many seconds, however long a pause is.
_ROUND = 10.0
#: The longest pause, in seconds, that a slow server is given after it failed.
_LONGEST_BREATH = 15.0
#: The longest reason that a record of health holds, in characters.
_LONGEST_REASON = 500


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
    def failure(self) -> ProbeError | None:
        """What was wrong with the answer that the status hangs on: of MCP, if that was asked."""
        decisive = self.mcp or self.health
        return None if decisive is None else decisive.failure

    @property
    def latency(self) -> float | None:
        """Seconds that the answer took, of MCP if that answered; ``None`` without an answer."""
        seconds = [each.seconds for each in (self.mcp, self.health) if each is not None]
        return next((each for each in seconds if each is not None), None)


@dataclass(eq=False, slots=True, kw_only=True)
class HealthCheck:
    """How one server is checked, as often as it is asked for.

    ``http`` is for the health URL and stays the caller's; ``tls`` is how the certificate there is
    verified, ``auth`` what adds the credentials for it in the place of those of ``http``.
    ``slow_after`` is the time in seconds after which an answer is late. ``expects_credentials``
    says that the record announces credentials and that the probes carry none. ``address``
    gives what was found at the advertised address. ``process`` gives why the server's process
    cannot answer, where that is known: then it is down for that. ``agent`` says that it is an
    A2A agent.
    """

    http: aiohttp.ClientSession
    health_url: str | None
    slow_after: float
    expects_credentials: bool = False
    tls: ServerTls = SYSTEM_TLS
    auth: BearerAuth | None = None
    address: Callable[[], Verdict | None] = lambda: None
    process: Callable[[], str | None] = lambda: None
    agent: bool = False
    _health: Reply | None = field(default=None, init=False)  # its last bad answer
    _health_quiet_until: float = field(default=-math.inf, init=False)  # monotonic seconds

    def expects(self, probe: Probe | None) -> bool:
        """Whether the record, or what ``probe`` has read, announces credentials that it lacks."""
        return self.expects_credentials or (probe is not None and probe.wants_credentials)

    async def run(
        self,
        probe: Probe | None,
        *,
        timeout: float,
        mcp_timeout: float | None = None,
        along: bool = False,
        on_late: Callable[[Verdict], None] | None = None,
    ) -> HealthCheckResult:
        """Asks, and judges the answers; never raises for what a server does.

        Each question may take ``timeout`` seconds, the one to MCP ``mcp_timeout`` where that is
        given. ``along`` is as in :meth:`Probe.ping`. ``on_late`` is called with the
        verdict as far as it is known when the slow-after time is over.
        """
        mcp = Reply() if probe is not None else None
        health = Reply() if self.health_url is not None else None
        slower_than: float | None = None

        def judge() -> Verdict:
            expects = self.expects(probe)
            found = verdict(mcp, health, slower_than=slower_than, expects_credentials=expects)
            return of_agent(found) if self.agent else found

        def late() -> None:
            nonlocal slower_than
            slower_than = self.slow_after
            if on_late is not None:
                on_late(judge())

        async def ask_mcp(probe: Probe) -> None:
            nonlocal mcp
            began = time.monotonic()
            try:
                seconds = await probe.ping(mcp_timeout or timeout, along=along)
                mcp = Reply(seconds)
            except ProbeError as failure:
                mcp = Reply(failure=failure)
                if judge().status is not Status.DOWN:  # a refusal that counts as an answer
                    mcp = Reply(time.monotonic() - began, failure)

        async def ask_health(url: str) -> None:
            nonlocal health
            if self._health is not None and time.monotonic() < self._health_quiet_until:
                health = self._health
                return
            try:
                seconds = await probe_health_url(
                    self.http, url, timeout, tls=self.tls, auth=self.auth
                )
                health = Reply(seconds)
            except ProbeError as failure:
                if self.auth is not None:
                    failure.conceal(self.auth.secrets())
                self._health = health = Reply(failure=failure)
                wished = (failure.retry_after or 0.0) if limits_requests(failure) else 0.0
                self._health_quiet_until = time.monotonic() + min(wished, _LONGEST_QUIET)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often one server is probed, and how patiently. Times are in seconds.

    ``pause`` lies between an answer and the next probe, which starts after the last one ended, so
    a slow server is never asked twice at once. Where more than the probes was asked it is longer,
    up to twice as long, so that on average no more than one request is made in each ``pause``
    (:class:`~mcp_discovery.probe.allowance.Allowance`). It is infinite where nobody wants probes
    but those that :meth:`Watcher.probe` asks for. After a probe that failed the pause is ``retry``,
    doubled by each further failure up to ``longest_retry``. Every pause is varied by the part
    ``jitter``; with that the first one is drawn from the whole, so that who began together soon is
    apart.

    A server is ``down`` after ``fail_after`` bad answers in a row; without that, as
    :func:`~mcp_discovery.probe.verdict.unless_repeated` says.

    ``timeout`` is for an answer. A server that is known to be slow, and so ``degraded``, is given
    twice the time that it took, ``longest_timeout`` at most. Reading all that it offers may take
    ``reading_timeout``.
    """

    pause: float
    timeout: float
    longest_timeout: float
    retry: float
    longest_retry: float
    jitter: float = 0.0
    fail_after: int | None = None
    reading_timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class ProbeFinding:
    """What a probe found; ``at`` is when, by ``time.monotonic()``.

    ``result`` is there when the probe has ended; a finding without one says what is known so far.
    """

    health: Health
    at: float
    result: HealthCheckResult | None = None


@dataclass(eq=False, kw_only=True)
class Watcher:
    """Watches one MCP server.

    ``make_probe`` makes a probe of it, and is ``None`` where only its health URL can be asked.
    ``found`` is called with each finding. ``health`` is what is known of the server so far, and
    ``ttl`` that of its registration, in seconds.

    With ``wait_for`` (the URL to dial) the server is waited for until it answers, whenever it
    failed; ``health`` is ``None`` then until the first finding. ``follow`` runs beside the probing
    for as long as one probe stays connected. ``read`` is called after each answer of MCP with the
    probe and the seconds that are left. ``trouble`` gives what is wrong with what the server
    offers, if anything. ``name`` is for the log.
    """

    check: HealthCheck
    pace: Pace
    make_probe: Callable[[], Probe] | None
    found: Callable[[ProbeFinding], None]
    health: Health | None
    ttl: float
    wait_for: str | None
    follow: Callable[[Probe], Coroutine[Any, Any, None]] | None
    read: Callable[[Probe, float], Awaitable[None]] | None
    trouble: Callable[[], str]
    name: str

    def __post_init__(self) -> None:
        self._latency = 0.0  # of the server's last answer, in seconds
        self._wanted = asyncio.Event()
        self._asked = False  # for a probe, even where the server limits requests
        self._checking = False
        self._ended: asyncio.Future[ProbeFinding] | None = None  # of the next probe that ends
        self._failures = 0  # one after the other
        # Bad answers one after the other; a server that is down has given enough of them.
        known = None if self.health is None else Verdict(self.health.status, self.health.reason)
        self._bad = FAIL_AFTER[-1] if known is not None and known.status is Status.DOWN else 0
        self._standing = Standing(ttl=self.ttl, interval=self.pace.pause, known=known)
        self._quiet_until = -math.inf  # monotonic seconds
        self._apart = False  # from those that began at the same moment
        self._judged: tuple[Verdict, float] | None = None  # and when, in monotonic seconds
        self._waiting_logged: float | None = None
        self.turned = time.monotonic()
        """When the loop last came round."""

    def probe_soon(self, *, anew: bool = False) -> None:
        """Probes at once: something hints at a change; with ``anew`` at a change for the better,
        after which the pauses between failed probes are short again.

        A server that limits requests is left alone all the same.
        """
        if anew:
            self._failures = 0
        self._wanted.set()

    @property
    def quiet_for(self) -> float:
        """For how many seconds the server does not want to be asked."""
        return max(0.0, self._quiet_until - time.monotonic())

    async def probe(self, timeout: float) -> ProbeFinding | None:
        """Probes now, or joins the probe that is under way; waits at most ``timeout`` seconds.

        Returns what was found, ``None`` when the probe has not ended by then; it goes on.
        """
        if self._ended is None or self._ended.done():
            self._ended = asyncio.get_running_loop().create_future()
        ended = self._ended
        if not self._checking:
            self._asked = True
            self._wanted.set()
        await asyncio.wait({ended}, timeout=timeout)
        return ended.result() if ended.done() and not ended.cancelled() else None

    async def run(self, first_pause: float = 0.0) -> NoReturn:
        """Watches the server for ever, from ``first_pause`` seconds on; to be cancelled."""
        # One for all times: it knows of handshakes that it gave up, which are still under way.
        probe = None if self.make_probe is None else self.make_probe()
        if probe is not None:
            probe.quick = self.check.slow_after / 2
            probe.allowance.interval = self.pace.pause
        try:
            await self._rest(first_pause)
            while True:
                await self._watch_once(probe)
        finally:
            self._checking = False
            if self._ended is not None:
                self._ended.cancel()
            if probe is not None:
                await probe.close()

    async def _watch_once(self, probe: Probe | None) -> None:
        """Watches the server until it fails, and rests a moment."""
        answered = False
        try:
            if self.wait_for is not None and probe is not None:
                answered = await self._arrived(probe, self.wait_for)
            beside = [self.follow(probe)] if self.follow is not None and probe else []
            async with alongside(*beside):
                await self._watch(probe, answered=answered)
        finally:
            if probe is not None:
                await probe.disconnect()
        # A slow server may still be at what it was asked before.
        breath = min(self._latency, _LONGEST_BREATH) if self._is_slow else 0.0
        self._wanted.clear()  # what hinted at the failure
        await self._rest(max(self._retry_pause(), breath))

    async def _arrived(self, probe: Probe, url: str) -> bool:
        """Waits until the server has shaken hands; whether that was as good as a probe."""
        arrival = Arrival(
            port=LocalPort.of(url),
            probe=probe,
            longest_pause=self.pace.pause,
            failed=self._attempt_failed,
            turned=self._turn,
            quiet_for=lambda: self.quiet_for,
        )
        known = self.health is not None
        self._latency = await arrival.connected(was_quick=known and not self._is_slow)
        # The handshake with a modern server asks the very question that a probe asks.
        at_once = probe.era == "modern" and not self._is_slow
        return at_once and self.check.health_url is None

    async def _watch(self, probe: Probe | None, *, answered: bool) -> None:
        """Probes until the MCP server fails a probe; ``answered`` says that it just answered."""
        while True:
            self._turn()
            if answered:
                result = HealthCheckResult(mcp_verdict(Reply(self._latency)), Reply(self._latency))
            else:
                result = await self._probed(probe)
            failed = result.failed
            if not answered:  # a server that shakes hands and fails each probe is no hurry
                self._failures = self._failures + 1 if failed else 0
            answered = False
            found = self._weighed(result)
            self._conclude(found, result)
            if result.mcp is not None and found.status is Status.DOWN:
                return
            pause = self.pace.pause if probe is None else probe.allowance.pause
            if not failed and self.pace.jitter and not self._apart:
                self._apart = True
                pause *= random.random() if math.isfinite(pause) else 1.0
            # Whoever answers MCP is not asked sooner because its health URL complains.
            urgent = failed and (result.mcp is None or result.mcp.seconds is None)
            await self._rest(min(self._retry_pause(), pause) if urgent else pause)

    async def _probed(self, probe: Probe | None) -> HealthCheckResult:
        """One probe, and what is to be read after it."""
        began = time.monotonic()
        self._checking = True
        try:
            with spans.span("probe") as span:
                result = await self.check.run(
                    probe,
                    timeout=self.pace.timeout,
                    mcp_timeout=self._patience,
                    along=self.follow is not None or self.read is not None,
                    on_late=self._late,
                )
                if span.is_recorded:
                    if probe is not None:
                        span.set({"server.address": probe.url.partition("?")[0]})
                    if result.failed:
                        span.fail(result.verdict.status.value, result.verdict.reason)
            if result.mcp is None or result.mcp.seconds is None:
                return result
            self._latency = result.mcp.seconds
            # An agent's card may be read by those, too, whom the agent itself refuses.
            readable = result.mcp.failure is None or self.check.agent
            if probe is not None and self.read is not None and readable:
                left = began + self.pace.timeout - time.monotonic()
                await self.read(probe, max(self.pace.timeout / 2, left))
            return result
        finally:
            self._checking = False

    @property
    def _is_slow(self) -> bool:
        """Whether its last answer was late."""
        return self._latency > self.check.slow_after

    @property
    def _patience(self) -> float:
        """How long to wait for an answer.

        A server that is known to be slow is ``degraded``, and offered to nobody, while it is waited
        for: it gets the time that it takes.
        """
        if not self._is_slow:
            return self.pace.timeout
        patience = max(self.pace.timeout, round(2 * self._latency, 2))
        return min(patience, self.pace.longest_timeout)

    def _weighed(self, result: HealthCheckResult) -> Verdict:
        """The verdict in view of the answers before, each of which comes here once."""
        failure, limited = result.failure, limits_requests(result.failure)
        bad = limited or result.verdict.status is Status.DOWN
        self._bad = self._bad + 1 if bad else 0
        if limited:
            self._quiet_until = time.monotonic() + self._quiet(failure)
        return unless_repeated(result.verdict, failure, self._bad, self.pace.fail_after)

    def _quiet(self, failure: ProbeError | None) -> float:
        """For how many seconds to leave a server alone that limits requests with ``failure``."""
        pause = self.pace.pause
        usual = min(pause * 2.0 ** min(self._bad - 1, 30), max(pause, _USUAL_QUIET))
        wished = failure.retry_after if failure is not None else None
        return min(max(usual, wished or 0.0), _LONGEST_QUIET)

    def _attempt_failed(self, failure: ProbeError) -> None:
        reply = Reply(failure=failure)
        found = mcp_verdict(reply, expects_credentials=self.check.expects_credentials)
        found = self._weighed(HealthCheckResult(found, reply))
        if self.health is not None:
            self._conclude(found)
            return
        now = time.monotonic()
        why = self.check.process() or failure
        if self._waiting_logged is None:
            log.info("waiting for %s: %s", self.name, why)
        elif now - self._waiting_logged >= _STILL_WAITING:
            log.warning("still waiting for %s: %s", self.name, why)
        else:
            return
        self._waiting_logged = now

    def _late(self, found: Verdict) -> None:
        """Nothing has come yet, which is no news of a server that is down."""
        if self.health is None or self.health.status is not Status.DOWN:
            self._conclude(found)

    def _conclude(self, found: Verdict, result: HealthCheckResult | None = None) -> None:
        """Makes a finding of a verdict, and passes it on."""
        self._judged = found, time.monotonic()
        self._publish(result)

    def reconsider(self) -> None:
        """Judges the last answers once more: another thing is known of the advertised address, of
        the server's process, or of what it offers."""
        if self._judged is not None:
            self._publish(None)

    def _publish(self, result: HealthCheckResult | None) -> None:
        assert self._judged is not None
        found, at = self._judged
        found = unless_unread(at_address(found, self.check.address()), self.trouble())
        if (why_not := self.check.process()) is not None:
            found = Verdict(Status.DOWN, why_not)
        if self.check.agent:
            found = of_agent(found)
        heard = found.status is not Status.DOWN
        found = self._standing.take(found, time.monotonic())
        reason = found.reason[:_LONGEST_REASON]
        before = self.health
        if before is None:
            health = Health(found.status, reason)
        else:
            health = before.then(found.status, reason, heard=heard)
        self.health = health
        if before is not None and health != before:
            level = logging.INFO if found.status is Status.HEALTHY else logging.WARNING
            words = self.name, health.status, health.reason, before.status
            log.log(level, "%s is %s: %s (was %s)", *words)
        finding = ProbeFinding(health, at, result)
        self.found(finding)
        if result is not None and self._ended is not None and not self._ended.done():
            self._ended.set_result(finding)

    def _retry_pause(self) -> float:
        pause = self.pace.retry * 2.0 ** min(self._failures - 1, 30)
        return min(pause, self.pace.longest_retry)

    def _turn(self) -> None:
        self.turned = time.monotonic()
        self._asked = False
        self._wanted.clear()

    async def _rest(self, pause: float) -> None:
        """Waits until the next probe is due, or wanted."""
        vary = self.pace.jitter
        end = time.monotonic() + pause * random.uniform(1 - vary, 1 + vary)
        while (left := max(end - time.monotonic(), self.quiet_for)) > 0:
            if math.isinf(left):
                await self._wanted.wait()
            if await is_set(self._wanted, min(left, _ROUND)):
                if self._asked or not self.quiet_for:
                    return
                self._wanted.clear()
            self.turned = time.monotonic()
