"""One attempt of a call: how far its requests got and how it failed; an instance's breaker."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass

from mcp_discovery.errors import DiscoveryError

#: Seconds within which the SDK itself reports a fault, where it does.
_SDK_REPORT = 0.05


@dataclass(slots=True)
class Attempt:
    """How far the requests of one call got.

    ``sent``: a server may have received one. ``status``: the last HTTP status. ``fault``: what
    broke the exchange; ``on_fault`` is called then, for transports that report no faults.
    """

    sent: bool = False
    status: int | None = None
    fault: Exception | None = None
    on_fault: Callable[[], None] | None = None

    def record_fault(self, error: Exception) -> None:
        """Records what broke the exchange."""
        self.fault = error
        if self.on_fault is not None:
            asyncio.get_running_loop().call_later(_SDK_REPORT, self.on_fault)


#: The call on whose behalf a request is made. The SDK's transports send in their caller's context.
ATTEMPT: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


@dataclass(eq=False)
class AttemptError(DiscoveryError):
    """One instance did not answer. ``why`` says so in words; the cause is chained.

    ``sent``: it may have received the call, so that only a tool that says it is repeatable may be
    called again. ``slow``: nothing broke, but its deadline passed. ``status`` is the HTTP status
    with which a session was refused. ``over``: the whole session has ended.
    """

    why: str
    _: KW_ONLY
    sent: bool
    slow: bool = False
    status: int | None = None
    over: bool = False


class SessionRefusedError(DiscoveryError):
    """The server refused the request unread: the session is gone, or the protocol is another."""


def describe(error: BaseException) -> str:
    """The message of ``error``, or of the first in a group: the SDK wraps what its tasks raise."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    text = str(error).strip().splitlines()
    said = text[0][:300] if text else ""
    name = type(error).__name__
    return said if said.startswith(name) or name == "MCPError" else f"{name}: {said}".rstrip(": ")


#: This many failures in a row open the breaker; a refused connection opens it at once.
FAILURES = 3
#: The breaker stays open for a random time between half a bound and the bound, which doubles with
#: each failed trial between these numbers of seconds.
_FIRST, _LONGEST = 0.5, 30.0


class CircuitBreaker:
    """Closed: calls pass. Open: they do not. Half open, once its time is over: one trial decides.

    ``clock`` gives monotonic seconds. Nygard, "Release It!" (2007), describes the pattern.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._opened = 0
        self._until: float | None = None
        #: Why the last failure counts as one.
        self.reason = ""

    @property
    def closed(self) -> bool:
        """Whether calls may pass."""
        return self._until is None

    @property
    def wait(self) -> float:
        """Seconds until a trial is due; 0 when it is, or when the breaker is closed."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock())

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = self._opened = 0
        self._until = None

    def failed(self, reason: str, *, at_once: bool = False) -> None:
        """The server did not answer; ``at_once`` opens the breaker whatever came before."""
        self.reason = reason
        self._failures += 1
        if at_once or self._failures >= FAILURES or self._until is not None:
            bound = min(_FIRST * 2**self._opened, _LONGEST)
            self._opened += 1
            self._until = self._clock() + random.uniform(bound / 2, bound)
