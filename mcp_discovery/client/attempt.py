"""One attempt of a call: how far its requests got, how it failed, whether to retry elsewhere."""

from __future__ import annotations

import asyncio
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
