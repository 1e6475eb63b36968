"""Waiting until an MCP server can be connected to, however slow it is.

A server on this machine is noticed as soon as it begins to listen: a connection to a port of this
machine on which nobody listens is refused by the kernel before ``connect`` returns. That takes
twenty microseconds, where an attempt to speak MCP takes a thousand.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mcp_discovery.probe import NoAnswerError, Probe, ProbeError, UnreachableError
from mcp_discovery.probe.handshake import Renewal
from mcp_discovery.registrant.tasks import alongside
from mcp_discovery.urls import wire_url

_LOCALHOST = ("127.0.0.1", "::1")

#: Seconds from the first attempt that failed to the next one; each further failure doubles them.
RETRY = 0.25
#: After so many seconds without an answer a server counts as one that does not answer, and one that
#: used to be quick is asked again.
_QUICK = 0.6
#: The time-out of the first attempt, in seconds, and of those after several that were not answered.
_PATIENT, _MOST_PATIENT = 30.0, 60.0
#: The waiting turns at least every so many seconds.
_ROUND = 10.0
#: The part by which pauses vary.
_JITTER = 0.2

#: The pause between two checks of the port is this part of the time that was waited already.
_PART = 0.01
#: The shortest pause between two checks of the port, in seconds.
_LEAST = 0.005


@dataclass(frozen=True, slots=True)
class LocalPort:
    """The port of a server on this machine."""

    hosts: tuple[str, ...]
    port: int

    @classmethod
    def of(cls, url: str) -> LocalPort | None:
        """The port of the server at ``url``; ``None`` where that is not a loopback address."""
        parts = wire_url(url)
        host, port = parts.host or "", parts.port or 0
        if host == "localhost":
            return cls(_LOCALHOST, port)
        try:
            return cls((host,), port) if ipaddress.ip_address(host).is_loopback else None
        except ValueError:
            return None

    def is_closed(self) -> bool:
        """Whether nobody listens: a connection is refused."""
        return all(_refused(host, self.port) for host in self.hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Connects to one MCP server as soon as it answers, and asks little of it until then.

    One attempt is made at a time, with ``probe``. Its patience grows while the server does not
    answer, and so do the pauses between attempts, up to ``longest_pause`` seconds. ``port`` is the
    server's where it is on this machine. ``failed`` is called with each attempt's failure, and
    early with that nothing was answered yet; ``turned`` at each turn of the waiting. ``quiet_for``
    says for how many seconds the server does not want to be asked.
    """

    port: LocalPort | None
    probe: Probe
    longest_pause: float
    failed: Callable[[ProbeError], None]
    turned: Callable[[], None]
    quiet_for: Callable[[], float]

    async def connected(self, *, was_quick: bool) -> float:
        """How many seconds the last attempt took, which succeeded.

        A server that ``was_quick`` is not only waited for: it may have forgotten what it was asked
        before it hung, so what can be withdrawn is asked anew.
        """
        patience, pauses = _PATIENT, self._pauses()
        port_awaited = False  # before the last attempt
        while True:
            renewals = ((_QUICK, pause) for pause in self._pauses()) if was_quick else ()
            began = time.monotonic()
            failure = await self._attempt(patience, renewals)
            if failure is None:
                return time.monotonic() - began
            if isinstance(failure, NoAnswerError):
                patience = min(2 * patience, _MOST_PATIENT)
            # A port that seems open while its connections are refused is tried at leisure.
            port_awaited = not port_awaited and isinstance(failure, UnreachableError)
            if not (port_awaited and await self._until_open()):
                await self._rest(max(next(pauses), self.quiet_for()))

    async def _attempt(self, timeout: float, renewals: Iterable[Renewal]) -> ProbeError | None:
        """Connects; returns why that failed, if it did."""
        early: ProbeError | None = None
        async with alongside(self.probe.connect(timeout, renewals)) as (attempt,):
            while not attempt.done():
                self.turned()
                await asyncio.wait({attempt}, timeout=_QUICK)
                if not attempt.done() and early is None:
                    early = NoAnswerError(_QUICK)
                    self.failed(early)
            try:
                attempt.result()
            except ProbeError as failure:
                if early is None or not isinstance(failure, NoAnswerError):
                    self.failed(failure)
                return failure
        return None

    async def _rest(self, pause: float) -> None:
        end = time.monotonic() + pause
        while (left := end - time.monotonic()) > 0:
            self.turned()
            await asyncio.sleep(min(left, _ROUND))

    def _pauses(self) -> Iterator[float]:
        pause = RETRY
        while True:
            yield min(pause, self.longest_pause) * random.uniform(1 - _JITTER, 1 + _JITTER)
            pause = min(2 * pause, self.longest_pause)

    async def _until_open(self) -> bool:
        """Waits while nobody listens at the server's port; whether that can be seen."""
        if self.port is None or not self.port.is_closed():
            return False
        began = reported = time.monotonic()
        while self.port.is_closed():
            now = time.monotonic()
            if now - reported >= RETRY:
                self.turned()
                self.failed(UnreachableError("connection refused"))
                reported = now
            await asyncio.sleep(pause_between_checks(now - began, RETRY))
        return True


def pause_between_checks(waited: float, longest: float) -> float:
    """Seconds until the next check of the port after ``waited`` seconds.

    A server that took a second to start is found within 10 ms; one that takes hours costs a check
    every ``longest`` seconds.
    """
    return min(max(_LEAST, _PART * waited), longest)


def _refused(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            attempt.setblocking(False)
            error = attempt.connect_ex((host, port))
            if error == errno.EINPROGRESS:  # what has become of it meanwhile
                error = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return error == errno.ECONNREFUSED
    except OSError:
        return family is socket.AF_INET6  # a machine without IPv6: nobody listens there
