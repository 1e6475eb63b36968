"""McpProbe: asks one MCP server whether it lives and what it offers, within deadlines."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import aiohttp

from mcp_discovery.mcp_messages import METHOD_NOT_FOUND, MODERN
from mcp_discovery.probe.client import Probe
from mcp_discovery.probe.endpoint import ProbedEndpoint
from mcp_discovery.probe.errors import BadAnswerError, NoAnswerError, ProbeError, UnreachableError
from mcp_discovery.probe.handshake import (
    Peer,
    Renewal,
    changed_lists,
    discover,
    find_era,
    initialize,
)
from mcp_discovery.probe.introspection import (
    LISTINGS,
    Introspection,
    joined,
)
from mcp_discovery.probe.lists import OfferedLists, OneList
from mcp_discovery.probe.messages import legacy_call, modern_call, result_of
from mcp_discovery.probe.tls import SYSTEM_TLS, ServerTls
from mcp_discovery.probe.wire import Budget, Limits, Wire

T = TypeVar("T")

logger = logging.getLogger(__name__)

# What a server said of itself within this many seconds need not be asked for again.
_FRESH_SECONDS = 1.0
_LONG_AGO = -math.inf
# A server whose lists change all the time is asked no more often than so many seconds who it is.
_REINTRODUCED_SECONDS = 60.0
# The part of the time for all that reading the lists may take.
_MOST_OF = 0.9
# Seconds that a probe which is closed waits for the answers to handshakes that were given up.
_LATE_SECONDS = 3.0
# Seconds without an answer to server/discover after which the other era is tried beside it.
_SILENCE = 0.5
# Refusals for reasons of the server's own: another handshake would not change them.
_SETTLED_STATUSES = frozenset({401, 403, 407, 408, 429})
_INTERNAL_ERROR = -32603


class McpProbe(Probe):
    """A client of one MCP server that asks only whether it lives and what it offers.

    Cancelling a method leaves no task and no connection of its exchange, but for a legacy
    handshake: its answer may bring a session, which is closed then. What is kept between calls
    (that, a legacy session, the connection of ``sse`` and ``websocket`` with its reader) ends with
    ``close``.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: str = "streamable-http",
        session: aiohttp.ClientSession,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        secrets: Callable[[], Iterable[str]] = tuple,
        tls: ServerTls = SYSTEM_TLS,
    ) -> None:
        """Prepare to probe ``url``; nothing is sent yet.

        A URL without a path stands for the transport's usual path (``/mcp``, ``/sse``,
        ``/ws``), then for itself. ``session`` stays the caller's. ``headers`` go with every
        request, and their values are blanked in errors, as are ``secrets``: what ``session``
        itself adds to requests. ``tls`` is how its certificate is verified.

        Raises ValueError for an unknown transport or a URL that does not fit it.
        """
        endpoint = ProbedEndpoint.of(url, transport, headers)
        wire = endpoint.wire(session, limits or Limits(), tls)
        self._begin(wire, endpoint.urls, lambda: {*endpoint.secrets, *secrets()})

    def _begin(self, wire: Wire, urls: Sequence[str], secrets: Callable[[], Iterable[str]]) -> None:
        """Prepare to probe over ``wire`` what is at one of ``urls``."""
        super().__init__(urls[0])
        self._wire, self._urls, self._secrets = wire, urls, secrets
        self._limits = wire.limits
        self._handshake = asyncio.Lock()
        self._peer: Peer | None = None
        self._peer_said_at = _LONG_AGO
        self._answers_ping = True
        self._handshakes = 0
        self._not_lost: set[str] = set()  # refusals of lists that are not for want of a session
        self._last_peer: Peer | None = None
        self._lists = OfferedLists()
        self._another = False  # lists than when the server said who it is
        self._latest: Introspection | None = None

    @property
    def requests(self) -> int:
        return self._wire.requests

    @property
    def url(self) -> str:
        return self._wire.url

    @property
    def era(self) -> str | None:
        return self._peer.era if self._peer else None

    @property
    def server_info(self) -> Mapping[str, Any]:
        return self._peer.server_info if self._peer else {}

    async def connect(self, timeout: float, renewals: Iterable[Renewal] = ()) -> None:
        """Find the server's era and, where it is legacy, shake hands; anew if done before.

        ``renewals`` say when to ask again instead of waiting for an answer, as in
        :func:`~mcp_discovery.probe.handshake.find_era`.
        """
        async with self._within(timeout):
            await self._reconnected(self._peer, timeout, renewals)

    async def ping(self, timeout: float, *, along: bool = False) -> float:
        """Do one real round trip and return how many seconds it took.

        A modern server is asked ``server/discover``, a legacy one ``ping``. Where the session
        is gone or a server of the other era has taken the place, connects anew, once.

        With ``along`` the server is asked for a page of its lists instead, in turn: an answer is as
        good as another. ``noticed`` is called when it differs, or is not there after ``quick``
        seconds: then the usual question is asked.
        """
        started = time.monotonic()

        async def ask(peer: Peer) -> None:
            await (self._asked_along(peer) if along else self._ping(peer))

        async with self._within(timeout):
            await self._steadily(ask, timeout)
            return time.monotonic() - started

    async def introspect(self, timeout: float) -> Introspection:
        """Read all that the server offers, every page of it.

        Returns the very object of the last time when nothing changed, so ``is`` tells. Lists
        that the server's capabilities do not name are not asked for, unless they name none at
        all. Raises BadAnswerError also when a list does not end or exceeds the limits.
        """
        self._lists.want()
        handshakes = self._handshakes
        async with self._within(timeout):

            async def ask(peer: Peer) -> Introspection:
                if peer.era == "modern" and time.monotonic() - self._peer_said_at > _FRESH_SECONDS:
                    await self._ping(peer)
                return await self._refreshed(peer, timeout, handshakes)

            found = await self._steadily(ask, timeout)
        for trouble in self._lists.troubles:
            raise trouble
        return found

    async def refresh(self, timeout: float) -> Introspection:
        """Read what pings cannot read along, where that is due, and return all that is known.

        At first that is everything. What cannot be read is named in ``unread``. Returns the very
        object of the last time when nothing changed.
        """
        handshakes = self._handshakes
        async with self._within(timeout):
            return await self._steadily(
                lambda peer: self._refreshed(peer, timeout, handshakes), timeout
            )

    async def _refreshed(self, peer: Peer, timeout: float, handshakes: int) -> Introspection:
        # What was read leaves room for the last steps within the same time.
        await self._read(peer, _MOST_OF * timeout)
        secrets = set(self._secrets())
        lost: list[BadAnswerError | UnreachableError] = []
        for trouble in self._lists.troubles:
            trouble.conceal(secrets)
            refused = isinstance(trouble, BadAnswerError) and trouble.status is not None
            if refused or isinstance(trouble, UnreachableError):
                assert isinstance(trouble, BadAnswerError | UnreachableError)
                lost.append(trouble)
        lost = [each for each in lost if self._hints_at_another_peer(each)]
        if handshakes != self._handshakes:
            self._not_lost = {str(each) for each in lost}  # another session was no remedy
        for trouble in lost:
            if str(trouble) not in self._not_lost:
                self._lists.want()
                raise trouble
        return self._offered(await self._known_again(self._peer or peer))

    async def changes(self) -> AsyncGenerator[str, None]:
        """Yield ``tools``, ``resources`` or ``prompts`` when the server says that it changed.

        Returns when the stream ends, which for a dying server is at once, and immediately where
        none is offered or the probe is not connected; so ask for the next one after a pause.
        Nothing is notified of what happened between two streams: introspect after opening one. Use
        ``contextlib.aclosing`` to leave early.
        """
        peer = self._peer
        if peer is None:
            return
        try:
            async with aclosing(changed_lists(self._wire, peer)) as changes:
                async for name in changes:
                    self._lists.want(name)
                    yield name
        except (ProbeError, TimeoutError) as failure:
            if isinstance(failure, ProbeError):
                failure.conceal(self._secrets())
            logger.debug("no more notifications from the MCP server: %s", failure)

    async def disconnect(self) -> None:
        """End a legacy session and close what is open; best effort, within about a second.

        The session given at construction stays open, and the probe can connect again. A session
        that the server opens late, in answer to a handshake that was given up, is closed when the
        answer comes. All lists are read anew after that.
        """
        self._peer = None
        self._lists.want()
        await self._wire.close()

    async def close(self) -> None:
        await self.disconnect()
        await self._wire.settle(_LATE_SECONDS)

    @asynccontextmanager
    async def _within(self, timeout: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout) as deadline:
                yield
        except TimeoutError as error:
            if not deadline.expired():
                raise
            self._peer_said_at = _LONG_AGO
            if self._wire.is_one_connection:
                # The one connection may be dead without saying so; the next call opens another.
                self._peer = None
            late = NoAnswerError(timeout)
            await self._wire.explain(late)
            late.conceal(self._secrets())
            raise late from error
        except ProbeError as failure:
            self._peer_said_at = _LONG_AGO  # who answers next may be another
            if isinstance(failure, UnreachableError) and not self._wire.has_session:
                self._peer = None
            await self._wire.explain(failure)
            failure.conceal(self._secrets())
            raise

    async def _steadily(self, attempt: Callable[[Peer], Awaitable[T]], timeout: float) -> T:
        """Run ``attempt``; where its failure hints at a lost session, connect and run it again."""
        peer = self._peer or await self._reconnected(None, timeout)
        try:
            return await attempt(peer)
        except (BadAnswerError, UnreachableError) as failure:
            if not self._hints_at_another_peer(failure):
                raise
            replaced = await self._reconnected(peer, timeout)
            if isinstance(failure, BadAnswerError) and failure.code == METHOD_NOT_FOUND:
                # After the same handshake as before, it is simply a server without ping.
                self._answers_ping = not peer.era == replaced.era == "legacy"
        return await attempt(replaced)

    def _hints_at_another_peer(self, failure: BadAnswerError | UnreachableError) -> bool:
        if isinstance(failure, UnreachableError):
            return failure.was_connected and self._wire.is_one_connection
        if failure.over_limit or failure.code == _INTERNAL_ERROR:
            return False
        status = failure.status
        return status is None or (400 <= status < 500 and status not in _SETTLED_STATUSES)

    async def _reconnected(
        self, stale: Peer | None, timeout: float, renewals: Iterable[Renewal] = ()
    ) -> Peer:
        async with self._handshake:
            if self._peer is not None and self._peer is not stale:
                return self._peer  # another method has just done it
            self._peer = None
            self._answers_ping = True
            refusals: list[BadAnswerError] = []
            for url in dict.fromkeys((self._wire.url, *self._urls)):
                await self._wire.close()
                self._wire.url = url
                try:
                    peer = await self._introduced(timeout, renewals)
                except BadAnswerError as refusal:
                    if refusal.wants_credentials or refusal.over_limit:
                        raise
                    refusals.append(refusal)
                else:
                    self._peer, self._peer_said_at = peer, time.monotonic()
                    self._handshakes += 1
                    self.allowance.connected()
                    if peer != self._last_peer:
                        self._lists.want()
                        self.noticed()
                    self._last_peer = peer
                    return peer
            self._wire.url = self._urls[0]
            # That nothing is at one of the URLs says less than what another one answered.
            raise next((r for r in refusals if r.status not in (404, 405)), refusals[0])

    async def _introduced(self, timeout: float, renewals: Iterable[Renewal]) -> Peer:
        try:
            await self._wire.open()
            if self._wire.has_modern:
                patience = min(timeout / 2, _SILENCE)
                return await find_era(self._wire, self._limits, patience, renewals)
            return await initialize(self._wire, self._limits)
        except BaseException:
            await self._wire.close()
            raise

    async def _asked_along(self, peer: Peer) -> None:
        """Ask for the next page of a list, and only if that is no answer the usual question."""
        # A modern server says who it is in answer to the usual question.
        one = self._lists.next_along(usual=peer.era == "modern")
        if self._lists.wanted:
            self.noticed()
        if one is None or not await self._stepped(peer, one):
            await self._ping(peer)

    async def _stepped(self, peer: Peer, one: OneList) -> bool:
        """Ask for the next page of ``one``; whether that is answered as an answer of life."""
        budget = Budget(self._limits)
        try:
            async with asyncio.timeout(self.quick) as deadline:
                changed = await self._lists.step(one, partial(self._ask, peer, budget), budget)
        except TimeoutError:
            if not deadline.expired():
                raise
        except BadAnswerError as failure:
            logger.debug("%s is not answered as before: %s", one.listing.method, failure)
        else:
            if changed:
                self._another = True
                self.noticed()
            return True
        one.leave_alone()
        self.noticed()
        return False

    async def _ping(self, peer: Peer) -> None:
        if peer.era == "modern":
            now = await discover(self._wire, self._limits, peer.protocol or MODERN)
            if self._said(peer, now) is not peer:
                self.noticed()
            return
        try:
            answer = await self._ask(peer, Budget(self._limits), "ping")
            result_of(answer, "ping")
        except BadAnswerError as error:
            if error.code != METHOD_NOT_FOUND or self._answers_ping:
                raise

    async def _read(self, peer: Peer, timeout: float) -> None:
        budget = Budget(self._limits)
        self._lists.declare(peer.capabilities)
        ask = partial(self._ask, peer, budget)
        self._another |= await self._lists.read(ask, budget, timeout, self.quick)

    def _offered(self, peer: Peer) -> Introspection:
        """What is known of what ``peer`` offers: the object of last time where that is the same."""
        lists = [joined(listing, self._lists.pages(listing)) for listing in LISTINGS]
        tools, resources, templates, prompts, skills = (items for items, _ in lists)
        introspection = Introspection(
            era=peer.era,
            versions=peer.versions,
            server_info=peer.server_info,
            instructions=peer.instructions,
            capabilities=peer.capabilities,
            tools=tools,
            resources=resources,
            resource_templates=templates,
            prompts=prompts,
            skills=skills,
            findings=(
                *peer.findings,
                *(text for _, found in lists for text in found),
                *sorted(self._wire.oddities),
            ),
            unread=self._lists.unread,
        )
        if self._latest != introspection:
            self._latest = introspection
        return self._latest

    async def _known_again(self, peer: Peer) -> Peer:
        """Ask again who the server is, where nothing else tells that another took its place.

        That is so of a legacy server without sessions: that its lists are others is a sign.
        """
        now = time.monotonic()
        if peer.era == "modern" or self._wire.has_session or not self._another:
            return peer
        self._another = False
        if now - self._peer_said_at < _REINTRODUCED_SECONDS:
            return peer
        return self._said(peer, await initialize(self._wire, self._limits))

    def _said(self, before: Peer, now: Peer) -> Peer:
        """What is known of the server now: ``before`` itself where that is the same."""
        if now == before:
            now = before
        if self._peer is before:
            self._peer, self._peer_said_at = now, time.monotonic()
        return now

    async def _ask(
        self, peer: Peer, budget: Budget, method: str, cursor: str | None = None
    ) -> dict[str, Any]:
        params: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
        build = modern_call if peer.era == "modern" else legacy_call
        call = build(method, self._wire.next_id(), params, protocol=peer.protocol or "")
        return await self._wire.ask(call, budget)
