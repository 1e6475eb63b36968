"""Tools across servers: ``/tools`` and ``/tools/{name}``."""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

import orjson
from aiohttp import web

from adapters.search import words
from adapters.view import Entry
from facade import listing
from facade.etag import IF_NONE_MATCH, tag_of, tagged
from facade.models.tools import ToolDetail, ToolList
from facade.operation import Operation, Parameter
from facade.problems import Refused
from facade.query import FILTERS, MIN_UPTIME, parse
from facade.spellings import Spelling, Spellings, Tools, score, weights_of
from facade.state import facade_of
from facade.values import flag, nearest, once, whole

#: For how many seconds one request waits for documents that were not read before.
_PATIENCE = 2.0
#: Ids that stand beside a tool in the list; all of them stand at ``/tools/{name}``.
_LISTED_IDS = 20
_LIMIT, _MOST = 1000, 10_000

SPELLINGS = web.AppKey("spellings", Spellings)


@dataclass(frozen=True, slots=True)
class _Alike:
    """Instances that offer the same names from the same document; ids in order."""

    digest: str | None
    ids: list[str] = field(default_factory=list)
    servers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, slots=True)
class _Offer:
    """One tool and who offers it: groups by the digest of how they spell it, ``None`` unread."""

    name: str
    spellings: dict[str, Spelling] = field(default_factory=dict)
    groups: dict[str | None, list[_Alike]] = field(default_factory=lambda: defaultdict(list))

    @property
    def everyone(self) -> list[_Alike]:
        return list(chain.from_iterable(self.groups.values()))

    def ordered(self) -> list[Spelling]:
        """Its spellings, that of most instances first; digests decide between equals."""
        return sorted(
            self.spellings.values(),
            key=lambda each: (-_count(self.groups[each.digest]), each.digest),
        )


async def tools(request: web.Request) -> web.Response:
    """Every tool that the matching servers offer, each once, by name.

    With ``q`` only those that have all of its words in name, title or description, the best first.
    Where spellings differ, that of most instances stands for all.
    """
    facade = facade_of(request)
    query = parse(request)
    text = once(request, "q")
    with_schema = flag(request, "schema")
    limit = whole(request, "limit", least=1, most=_MOST) or _LIMIT
    view = facade.view()
    alike = await asyncio.to_thread(lambda: _alike(view.select(query)))
    known = await request.app[SPELLINGS].of(_digests(alike), timeout=_PATIENCE)

    def told() -> bytes:
        offers = _offers(alike, known, query.tools)
        found = sorted(offers) if text is None else _ranked(offers, words(text))
        body: dict[str, Any] = {
            "tools": [_listed(offers[name], with_schema) for name in found[:limit]],
            "totalTools": len(found),
            "unread": len(_digests(alike) - known.keys()),
        }
        return orjson.dumps(body | listing.staleness(view), default=dict)

    # Beside the event loop: there may be many, and nothing of it changes any more.
    data = await asyncio.to_thread(told)
    return tagged(request, tag_of(data), data, {listing.REVISION: listing.position(view)})


async def tool(request: web.Request) -> web.Response:
    """Who offers one tool, its schema, and whether the replicas' schemas differ.

    Spellings are grouped by digest, that of most instances first. The filters say which servers
    are looked at: the healthy ones unless ``status`` says more.
    """
    facade = facade_of(request)
    name = request.match_info["name"]
    view = facade.view()
    query = parse(request)
    having = view.select(replace(query, tools=query.tools | {name}))
    if not having:
        raise _unknown(name, view.select(query))
    alike = _alike(having)
    known = await request.app[SPELLINGS].of(_digests(alike), timeout=_PATIENCE)
    offer = _offers(alike, known, frozenset({name}))[name]
    body = _detail(offer) | {"unread": len(_digests(alike) - known.keys())}
    data = orjson.dumps(body | listing.staleness(view), default=dict)
    return tagged(request, tag_of(data), data, {listing.REVISION: listing.position(view)})


# -- who offers what --------------------------------------------------------------------------


def _alike(entries: Iterable[Entry]) -> dict[tuple[str, ...], list[_Alike]]:
    """Names of tools → groups of instances that offer just those, one for each document.

    Instances of one version are alike, so that names are looked at once for each version.
    """
    found: dict[tuple[tuple[str, ...], str | None], _Alike] = {}
    for entry in entries:
        offered = entry.record.capabilities
        group = found.setdefault((offered.tools, offered.digest), _Alike(offered.digest))
        group.ids.append(entry.id)
        group.servers[entry.record.name].append(entry.id)
    by_names: defaultdict[tuple[str, ...], list[_Alike]] = defaultdict(list)
    for (names, _), group in found.items():
        group.ids.sort()
        by_names[names].append(group)
    return by_names


def _digests(alike: Mapping[tuple[str, ...], list[_Alike]]) -> set[str]:
    groups = chain.from_iterable(groups for names, groups in alike.items() if names)
    return {group.digest for group in groups if group.digest is not None}


def _offers(
    alike: Mapping[tuple[str, ...], list[_Alike]],
    known: Mapping[str, Tools],
    only: frozenset[str],
) -> dict[str, _Offer]:
    offers: dict[str, _Offer] = {}
    for names, groups in alike.items():
        for name in dict.fromkeys(names):
            if only and name not in only:
                continue
            offer = offers.setdefault(name, _Offer(name))
            for group in groups:
                spelling = known.get(group.digest or "", {}).get(name)
                if spelling is not None:
                    offer.spellings.setdefault(spelling.digest, spelling)
                offer.groups[spelling.digest if spelling else None].append(group)
    return offers


def _ranked(offers: Mapping[str, _Offer], wanted: Sequence[str]) -> list[str]:
    """The names of those that have every word of ``wanted`` in one of their spellings."""
    scores: dict[str, int] = {}
    for name, offer in offers.items():
        weights = [each.weights for each in offer.spellings.values()] or [weights_of(name)]
        if wanted and (best := max(score(each, wanted) for each in weights)):
            scores[name] = best
    return sorted(scores, key=lambda name: (-scores[name], name))


def _count(groups: Iterable[_Alike]) -> int:
    return sum(len(group.ids) for group in groups)


def _ids(groups: Iterable[_Alike]) -> list[str]:
    return list(heapq.merge(*(group.ids for group in groups)))


def _servers(groups: Iterable[_Alike]) -> list[str]:
    return sorted(set(chain.from_iterable(group.servers for group in groups)))


# -- what is told -----------------------------------------------------------------------------


def _described(offer: _Offer, spelling: Spelling | None) -> dict[str, Any]:
    told: dict[str, Any] = {"name": offer.name}
    if spelling is not None:
        texts = {member: spelling.text(member) for member in ("title", "description")}
        told |= {member: text for member, text in texts.items() if text}
    return told


def _listed(offer: _Offer, with_schema: bool) -> dict[str, Any]:
    groups, spellings = offer.everyone, offer.ordered()
    first = spellings[0] if spellings else None
    told = _described(offer, first) | {
        "servers": len(_servers(groups)),
        "providers": _count(groups),
        "instances": list(islice(heapq.merge(*(each.ids for each in groups)), _LISTED_IDS)),
        "variants": len(spellings),
    }
    if with_schema and first is not None and isinstance(first.tool.get("inputSchema"), dict | bool):
        told["inputSchema"] = first.tool["inputSchema"]
    return told


def _detail(offer: _Offer) -> dict[str, Any]:
    groups, spellings = offer.everyone, offer.ordered()
    first = spellings[0] if spellings else None
    others = [offer.groups[each.digest] for each in spellings[1:]]
    return _described(offer, first) | {
        "servers": _servers(groups),
        "providers": _count(groups),
        "instances": _ids(groups),
        "consistent": len(spellings) < 2,
        "variants": [_variant(each, spellings[0], offer.groups[each.digest]) for each in spellings],
        "odd": _ids(chain.from_iterable(others)),
        "inconsistentServers": _inconsistent(offer),
        "unknown": _ids(offer.groups.get(None, ())),
    }


def _variant(spelling: Spelling, first: Spelling, groups: Sequence[_Alike]) -> dict[str, Any]:
    members = sorted({*spelling.tool, *first.tool})
    return {
        "digest": spelling.digest,
        "schema": spelling.tool.get("inputSchema"),
        "differs": [each for each in members if spelling.tool.get(each) != first.tool.get(each)],
        "servers": _servers(groups),
        "instances": _ids(groups),
        "tool": spelling.tool,
    }


def _inconsistent(offer: _Offer) -> list[str]:
    """The names of servers whose own replicas spell it in more than one way."""
    ways: defaultdict[str, set[str]] = defaultdict(set)
    for digest, groups in offer.groups.items():
        for name in chain.from_iterable(group.servers for group in groups) if digest else ():
            ways[name].add(digest or "")
    return sorted(name for name, digests in ways.items() if len(digests) > 1)


def _unknown(name: str, entries: Iterable[Entry]) -> Refused:
    known = set(chain.from_iterable(entry.record.capabilities.tools for entry in entries))
    near = nearest(name, sorted(known)[:10_000])
    hint = f"did you mean {near!r}? " if near else ""
    detail = f"no server that matches offers a tool {name[:100]!r}; {hint}GET /tools lists them"
    return Refused(
        404, "unknown-tool", detail, name=name[:100], **({"nearest": near} if near else {})
    )


_NAME = Parameter("name", "The tool's name, percent-encoded.", where="path")
_SCOPE = (*FILTERS, MIN_UPTIME)
OPERATIONS = (
    Operation(
        "GET",
        "/tools",
        tools,
        "tools",
        answers={200: ToolList, 304: None},
        parameters=(
            Parameter("q", "Words that name, title or description have, all of them."),
            *_SCOPE,
            Parameter(
                "schema",
                "Whether schemas stand in the list.",
                {"type": "string", "enum": ["true", "false"]},
            ),
            Parameter(
                "limit",
                f"How many at most; {_LIMIT:,} unless it says otherwise.",
                {"type": "integer", "minimum": 1, "maximum": _MOST},
            ),
            IF_NONE_MATCH,
        ),
    ),
    Operation(
        "GET",
        "/tools/{name}",
        tool,
        "tools",
        answers={200: ToolDetail, 304: None},
        parameters=(_NAME, *_SCOPE, IF_NONE_MATCH),
        errors=(404,),
    ),
)
