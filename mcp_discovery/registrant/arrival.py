"""Waiting until an MCP server can be connected to, however slow it is.

A server on this machine is noticed as soon as it begins to listen: a connection to a port of this
machine on which nobody listens is refused by the kernel before ``connect`` returns. That takes
twenty microseconds, where an attempt to speak MCP takes a thousand.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mcp_discovery.probe import McpProbe, NoAnswerError, ProbeError, UnreachableError
from mcp_discovery.urls import wire_url

_Attempt = asyncio.Task[tuple[McpProbe, float]]
_LOCALHOST = ("127.0.0.1", "::1")

#: Seconds from an attempt that failed to the next one.
RETRY = 0.25
#: The time-out of an attempt, in seconds, so that a server is found soon after it came up.
_QUICK = 1.0
#: The time-out of the first attempt, in seconds, which goes on beside the others for a slow server.
_PATIENT = 15.0

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
    """Connects to one MCP server as soon as it answers.

    ``make_probe`` makes a new probe of the server, whose port is ``port`` where it is on this
    machine. ``failed`` is called with each attempt's failure, ``turned`` at each turn of the
    waiting.
    """

    port: LocalPort | None
    make_probe: Callable[[], McpProbe]
    failed: Callable[[ProbeError], None]
    turned: Callable[[], None]

    async def connected(self) -> tuple[McpProbe, float]:
        """A connected probe, and how many seconds its connecting took."""
        attempts: list[_Attempt] = []
        port_awaited = False  # before the last attempt
        try:
            while True:
                self.turned()
                timeout = _QUICK if attempts else _PATIENT
                newest = asyncio.create_task(self._attempt(timeout))
                attempts.append(newest)
                end = time.monotonic() + _QUICK
                while not newest.done() and (left := end - time.monotonic()) > 0:
                    if (success := await _success(attempts, left)) is not None:
                        return success
                failure = newest.exception() if newest.done() else None
                self.failed(failure if isinstance(failure, ProbeError) else NoAnswerError(_QUICK))
                if not attempts:
                    # A port that seems open while its connections are refused is tried at leisure.
                    port_awaited = not port_awaited and isinstance(failure, UnreachableError)
                    await (self._until_open() if port_awaited else asyncio.sleep(RETRY))
                    continue
                if (success := await _success(attempts, RETRY)) is not None:
                    return success
        finally:
            await _abandon(attempts)

    async def _attempt(self, timeout: float) -> tuple[McpProbe, float]:
        probe = self.make_probe()
        began = time.monotonic()
        try:
            await probe.connect(timeout)
        except BaseException:
            await probe.close()
            raise
        return probe, time.monotonic() - began

    async def _until_open(self) -> None:
        """Waits while nobody listens at the server's port; where that cannot be seen, a moment."""
        if self.port is None or not self.port.is_closed():
            await asyncio.sleep(RETRY)
            return
        began = reported = time.monotonic()
        while self.port.is_closed():
            now = time.monotonic()
            if now - reported >= RETRY:
                self.turned()
                self.failed(UnreachableError("connection refused"))
                reported = now
            await asyncio.sleep(pause_between_checks(now - began, RETRY))


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


async def _success(attempts: list[_Attempt], within: float) -> tuple[McpProbe, float] | None:
    """What one of ``attempts`` connected ``within`` seconds, if any has when the first one ends.

    Those that ended are taken out of the list. Raises what no attempt should end with.
    """
    ended, _ = await asyncio.wait(attempts, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    for attempt in ended:
        attempts.remove(attempt)
        try:
            return attempt.result()
        except ProbeError:
            continue
    return None


async def _abandon(attempts: Iterable[_Attempt]) -> None:
    """Cancels attempts that are no longer needed, and closes what they connected."""
    for attempt in attempts:
        attempt.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, tuple):
            await result[0].close()
