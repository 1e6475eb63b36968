"""The replicas of a server in the order to try: by health, weight and calls in flight."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter

from aiohttp import web
from cachetools import TTLCache

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.calling import access_to
from mcp_discovery.facade.access.challenge import CHALLENGES
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.health import Status
from mcp_discovery.namesakes import by_server, why_different
from mcp_discovery.query.query import Query
from mcp_discovery.query.versions import VersionRange
from mcp_discovery.vouching import is_vouched_for, weights

#: The statuses of replicas that get new sessions and calls without a session.
_OPEN = frozenset({Status.HEALTHY, Status.DEGRADED})
#: The only transport that the gateway forwards.
TRANSPORT = "streamable-http"
#: For how many seconds a replica that could not be reached comes after all others, and how many
#: such replicas are remembered.
_UNREACHED_FOR = 5.0
_MOST_UNREACHED = 10_000


class Replicas:
    """The calls in flight to each replica, and which of them could not be reached.

    ``clock`` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._in_flight: Counter[str] = Counter()
        self._unreached: TTLCache[str, None] = TTLCache(_MOST_UNREACHED, _UNREACHED_FOR, clock)
        self._chance = random.Random()

    def __len__(self) -> int:
        """How many calls are in flight."""
        return self._in_flight.total()

    @contextmanager
    def using(self, id: str) -> Iterator[None]:
        """Counts one call to the instance for as long as the block lasts."""
        self._in_flight[id] += 1
        try:
            yield
        finally:
            self._in_flight[id] -= 1
            if not self._in_flight[id]:
                del self._in_flight[id]

    def record_connection(self, id: str, *, ok: bool) -> None:
        """Whether the instance could be connected to just now."""
        if ok:
            self._unreached.pop(id, None)
        else:
            self._unreached[id] = None

    def ordered(
        self, entries: Iterable[Entry], protocol: str | None, tool: str | None = None
    ) -> list[Entry]:
        """``entries`` in the order to try.

        Those that recently could not be reached come last, before them the degraded ones and those
        that nobody vouches for, and before these the ones not known to speak ``protocol``, or to
        offer ``tool`` while an upgrade is under way, where these are given. Among equals the one
        with the fewest calls in flight for its weight comes first, then chance in proportion to the
        weight decides. Weight 0 comes after all other weights.
        """

        entries = list(entries)
        counted = weights(each.instance for each in entries)

        def rank(entry: Entry) -> tuple[bool, bool, bool, bool, bool, float, float]:
            record, weight = entry.record, counted[entry.id]
            return (
                record.id in self._unreached,
                entry.health.status is not Status.HEALTHY or not is_vouched_for(entry.instance),
                protocol is not None and protocol not in record.protocol.versions,
                tool is not None and tool not in record.capabilities.tools,
                not weight,
                self._in_flight[record.id] / (weight or 1),
                # The least of such draws is the first of a draw by weight.
                self._chance.expovariate(weight or 1),
            )

        return sorted(entries, key=rank)


def candidates(
    view: View, name: str, versions: frozenset[VersionRange], request: web.Request
) -> list[Entry]:
    """The replicas of ``name`` that take new calls, in one of the ``versions`` if any is named.

    ``view`` is the list as the caller of ``request`` sees it. They are all of the server that has
    the name, and never of a namesake; and the caller may call them. Raises
    :class:`ProblemError` where there is none, and says why.
    """
    every = view.select(Query(name=name, status=()))
    rights = caller_of(request).rights
    if every and not any(access_to(rights, each.instance) for each in every):
        raise not_callable(request, name)
    servers = by_server(every, attrgetter("instance")) if len(every) > 1 else [every]
    alive = [each for each in servers[0] if _is_open(each)]
    if not alive:
        raise _none_alive(name, servers)
    fit = [
        each
        for each in alive
        if (not versions or any(each.record.version in wanted for wanted in versions))
        and access_to(rights, each.instance)
    ]
    if not fit:
        there = ", ".join(sorted({each.record.version for each in alive})[:20])
        detail = f"no replica of {name!r} that is alive has such a version; there are {there}"
        raise ProblemError(404, "no-such-version", detail, name=name)
    return fit


def not_callable(request: web.Request, name: str) -> ProblemError:
    """Says that the caller of ``request`` sees the server and may not call it."""
    challenges = request.app[CHALLENGES]
    if caller_of(request).is_anonymous:
        return challenges.unauthenticated(request, "call")
    detail = f"you have no right to call {name[:100]!r}; ask for a role that has"
    return challenges.insufficient(request, "call", detail)


def _is_open(entry: Entry) -> bool:
    return entry.health.status in _OPEN and entry.record.endpoint.transport == TRANSPORT


def _none_alive(name: str, servers: Sequence[Sequence[Entry]]) -> ProblemError:
    every = servers[0]
    if not every:
        detail = f"there is no server called {name[:100]!r}; GET /servers?status=all lists them"
        return ProblemError(404, "unknown-server", detail, name=name[:100])
    spoken = {each.record.endpoint.transport for each in every}
    if TRANSPORT not in spoken:
        detail = (
            f"{name!r} is reached over {', '.join(sorted(spoken))}, and the gateway passes on "
            f"{TRANSPORT} only; GET /servers?name={name} tells its own address"
        )
        return ProblemError(501, "not-passed-on", detail, name=name)
    last = max(every, key=lambda each: each.health.since)
    detail = (
        f"no replica of {name!r} takes calls now, try again soon; {last.id} is "
        f"{last.health.status}: {last.health.reason}"
    )
    if len(servers) > 1:
        why = why_different(every[0].record, servers[1][0].record)
        detail += f"; {servers[1][0].id} has the same name and is another server: {why}"
    return ProblemError(503, "no-replica", detail, name=name)
