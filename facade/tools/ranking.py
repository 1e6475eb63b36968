"""Tools in the order in which they are found: of every server for itself, or by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from mcp_discovery.facade.tools.index import ToolDefinition, ToolOffer
from mcp_discovery.health import PREFERENCE
from mcp_discovery.query.index import ToolKey
from mcp_discovery.query.ranking import Ranking
from mcp_discovery.vouching import NOBODY, Voice, together


@dataclass(frozen=True, slots=True)
class ToolMatch:
    """One tool of one server, as most of its replicas define it (``None``: not known), and where
    it was found."""

    name: str
    server: str
    definition: ToolDefinition | None
    ranked: tuple[Ranking[ToolKey], ToolKey] | None = None

    @property
    def why(self) -> str | None:
        """Why it was found, in one line; ``None`` where nothing was searched for."""
        if self.ranked is None:
            return None
        ranking, key = self.ranked
        return ranking.why(key)

    @property
    def tool(self) -> Mapping[str, Any]:
        """MCP's definition of it, empty where that is not known."""
        return self.definition.tool if self.definition else {}


@dataclass(frozen=True, slots=True)
class ToolRanks:
    """What a question found of the tools of one list: which comes before which, and why.

    Those of healthy servers come first, then those with the greatest score; of equal ones those
    that are used more, then names decide. ``use`` is how often each was used, by name.
    """

    ranking: Ranking[ToolKey]
    use: Mapping[str, int]

    def matches(self, offers: Mapping[str, ToolOffer]) -> list[ToolMatch]:
        """The found ones of the tools in ``offers``, of each server for itself, the best first."""
        definitions = cache(lambda name: definitions_by_server(offers[name]))
        found = []
        for key, offer in self._offered(offers):
            name, server, digest = key
            definition = definitions(name).get(server)
            if digest == (definition.digest if definition else None):
                found.append((self._rank(key, offer), key, definition))
        found.sort(key=lambda each: (each[0], each[1][:2]))
        return [
            ToolMatch(key[0], key[1], definition, (self.ranking, key))
            for _, key, definition in found
        ]

    def names(self, offers: Mapping[str, ToolOffer]) -> dict[str, ToolKey]:
        """The best server's, by the name of each of the found ones of the tools in ``offers``, the
        best first."""
        best: dict[str, tuple[tuple[int, int, int, str, str], ToolKey]] = {}
        for key, offer in self._offered(offers):
            rank = (*self._rank(key, offer), *key[:2])
            if key[0] not in best or rank < best[key[0]][0]:
                best[key[0]] = rank, key
        return {key[0]: key for _, key in sorted(best.values(), key=lambda each: each[0])}

    def _offered(self, offers: Mapping[str, ToolOffer]) -> Iterator[tuple[ToolKey, ToolOffer]]:
        for key in self.ranking:
            offer = offers.get(key[0])
            groups = offer.groups.get(key[2]) if offer is not None else None
            if offer is not None and any(key[1] in group.servers for group in groups or ()):
                yield key, offer

    def _rank(self, key: ToolKey, offer: ToolOffer) -> tuple[int, int, int]:
        name, server, digest = key
        groups = offer.groups[digest]
        health = groups[0].health.get(server) if len(groups) == 1 else None
        if health is None:
            every = (group.health[server] for group in groups if server in group.servers)
            health = min(every, key=PREFERENCE.index)
        use = -self.use[name].bit_length() if name in self.use else 0
        return PREFERENCE.index(health), -self.ranking.score(key), use


def all_matches(offers: Mapping[str, ToolOffer]) -> list[ToolMatch]:
    """All of the tools in ``offers``, of each server for itself, by name."""
    found = [
        ToolMatch(name, server, definition)
        for name, offer in offers.items()
        for server, definition in definitions_by_server(offer).items()
    ]
    found.sort(key=lambda each: (each.name, each.server))
    return found


def definitions_by_server(offer: ToolOffer) -> dict[str, ToolDefinition | None]:
    """Server → the definition of those of its instances that count most."""
    if len(offer.groups) == 1:
        ((digest, groups),) = offer.groups.items()
        servers = chain.from_iterable(group.servers for group in groups)
        return dict.fromkeys(servers, offer.definitions.get(digest or ""))
    votes: defaultdict[str, dict[str | None, Voice]] = defaultdict(dict)
    for digest, groups in offer.groups.items():
        for group in groups:
            for server, heard in group.voices.items():
                votes[server][digest] = together((votes[server].get(digest, NOBODY), heard))
    return {
        # A known definition counts more than an unknown one.
        server: offer.definitions.get(
            min(counted, key=lambda each: (each is None, counted[each], each or "")) or ""
        )
        for server, counted in votes.items()
    }
