"""How much each caller has asked for, and whether it may ask for more.

Each caller has a small block of requests at hand, a hundredth of its limit, taken from the common
count at once: so most requests cost a subtraction, and Redis is asked a hundred times per window.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, get_args

from aiohttp import web
from multidict import CIMultiDict, istr

from mcp_discovery.adapters.view import View
from mcp_discovery.facade.access.auth_file import Policy
from mcp_discovery.facade.access.caller import Caller, key_of_address
from mcp_discovery.facade.access.limits_section import (
    CallerLimits,
    Counted,
    LimitRules,
    LimitsSection,
    Rate,
    limits_of_options,
)
from mcp_discovery.facade.access.quota_stores import Counts, LocalCounts, RedisCounts
from mcp_discovery.facade.access.rights import Need
from mcp_discovery.facade.http.operation import needs_of
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.health import rfc3339
from mcp_discovery.inner_request import is_inner
from mcp_discovery.mcp_messages import only_listens
from mcp_discovery.plural import counted

#: How many callers have a block at hand; whoever came first loses it first.
_MOST_METERS = 20_000
#: For how long, in seconds, one that was refused is refused without asking the common count again.
_REFUSED = 0.25
#: After how many seconds one that has too many streams may try again.
_STREAM_RETRY = 10

#: How many seconds an entry may take until the list shows it.
_SHOWN = 10.0

_KINDS: Final[dict[Need, Counted]] = {
    "read": "reads",
    "register": "writes",
    "report": "reads",
    "call": "calls",
    "admin": "reads",
}
_WORDS: Final[dict[str, str]] = {
    "reads": "requests that read",
    "writes": "requests that change the list",
    "calls": "calls",
    "questions": "questions",
    "heartbeats": "heartbeats",
    "refusals": "requests with a credential that is not valid",
}
#: What stays open, by the pattern of its path; further down, what is asked of a header.
_STREAMS: Final = frozenset({"/events", "/registry/stream", "/mcp", "/gateway/{name}/mcp"})


class _Meter:
    """What one caller has at hand of one kind."""

    __slots__ = ("kind", "left", "lock", "policy", "rate", "refused_until", "remaining", "resets")

    def __init__(self, kind: Counted, rate: Rate) -> None:
        self.kind = kind
        self.rate = rate
        self.policy = f'"{kind}";q={rate.amount};w={rate.seconds}'
        self.left = self.remaining = 0
        self.resets = self.refused_until = 0.0
        self.lock = asyncio.Lock()

    def sign(self, headers: CIMultiDict[str]) -> None:
        """Sets the headers of draft-ietf-httpapi-ratelimit-headers-10."""
        seconds = max(0, math.ceil(self.resets - time.monotonic()))
        headers[_POLICY] = self.policy
        headers[_LIMIT] = f'"{self.kind}";r={self.remaining + self.left};t={seconds}'


_METERED: web.RequestKey[_Meter | None] = web.RequestKey("metered", _Meter)
_POLICY, _LIMIT = istr("RateLimit-Policy"), istr("RateLimit")


class Quotas:
    """Counts the requests of one facade's callers.

    ``base`` are the limits of anonymous callers where the ``policy``'s file says nothing.
    """

    def __init__(
        self, base: CallerLimits, counts: Counts, policy: Callable[[], Policy] | None = None
    ) -> None:
        self._base = base
        self.counts = counts
        self._policy = policy
        self._read: Policy | None = None
        self._rules = LimitRules(LimitsSection(), base)
        self._meters: dict[tuple[str, Counted], _Meter] = {}
        self._streams: Counter[str] = Counter()
        #: Key → id of an entry → when it was registered.
        self._entries: dict[str, dict[str, float]] = {}
        self._kinds: dict[Any, tuple[Counted | None, bool]] = {}

    def serve_in(self, app: web.Application) -> None:
        """Makes these the quotas of ``app``."""
        app[QUOTAS] = self
        if isinstance(self.counts, RedisCounts):
            app.cleanup_ctx.append(self.counts.running)

    @property
    def rules(self) -> LimitRules:
        """What the file says now."""
        if self._policy is not None and (policy := self._policy()) is not self._read:
            self._read = policy
            self._rules = LimitRules(policy.file.limits, self._base)
        return self._rules

    def limits(self, request: web.Request, caller: Caller) -> CallerLimits | None:
        """What limits the ``caller`` of ``request``; ``None`` where nothing does."""
        request[_METERED] = None
        policy = None if self._policy is None else self._policy()
        rules = self._rules if policy is self._read else self.rules
        limits = rules.of(caller)
        return None if limits.is_unlimited else limits

    def count(
        self, request: web.Request, caller: Caller, limits: CallerLimits
    ) -> Awaitable[None] | None:
        """Counts a request by what it needs: at once, or by what has to be awaited.

        That raises :class:`ProblemError` (429) where the caller has used up its limit.
        """
        kind = self._kind_of(request)[0]
        if kind is None:
            return None
        rate: Rate | None = getattr(limits, kind)
        if rate is None:
            return None
        key = caller.key
        meter = self._meter(key, kind, rate)
        request[_METERED] = meter
        if meter.left > 0:
            meter.left -= 1
            return None
        return self._spend(meter, key)

    def stream(
        self, request: web.Request, caller: Caller, limits: CallerLimits
    ) -> AbstractContextManager[None] | None:
        """For a request that stays open: counts it as a stream inside the block, which raises
        :class:`ProblemError` (429) where the caller has too many."""
        most = limits.streams
        if most is None or not self._kind_of(request)[1] or not only_listens(request):
            return None
        if request.method == "GET" and is_inner(request):
            return None  # the one stream of a WebSocket, which is counted itself
        return self._stream(caller.key, most)

    async def take(self, caller: Caller, kind: Counted, number: int = 1) -> None:
        """Counts ``number`` of ``kind`` that are no requests of their own; raises
        :class:`ProblemError` (429) where the caller has fewer left."""
        rate: Rate | None = getattr(self.rules.of(caller), kind)
        if rate is not None:
            meter = self._meter(caller.key, kind, rate)
            for _ in range(number):
                await self._spend(meter, caller.key)

    async def refuse(self, request: web.Request, address: str) -> None:
        """Counts a request of ``address`` whose credential is not valid; raises
        :class:`ProblemError` (429)."""
        if (rate := self.rules.anonymous.refusals) is not None:
            await self._take(request, key_of_address(address), "refusals", rate)

    async def _take(self, request: web.Request, key: str, kind: Counted, rate: Rate) -> None:
        meter = request[_METERED] = self._meter(key, kind, rate)
        await self._spend(meter, key)

    def _meter(self, key: str, kind: Counted, rate: Rate) -> _Meter:
        meter = self._meters.get((key, kind))
        if meter is None or meter.rate is not rate:
            if len(self._meters) >= _MOST_METERS:
                del self._meters[next(iter(self._meters))]
            meter = self._meters[key, kind] = _Meter(kind, rate)
        return meter

    async def _spend(self, meter: _Meter, key: str) -> None:
        if meter.left <= 0:
            async with meter.lock:
                if meter.left <= 0 and not await self._refill(meter, key):
                    raise _exceeded(meter)
        meter.left -= 1

    async def _refill(self, meter: _Meter, key: str) -> bool:
        now = time.monotonic()
        if now < meter.refused_until:
            return False
        count = await self.counts.take(meter.rate, meter.kind, key)
        meter.left, meter.remaining = count.taken, count.remaining
        meter.resets = now + count.reset_in
        if not count.taken:
            meter.refused_until = now + min(_REFUSED, count.reset_in)
        return count.taken > 0

    @contextmanager
    def _stream(self, key: str, most: int) -> Iterator[None]:
        if self._streams[key] >= most:
            raise _too_many_streams(most)
        self._streams[key] += 1
        try:
            yield
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]

    def require_ttl(self, caller: Caller, ttl: float) -> None:
        """Raises :class:`ProblemError` (422) for a TTL that ``caller`` may not have."""
        limits = self.rules.of(caller)
        least, most = limits.least_ttl or 0.0, limits.most_ttl or math.inf
        if not least <= ttl <= most:
            bounds = f"from {least:g} s" + ("" if most == math.inf else f" to {most:g} s")
            detail = f"lease.ttl: {ttl:g} s is not allowed to you here; give one {bounds}"
            raise ProblemError(422, "ttl-not-allowed", detail, field="lease.ttl")

    def require_room(self, caller: Caller, id: str, view: View) -> None:
        """Raises :class:`ProblemError` (403) where ``caller`` has as many entries in ``view`` as it
        may have, and ``id`` is none of them."""
        most = self.rules.of(caller).entries
        if most is None:
            return
        now = time.monotonic()
        if len(self._entries) >= _MOST_METERS and caller.key not in self._entries:
            del self._entries[next(iter(self._entries))]
        # Those of anonymous callers, and those that the list does not show yet.
        known = self._entries.setdefault(caller.key, {})
        for gone in [i for i, at in known.items() if i not in view.entries and at < now - _SHOWN]:
            del known[gone]
        having = set(known)
        if not caller.is_anonymous:
            owner = caller.subject
            having |= {each.id for each in view if each.instance.lease.holder.owner == owner}
        if id in having:
            return
        if len(having) >= most:
            detail = (
                f"you have {len(having)} of the {most} entries that you may have; remove some "
                "first, or ask for a role that may have more"
            )
            raise ProblemError(403, "too-many-entries", detail, entries=len(having), most=most)
        known[id] = now

    def sign(self, request: web.Request, response: web.StreamResponse) -> None:
        """Sets the headers, as a response's head is written."""
        try:
            meter = request[_METERED]
        except KeyError:
            return  # it was refused before it was counted
        if meter is not None:
            meter.sign(response.headers)

    @property
    def away(self) -> bool:
        """Whether the common count cannot be reached."""
        return self.counts.away_since is not None

    def status(self) -> dict[str, Any] | None:
        """The common count: its ``store``, whether it is ``shared`` now and, if not, ``since``;
        ``None`` where each facade counts by itself."""
        if isinstance(self.counts, LocalCounts):
            return None
        since = self.counts.away_since
        found: dict[str, Any] = {"store": self.counts.url, "shared": since is None}
        return found if since is None else found | {"since": rfc3339(since)}

    def _kind_of(self, request: web.Request) -> tuple[Counted | None, bool]:
        """What a request counts as, and whether it may be one that stays open."""
        match = request.match_info
        if match.http_exception is not None:
            return "reads", False
        handler = match.handler
        known = self._kinds.get(handler)
        if known is None:
            resource = match.route.resource
            path = "" if resource is None else resource.canonical
            kind: Counted | None = _KINDS.get(needs_of(request))
            if path.endswith("/heartbeat"):
                kind = "heartbeats"
            known = self._kinds[handler] = kind, path in _STREAMS
        return known


def quotas_of(options: FacadeOptions, policy: Callable[[], Policy] | None) -> Quotas | None:
    """The quotas that ``options`` and the file ask for; ``None`` where nothing can be limited.

    Raises :class:`~mcp_discovery.errors.InvalidInputError`.
    """
    if options.limits is None and policy is None:
        return None
    base = CallerLimits() if options.limits is None else limits_of_options(options.limits)
    counts: Counts = LocalCounts()
    if options.limits_store is not None:
        counts = RedisCounts(
            options.limits_store,
            password=options.limits_store_password,
            password_file=options.limits_store_password_file,
            ca=options.limits_store_ca,
        )
    return Quotas(base, counts, policy)


#: The quotas of an application; it has none where nothing is limited.
QUOTAS: web.AppKey[Quotas] = web.AppKey("quotas", Quotas)


def quotas_in(request: web.Request) -> Quotas | None:
    """The quotas of the application that answers ``request``."""
    return request.app.get(QUOTAS)


assert {*_WORDS} == {*get_args(Counted)}


def _exceeded(meter: _Meter) -> ProblemError:
    kind, after = meter.kind, max(1, math.ceil(meter.resets - time.monotonic()))
    detail = (
        f"you have made your {meter.rate.amount} {_WORDS[kind]} in {meter.rate.seconds} s; try "
        f"again in {after} s"
    )
    facts = {"violated-policies": [kind]}
    refusal = ProblemError(429, "quota-exceeded", detail, **facts)
    return refusal.with_headers({"Retry-After": str(after)})


def _too_many_streams(most: int) -> ProblemError:
    detail = (
        f"you have {counted(most, 'stream')} open, as many as you may have here; close one first"
    )
    refusal = ProblemError(429, "quota-exceeded", detail, **{"violated-policies": ["streams"]})
    return refusal.with_headers(
        {
            "Retry-After": str(_STREAM_RETRY),
            "RateLimit-Policy": f'"streams";q={most};qu="concurrent-requests"',
            "RateLimit": '"streams";r=0',
        }
    )
