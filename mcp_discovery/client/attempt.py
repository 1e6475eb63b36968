"""One attempt of a call: how far its requests got and how it failed; an instance's breaker."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field

from mcp.shared.exceptions import MCPError
from mcp_types import (
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

from mcp_discovery.connection_errors import Remedies, connection_sentence, is_no_connection
from mcp_discovery.errors import DiscoveryError

#: What helps where a server cannot be connected to.
REMEDIES = Remedies(
    ca="SSL_CERT_FILE", plain="http:// in its URL", certificate="this client has none"
)
#: So many characters of an error's data are shown.
_MOST_DATA = 1000
#: With this notification the SDK gives up one of its requests.
_CANCELLED = "notifications/cancelled"


@dataclass(slots=True)
class Attempt:
    """How far the requests of one call got, and what came of the last one.

    ``sent``: a server may have received one. ``status``: the last HTTP status. ``fault``: what
    broke the exchange. ``waiting``: the last request is under way; ``abandoned``: the SDK gave it
    up, as its time was over; ``failed``: the transport ended it with an error. Such an error is the
    server's own where :meth:`is_own` says so, and the transport's otherwise: codes do not tell,
    since servers send those that the SDK uses for its own ends, too.
    """

    sent: bool = False
    status: int | None = None
    fault: Exception | None = None
    waiting: bool = False
    abandoned: bool = False
    failed: bool = False
    #: Code and message of each error that the server itself sent → whether it named the request.
    _own: dict[tuple[int, str], bool] = field(default_factory=dict)

    def begin(self) -> None:
        """Another request of the call goes out."""
        self.status = self.fault = None
        self.waiting, self.abandoned, self.failed = True, False, False

    def record_own(self, error: ErrorData, *, named: bool) -> None:
        """Records an error that the server sent; ``named``: with the id of the request."""
        self._own[error.code, error.message] = named

    def is_own(self, error: MCPError) -> bool:
        """Whether the server sent ``error``."""
        return (error.code, error.message) in self._own

    def is_named(self, error: MCPError) -> bool:
        """Whether the server sent ``error`` with the id of the request, and so has read it."""
        return self._own.get((error.code, error.message), False)


#: The call on whose behalf a request is made, in the context in which it is sent.
ATTEMPT: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


class Exchanges:
    """The requests under way over one transport, each with the attempt that it belongs to."""

    def __init__(self) -> None:
        self._attempts: dict[RequestId, Attempt] = {}
        #: Whether the transport has ended.
        self.over = False
        #: Whether an answer over the limit is in the way of all others.
        self.blocked = False

    @property
    def only(self) -> RequestId | None:
        """The id of the request that is under way, where there is one alone."""
        return next(iter(self._attempts)) if len(self._attempts) == 1 else None

    def of(self, id: RequestId | None) -> Attempt:
        """The attempt of the request ``id``; for another, or none, that of this context."""
        found = self._attempts.get(_key(id)) if id is not None else None
        return found or ATTEMPT.get() or Attempt()

    def sending(self, message: JSONRPCMessage) -> None:
        """``message`` is about to be sent, in its sender's context."""
        attempt = ATTEMPT.get() or Attempt()
        if isinstance(message, JSONRPCRequest):
            attempt.begin()
            self._attempts[_key(message.id)] = attempt
        elif isinstance(message, JSONRPCNotification) and message.method == _CANCELLED:
            attempt.abandoned = True
            self._attempts.pop((message.params or {})["requestId"], None)

    def received(self, message: JSONRPCMessage) -> Attempt | None:
        """``message`` has come; returns the attempt whose request it ends, if there is one."""
        if not isinstance(message, JSONRPCResponse | JSONRPCError) or message.id is None:
            return None
        attempt = self._attempts.pop(_key(message.id), None)
        if attempt is not None:
            attempt.waiting, attempt.failed = False, isinstance(message, JSONRPCError)
        return attempt

    def break_off(self, fault: Exception) -> None:
        """The transport broke: that is what became of every request that is still under way."""
        for attempt in self._attempts.values():
            attempt.fault = attempt.fault or fault


def _key(id: RequestId) -> RequestId:
    """One id for ``7`` and ``"7"``: some servers answer with the other one, as the SDK allows."""
    return int(id) if isinstance(id, str) and id.isdecimal() else id


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
    """The server refused the request unread: the session is gone, or the protocol is another.

    ``error`` is what it said, where it said something itself.
    """

    def __init__(self, why: str, error: MCPError | None) -> None:
        super().__init__(why)
        self.error = error


def describe(error: BaseException) -> str:
    """The message of ``error``, or of the first in a group: the SDK wraps what its tasks raise."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if is_no_connection(error):
        return connection_sentence(error, REMEDIES)
    text = str(error).strip().splitlines()
    said = text[0][:300] if text else ""
    name = type(error).__name__
    if isinstance(error, MCPError | DiscoveryError) or said.startswith(name):
        return said or name
    return f"{name}: {said}".rstrip(": ")


def server_error_text(error: MCPError) -> str:
    """The error that a server answered with, in words: its code, its message, and its data."""
    text = f"error {error.code}: {error.message or 'without a message'}"
    if error.data is None:
        return text
    data = json.dumps(error.data, default=str, ensure_ascii=False)
    return f"{text} ({data if len(data) <= _MOST_DATA else data[:_MOST_DATA] + '…'})"


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
