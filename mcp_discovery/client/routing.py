"""Routes from a tool's name to the instances that may be called, found in an index."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from random import Random

from mcp_discovery.balancing import CHANCE, Candidate, RoundRobin, Strategy, consistent_hash
from mcp_discovery.client.connection import CALLABLE, InstanceConnection
from mcp_discovery.client.pool import ConnectionPool
from mcp_discovery.client.tool import OfferedTool, Tool, is_repeatable
from mcp_discovery.errors import (
    AmbiguousToolError,
    Remedy,
    ToolChangedError,
    UnknownToolError,
)
from mcp_discovery.health import Status
from mcp_discovery.namesakes import by_server, why_different
from mcp_discovery.nearest import all_nearest, nearest
from mcp_discovery.plural import counted
from mcp_discovery.vouching import is_vouched_for, together, voice, weights

log = logging.getLogger(__name__)

#: What separates a server's name, which contains neither, from its tool's. The second one is used
#: where the first would make another tool's own name.
_SEPARATORS = (".", "/")


@dataclass(frozen=True, slots=True)
class Route:
    """One tool of one server, and the instances that offer it alike.

    ``offer`` is ``None`` where no more than its name is known.
    """

    server: str
    tool: str
    offer: OfferedTool | None
    connections: tuple[InstanceConnection, ...]

    @property
    def repeatable(self) -> bool:
        """Whether a call may be sent to a second instance after a first one got it."""
        return self.offer is not None and is_repeatable(self.offer.definition)

    @property
    def callable(self) -> int:
        """How many of the instances may be called now, as far as the list says."""
        return sum(1 for each in self.connections if each.instance.health.status in CALLABLE)


class Router:
    """Resolves names and chooses replicas, over one :class:`ConnectionPool`."""

    def __init__(self, pool: ConnectionPool, strategy: Strategy) -> None:
        self._pool = pool
        self._strategy = strategy
        self._random = Random()
        self._rotation = RoundRobin()
        self._owners: dict[str, str] = {}
        self._resolved: dict[tuple[str, str | None, str | None], Route] = {}
        self._resolved_at = -1
        self._sticky: dict[str, str] = {}
        self._shared: set[str] = set()  # names of which it was said that several servers have them

    def knows(self, name: str, server: str | None) -> bool:
        """Whether ``name`` was resolved before: its server may be away for a moment only."""
        owner = self._owners.get(name)
        return owner is not None and server in (None, owner)

    def resolve(self, name: str, server: str | None, digest: str | None) -> Route:
        """The route of a tool's name.

        ``server`` is a server's name or an instance's id; ``digest`` that of the tool as it was
        listed. A name that was resolved to one server's tool stays with that server, even when
        another one offers a tool of that name later. Raises :class:`UnknownToolError`,
        :class:`AmbiguousToolError` and :class:`ToolChangedError`.
        """
        if self._resolved_at != self._pool.revision:
            self._resolved.clear()
            self._resolved_at = self._pool.revision
        key = name, server, digest
        if (route := self._resolved.get(key)) is None:
            route = self._resolved[key] = self._resolve(name, server, digest)
        return route

    def _resolve(self, name: str, server: str | None, digest: str | None) -> Route:
        tool, found = self._found(name, server)
        if not found:
            raise self._unknown(name, server)
        if len(found) > 1 and (owner := self._owners.get(name)) in found:
            found = {owner: found[owner]}
        if len(found) > 1:
            choices = tuple(self.name_of(each, tool) for each in sorted(found))
            raise AmbiguousToolError(name, choices)
        ((owner, variants),) = found.items()
        if server is None:
            self._owners[name] = owner
        if digest is None:
            return min(variants, key=_rank)
        for route in variants:
            if route.offer is not None and route.offer.digest == digest:
                return route
        problem = "no instance offers it any more as it was listed; read the tools again"
        raise ToolChangedError(tool, owner, problem)

    def _found(self, name: str, server: str | None) -> tuple[str, dict[str, list[Route]]]:
        """The tool's own name, and its variants by server."""
        if found := self._variants(name, server):
            return name, found
        for separator in _SEPARATORS:
            owner, cut, tool = name.partition(separator)
            if cut and (found := self._variants(tool, owner)) and server in (None, owner):
                return tool, found
        return name, {}

    def _variants(self, tool: str, server: str | None) -> dict[str, list[Route]]:
        offers = self._pool.index.of(tool)
        named: defaultdict[str, list[InstanceConnection]] = defaultdict(list)
        for id in offers:
            connection = self._pool.connections[id]
            owner = connection.instance.record.name
            if server is None or server in (owner, id):
                named[owner].append(connection)
        found: dict[str, list[Route]] = {}
        for owner, connections in named.items():
            grouped: defaultdict[str | None, list[InstanceConnection]] = defaultdict(list)
            for each in self._of_one_server(owner, connections):
                offer = offers[each.id]
                grouped[None if offer is None else offer.digest].append(each)
            found[owner] = [
                Route(owner, tool, offers[group[0].id], tuple(group)) for group in grouped.values()
            ]
        return found

    def _of_one_server(
        self, name: str, connections: Sequence[InstanceConnection]
    ) -> Sequence[InstanceConnection]:
        """Those of the server that has the name, where several servers share it."""
        if len(connections) < 2:
            return connections
        servers = by_server(connections, attrgetter("instance"))
        if len(servers) > 1 and name not in self._shared:
            self._shared.add(name)
            first, other = servers[0][0], servers[1][0]
            why = why_different(first.instance.record, other.instance.record)
            log.warning(
                "%d servers share the name %s: %s; calls by that name go to %s and its replicas "
                "alone, name an instance's id for another",
                *(len(servers), name, why, first.id),
            )
        return servers[0]

    def replicas(self, server: str) -> Sequence[InstanceConnection]:
        """The instances of ``server``, a name or an instance's id."""
        every = self._pool.connections.values()
        meant = [each for each in every if server in (each.instance.record.name, each.id)]
        return self._of_one_server(server, meant)

    def _unknown(self, name: str, server: str | None) -> UnknownToolError:
        """Why there is none, whose tool has that name, or else which names are most like it."""
        if not self._pool.connections:
            problem = "no server was found at all"
            return UnknownToolError(name, problem, remedy=Remedy.OTHER_SERVERS)
        names = self._pool.index.tools
        every = [each.instance.record for each in self._pool.connections.values()]
        if server is None:
            problem = f"no server that was found offers it ({counted(len(every), 'instance')})"
        elif server in self._pool.connections or any(each.name == server for each in every):
            problem = f"{server!r} does not offer it"
            names = {each for each in names if self._variants(each, server)}
        else:
            near = nearest(server, (each.name for each in every))
            hint = f" (did you mean {near!r}?)" if near else ""
            problem = f"no server {server!r} was found{hint}"
        if owners := sorted(self._variants(name, None)):
            return UnknownToolError(name, f"{problem}; it is offered by {', '.join(owners)}")
        return UnknownToolError(name, problem, all_nearest(name, names))

    def name_of(self, server: str, tool: str) -> str:
        """The tool's name with its server's, as :meth:`resolve` takes it."""
        name = f"{server}{_SEPARATORS[0]}{tool}"
        return f"{server}{_SEPARATORS[1]}{tool}" if self._pool.index.of(name) else name

    def tools(self) -> list[Tool]:
        """Every tool that can be called now, by name: of each server's the variant of those of its
        instances that count most."""
        tools = []
        for tool in self._pool.index.tools:
            found = self._variants(tool, None)
            for server, variants in found.items():
                route = min(variants, key=_rank)
                callable_ = [
                    each for each in route.connections if self._pool.can_be_called(each.instance)
                ]
                if not callable_:
                    continue
                definition: Mapping[str, object] = {"name": tool}
                digest = ""
                if route.offer is not None:
                    definition, digest = route.offer.definition, route.offer.digest
                name = tool if len(found) == 1 else self.name_of(server, tool)
                first = min(each.id for each in callable_)
                tools.append(Tool(name, server, first, definition, digest, len(callable_)))
        return sorted(tools, key=lambda each: (each.name, each.server))

    def choose(
        self, route: Route, tried: Iterable[str], key: str | None
    ) -> InstanceConnection | None:
        """The replica to call: healthy before degraded, and first those that are vouched for, by
        the strategy; none of ``tried``.

        ``key`` gives the same replica for the same key for as long as it lives. Legacy sessions
        may have a state, so all calls go to one of them while it can be called.
        """
        usable = [
            each
            for each in route.connections
            if each.id not in tried
            and each.breaker.closed
            and self._pool.can_be_called(each.instance)
        ]
        healthy = [each for each in usable if each.instance.health.status is Status.HEALTHY]
        usable = [each for each in healthy if is_vouched_for(each.instance)] or healthy or usable
        if not usable:
            return None
        sticky = self._sticky.get(route.server)
        chosen = next((each for each in usable if each.id == sticky and each.session.legacy), None)
        return chosen or self._ordered(route.server, usable, key)

    def answered(self, route: Route, connection: InstanceConnection) -> None:
        """Records that a call succeeded there: of a legacy server the next ones go there, too."""
        if connection.session.legacy:
            self._sticky[route.server] = connection.id

    def _ordered(
        self, server: str, usable: list[InstanceConnection], key: str | None
    ) -> InstanceConnection:
        if len(usable) == 1:
            return usable[0]
        by_id = {each.id: each for each in usable}
        counted = weights(each.instance for each in usable)
        candidates = [
            Candidate(each.id, counted[each.id], _load(each, counted[each.id])) for each in usable
        ]
        # An instance of weight 0 gets calls only where there is no other.
        candidates = [each for each in candidates if each.weight] or candidates
        if key is not None or self._strategy == "consistent-hash":
            order = consistent_hash(candidates, key or server)
        elif self._strategy == "round-robin":
            order = self._rotation.next(server, candidates)
        else:
            order = CHANCE[self._strategy](candidates, self._random)
        return by_id[order[0].id]


def _rank(route: Route) -> tuple[bool, object, bool]:
    """First what may be called, then what those that count most offer, not the latest comer's."""
    alive = [each.instance for each in route.connections if each.instance.health.status in CALLABLE]
    return not alive, together(map(voice, alive)), route.offer is None


def _load(connection: InstanceConnection, weight: int) -> float:
    """This client's calls under way there per unit of weight, plus the load that it reports."""
    load = connection.instance.load
    own = connection.active / max(weight, 1)
    return own + ((load.ratio or 0.0) if load is not None else 0.0)
