"""How one attempt of a call failed, and whether another instance may be asked."""

from __future__ import annotations

from mcp_discovery.errors import DiscoveryError


class AttemptError(DiscoveryError):
    """One instance did not answer. ``why`` says so in words; the cause is chained.

    ``sent``: it may have seen the call, so that only a tool that says it is repeatable may be
    called again. ``slow``: nothing broke, but its deadline passed. ``status`` is that of HTTP with
    which a session was refused. ``over``: the whole session has ended.
    """

    def __init__(
        self,
        why: str,
        *,
        sent: bool,
        slow: bool = False,
        status: int | None = None,
        over: bool = False,
    ) -> None:
        super().__init__(why)
        self.over = over
        self.status = status
        self.why = why
        self.sent = sent
        self.slow = slow


class MisjudgedAttemptError(DiscoveryError):
    """The session is gone, or of another era than was thought: the request was refused unread."""


class FinalAttemptError(DiscoveryError):
    """Asking another instance would not help; ``error`` is what the caller is told."""

    def __init__(self, error: DiscoveryError) -> None:
        super().__init__(str(error))
        self.error = error


def words(error: BaseException) -> str:
    """What went wrong, from the innermost of a group: the SDK wraps what its tasks raise."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    text = str(error).strip().splitlines()
    said = text[0][:300] if text else ""
    name = type(error).__name__
    return said if said.startswith(name) or name == "MCPError" else f"{name}: {said}".rstrip(": ")
