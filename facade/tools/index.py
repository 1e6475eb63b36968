"""Which servers offer which tools, and how each spells them: from many records to one answer."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.tools.definitions import Spelling, Tools, weights_of
from mcp_discovery.query.search import Postings

#: Ids that stand beside a tool in the list; all of them stand at ``/tools/{name}``.
_LISTED_IDS = 20


@dataclass(frozen=True, slots=True)
class Alike:
    """Instances that offer the same names from the same document; ids in order."""

    digest: str | None
    ids: list[str] = field(default_factory=list)
    servers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, slots=True)
class Offer:
    """One tool and who offers it: groups by the digest of how they spell it, ``None`` unread."""

    name: str
    spellings: dict[str, Spelling] = field(default_factory=dict)
    groups: dict[str | None, list[Alike]] = field(default_factory=lambda: defaultdict(list))

    @property
    def everyone(self) -> list[Alike]:
        """All groups that offer it."""
        return list(chain.from_iterable(self.groups.values()))

    def ordered(self) -> list[Spelling]:
        """Its spellings, that of most instances first; digests decide between equals."""
        return sorted(
            self.spellings.values(),
            key=lambda each: (-count(self.groups[each.digest]), each.digest),
        )


# -- who offers what --------------------------------------------------------------------------


def alike_in(entries: Iterable[Entry]) -> dict[tuple[str, ...], list[Alike]]:
    """Names of tools → groups of instances that offer just those, one for each document.

    Instances of one version are alike, so that names are looked at once for each version.
    """
    found: dict[tuple[tuple[str, ...], str | None], Alike] = {}
    for entry in entries:
        offered = entry.record.capabilities
        group = found.setdefault((offered.tools, offered.digest), Alike(offered.digest))
        group.ids.append(entry.id)
        group.servers[entry.record.name].append(entry.id)
    by_names: defaultdict[tuple[str, ...], list[Alike]] = defaultdict(list)
    for (names, _), group in found.items():
        group.ids.sort()
        by_names[names].append(group)
    return by_names


def digests_of(alike: Mapping[tuple[str, ...], list[Alike]]) -> set[str]:
    """The digests of the documents that say how their tools are spelled."""
    groups = chain.from_iterable(groups for names, groups in alike.items() if names)
    return {group.digest for group in groups if group.digest is not None}


def offers_of(
    alike: Mapping[tuple[str, ...], list[Alike]],
    known: Mapping[str, Tools],
    only: frozenset[str],
) -> dict[str, Offer]:
    """Name → the tool, of those in ``only`` where it names any; ``known`` are tools by digest."""
    offers: dict[str, Offer] = {}
    for names, groups in alike.items():
        for name in dict.fromkeys(names):
            if only and name not in only:
                continue
            offer = offers.setdefault(name, Offer(name))
            for group in groups:
                spelling = known.get(group.digest or "", {}).get(name)
                if spelling is not None:
                    offer.spellings.setdefault(spelling.digest, spelling)
                offer.groups[spelling.digest if spelling else None].append(group)
    return offers


class ToolIndex:
    """Tools by the words of their spellings; scores as
    :func:`mcp_discovery.facade.tools.definitions.score` has them."""

    def __init__(self, offers: Mapping[str, Offer]) -> None:
        self._names: list[str] = []  # of each spelling, in order
        self._postings: Postings[int] = Postings()
        for name in sorted(offers):
            spelled = [each.weights for each in offers[name].spellings.values()]
            for weights in spelled or [weights_of(name)]:
                self._postings.add(len(self._names), weights)
                self._names.append(name)

    def find(self, wanted: Sequence[str], most: int) -> tuple[list[str], int]:
        """The names of the ``most`` best that have every word of ``wanted`` in one spelling, and
        how many there are in all."""
        scores: Mapping[int, int] = {}
        for number, word in enumerate(wanted):
            found = self._postings.find(word)
            if number:
                found = {key: scores[key] + found[key] for key in scores.keys() & found.keys()}
            scores = found
        ordered = sorted(scores)
        ordered.sort(key=scores.__getitem__, reverse=True)  # stable: names decide between equals
        names = dict.fromkeys(map(self._names.__getitem__, ordered))
        return list(islice(names, most)), len(names)


def count(groups: Iterable[Alike]) -> int:
    """How many instances are in ``groups``."""
    return sum(len(group.ids) for group in groups)


def _ids(groups: Iterable[Alike]) -> list[str]:
    return list(heapq.merge(*(group.ids for group in groups)))


def _servers(groups: Iterable[Alike]) -> list[str]:
    return sorted(set(chain.from_iterable(group.servers for group in groups)))


# -- what is told -----------------------------------------------------------------------------


def _described(offer: Offer, spelling: Spelling | None) -> dict[str, Any]:
    told: dict[str, Any] = {"name": offer.name}
    if spelling is not None:
        texts = {member: spelling.text(member) for member in ("title", "description")}
        told |= {member: text for member, text in texts.items() if text}
    return told


def listed(offer: Offer, with_schema: bool) -> dict[str, Any]:
    """The tool as it stands in a list."""
    groups, spellings = offer.everyone, offer.ordered()
    first = spellings[0] if spellings else None
    told = _described(offer, first) | {
        "servers": len(_servers(groups)),
        "providers": count(groups),
        "instances": list(islice(heapq.merge(*(each.ids for each in groups)), _LISTED_IDS)),
        "variants": len(spellings),
    }
    if with_schema and first is not None and isinstance(first.tool.get("inputSchema"), dict | bool):
        told["inputSchema"] = first.tool["inputSchema"]
    return told


def detail(offer: Offer) -> dict[str, Any]:
    """All that is known of the tool."""
    groups, spellings = offer.everyone, offer.ordered()
    first = spellings[0] if spellings else None
    others = [offer.groups[each.digest] for each in spellings[1:]]
    return _described(offer, first) | {
        "servers": _servers(groups),
        "providers": count(groups),
        "instances": _ids(groups),
        "consistent": len(spellings) < 2,
        "variants": [_variant(each, spellings[0], offer.groups[each.digest]) for each in spellings],
        "odd": _ids(chain.from_iterable(others)),
        "inconsistentServers": _inconsistent(offer),
        "unknown": _ids(offer.groups.get(None, ())),
    }


def _variant(spelling: Spelling, first: Spelling, groups: Sequence[Alike]) -> dict[str, Any]:
    members = sorted({*spelling.tool, *first.tool})
    return {
        "digest": spelling.digest,
        "schema": spelling.tool.get("inputSchema"),
        "differs": [each for each in members if spelling.tool.get(each) != first.tool.get(each)],
        "servers": _servers(groups),
        "instances": _ids(groups),
        "tool": spelling.tool,
    }


def _inconsistent(offer: Offer) -> list[str]:
    """The names of servers whose own replicas spell it in more than one way."""
    ways: defaultdict[str, set[str]] = defaultdict(set)
    for digest, groups in offer.groups.items():
        for name in chain.from_iterable(group.servers for group in groups) if digest else ():
            ways[name].add(digest or "")
    return sorted(name for name, digests in ways.items() if len(digests) > 1)
