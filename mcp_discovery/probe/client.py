"""Probe: what asks one server or agent whether it lives and what it offers, whatever it speaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

from mcp_discovery.probe.allowance import Allowance
from mcp_discovery.probe.errors import ProbeError
from mcp_discovery.probe.handshake import Renewal
from mcp_discovery.probe.introspection import Introspection

#: See ``Probe.quick``.
QUICK_SECONDS = 0.125


class Probe:
    """A client of one server that asks only whether it lives and what it offers.

    Every method that asks takes ``timeout`` in seconds for all that it does, and raises a
    ``ProbeError``: ``NoAnswerError`` when the time is over, ``UnreachableError`` without a
    connection, ``BadAnswerError`` for errors and for what is not the protocol. The methods may run
    at the same time.
    """

    def __init__(self, url: str, **options: Any) -> None:
        """See :class:`~mcp_discovery.probe.probe.McpProbe`; nothing is sent yet."""
        self.quick = QUICK_SECONDS
        """A list that is answered within so many seconds can be asked for in place of a ping."""
        self.allowance = Allowance(lambda: self.requests)
        """How many requests may be made."""
        self.noticed: Callable[[], None] = lambda: None
        """Called when a ping finds that what was read has changed, or that there is to be read."""

    @property
    def requests(self) -> int:
        """How many requests were made, whatever for."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The URL that answers, once connected; before that, the first one to be tried."""
        raise NotImplementedError

    @property
    def era(self) -> str | None:
        """``modern`` or ``legacy`` while connected to an MCP server, else None."""
        return None

    @property
    def server_info(self) -> Mapping[str, Any]:
        """What the server calls itself while connected: its name and version."""
        raise NotImplementedError

    @property
    def wants_credentials(self) -> bool:
        """Whether the server's own description asks for credentials, and none are sent."""
        return False

    async def connect(self, timeout: float, renewals: Iterable[Renewal] = ()) -> None:
        """Begin anew: find out how the server is asked, and that it answers.

        ``renewals`` say when to ask again instead of waiting for an answer, where that is possible.
        """
        raise NotImplementedError

    async def introduce(self, timeout: float) -> tuple[ProbeError | None, Mapping[str, Any]]:
        """Connect, and close again: who answers, as in ``server_info``, or why nobody does."""
        try:
            await self.connect(timeout)
            return None, self.server_info
        except ProbeError as failure:
            return failure, {}
        finally:
            await self.close()

    async def ping(self, timeout: float, *, along: bool = False) -> float:
        """Do one real round trip and return how many seconds it took.

        With ``along`` it may ask for a part of what the server offers instead; ``noticed`` is
        called where that is another than before.
        """
        raise NotImplementedError

    async def introspect(self, timeout: float) -> Introspection:
        """Read all that the server offers; raises where a part of it cannot be read."""
        return await self.refresh(timeout)

    async def refresh(self, timeout: float) -> Introspection:
        """All that is known of what the server offers, and is read now where it was not.

        Returns the very object of the last time when nothing changed.
        """
        raise NotImplementedError

    def changes(self) -> AsyncGenerator[str, None]:
        """Yield what the server says has changed; returns when the stream ends, and immediately
        where there is none."""
        raise NotImplementedError

    async def disconnect(self) -> None:
        """Close what is open; the probe can connect again."""

    async def close(self) -> None:
        """Disconnect, and wait a few seconds for what may come late; let go of the rest."""
