"""The tool ``find_tools``: tools across all servers, ranked by words, within a budget of tokens."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Final

import orjson

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.facade.mcp.scope import (
    FILTERS,
    SERVER_FILTERS,
    WORDS,
    query_of,
    why_nothing,
    words_of,
)
from mcp_discovery.facade.mcp.tool import OnProgress, Tool, answered, strings
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.state import not_ready
from mcp_discovery.facade.tools.definitions import Spelling, Spellings, score, weights_of
from mcp_discovery.facade.tools.index import Offer, alike_in, digests_of, offers_of
from mcp_discovery.query.search import NAME

#: For how many seconds one call waits for documents that were not read before.
PATIENCE: Final = 2.0
_LIMIT, _MOST = 20, 500
_TOKENS, _MOST_TOKENS = 4000, 200_000
#: Characters of JSON that are counted as one token.
_CHARACTERS: Final = 4

#: What an item can carry; its name and its server it always has.
_DEFINITION = ("title", "description", "inputSchema", "outputSchema", "annotations")
_FIELDS = ("name", "server", *_DEFINITION)
_USUAL = ("name", "server", "title", "description")


@dataclass(frozen=True, slots=True)
class Found:
    """One tool of one server, as most of its replicas spell it (``None``: not known)."""

    name: str
    server: str
    spelling: Spelling | None

    def rank(self, words: Sequence[str], of_server: Sequence[int]) -> tuple[int, int]:
        """How many of ``words`` it has, and how well; ``of_server`` is what its server's name
        adds for each of them."""
        spelled = self.spelling.weights if self.spelling else weights_of(self.name)
        found = total = 0
        for word, least in zip(words, of_server, strict=True):
            best = score(spelled, (word,)) or least
            found += best > 0
            total += best
        return found, total

    def told(self, fields: Sequence[str]) -> dict[str, Any]:
        """The item, with these fields where they are known."""
        tool = self.spelling.tool if self.spelling else {}
        told: dict[str, Any] = {"name": self.name, "server": self.server}
        return told | {each: tool[each] for each in _DEFINITION if each in fields and each in tool}


class FindTools(Tool):
    """Looks into one catalog, and into the documents in which tools are described."""

    name = "find_tools"
    title = "Find tools"
    description = (
        "Find tools across all MCP servers that are alive, by words that say what you want to do. "
        "Tools that have more of the words come first, then those that have them in their name. "
        "The answer stays within max_tokens. Then use describe_tool for a tool's arguments, or ask "
        "for inputSchema in fields."
    )
    input_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "q": WORDS
            | {
                "description": "Words for what the tool should do, such as 'search products'. "
                "Leave it out to list tools by name."
            },
            "server": SERVER_FILTERS["name"],
            **FILTERS,
            "fields": strings(
                "What to tell of each tool; name and server always are. The usual ones are title "
                "and description. Schemas are long: ask for inputSchema only with a good q.",
                enum=list(_FIELDS),
            ),
            "max_tokens": {
                "type": "integer",
                "minimum": 50,
                "maximum": _MOST_TOKENS,
                "default": _TOKENS,
                "description": "How long the list may be, estimated as a token for every "
                f"{_CHARACTERS} characters of its JSON.",
            },
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": _MOST,
                "default": _LIMIT,
                "description": "How many tools to tell at most.",
            },
        },
        "additionalProperties": False,
    }
    output_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "tools": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "description": "The tool's own name."},
                        "server": {"type": "string", "description": "Which server offers it."},
                        "title": {"type": "string"},
                        "description": {"type": "string"},
                        "inputSchema": {"type": ["object", "boolean"]},
                        "outputSchema": {"type": ["object", "boolean"]},
                        "annotations": {"type": "object"},
                    },
                    "required": ["name", "server"],
                },
            },
            "matched": {"type": "integer", "description": "How many tools match in all."},
            "tokens": {"type": "integer", "description": "How long the list is, as estimated."},
            "cut": {
                "type": "string",
                "enum": ["max_tokens", "limit"],
                "description": "What left out the rest, where not all that match are told.",
            },
            "note": {"type": "string", "description": "What to do about an incomplete answer."},
            "staleSince": {
                "type": "string",
                "description": "The list may be out of date since then.",
            },
            "problem": {"type": "string", "description": "Why it may be."},
        },
        "required": ["tools", "matched", "tokens"],
    }

    def __init__(self, catalog: Catalog, spellings: Spellings) -> None:
        self._catalog = catalog
        self._spellings = spellings

    async def run(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None
    ) -> Mapping[str, Any]:
        query = query_of({**arguments, "name": arguments["server"]})
        words = words_of(arguments["q"])
        if not self._catalog.is_ready:
            raise not_ready(self._catalog)
        view = self._catalog.view
        alike = await asyncio.to_thread(lambda: alike_in(view.select(query)))
        digests = digests_of(alike)
        known = await self._spellings.of(digests, timeout=PATIENCE)

        def told() -> dict[str, Any]:
            found = found_in(offers_of(alike, known, frozenset()), words)
            body = _within(found, arguments)
            if not found:
                body["note"] = why_nothing(view, query)
            elif unread := len(digests - known.keys()):
                body["note"] = (
                    f"{unread} servers' descriptions could not be read in time; ask again. "
                    + body.get("note", "")
                ).rstrip()
            return answered(body | list_json.staleness(view))

        # Beside the event loop: there may be many, and nothing of it changes any more.
        return await asyncio.to_thread(told)


def found_in(offers: Mapping[str, Offer], words: Sequence[str]) -> list[Found]:
    """Each tool of each server, the best first: those with any of ``words``, all without words."""
    found = [
        Found(name, server, spelling)
        for name, offer in offers.items()
        for server, spelling in _by_server(offer).items()
    ]
    found.sort(key=lambda each: (each.name, each.server))
    if not words:
        return found
    # A word in the server's name counts less than any in the tool's own.
    of_servers = {
        server: [score(weights_of(server), (word,)) * 2 // NAME for word in words]
        for server in {each.server for each in found}
    }
    ranks = [(each.rank(words, of_servers[each.server]), each) for each in found]
    ranks.sort(key=lambda each: each[0], reverse=True)  # stable: names decide between equals
    return [each for rank, each in ranks if rank[0]]


def _by_server(offer: Offer) -> dict[str, Spelling | None]:
    """Server → how most of its instances spell the tool."""
    if len(offer.groups) == 1:
        ((digest, groups),) = offer.groups.items()
        servers = chain.from_iterable(group.servers for group in groups)
        return dict.fromkeys(servers, offer.spellings.get(digest or ""))
    votes: defaultdict[str, dict[str | None, int]] = defaultdict(dict)
    for digest, groups in offer.groups.items():
        for group in groups:
            for server, ids in group.servers.items():
                votes[server][digest] = votes[server].get(digest, 0) + len(ids)
    return {
        # One that is known counts more than any that is not.
        server: offer.spellings.get(
            max(counted, key=lambda each: (each is not None, counted[each], each or "")) or ""
        )
        for server, counted in votes.items()
    }


def _within(found: Sequence[Found], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The items from the best on, as many as the limit and the budget allow."""
    fields = arguments["fields"] or _USUAL
    told: list[dict[str, Any]] = []
    characters = 2
    cut: str | None = None
    for each in found:
        if len(told) == arguments["limit"]:
            cut = "limit"
            break
        item = each.told(fields)
        size = len(orjson.dumps(item, default=dict).decode()) + 1
        if characters + size > arguments["max_tokens"] * _CHARACTERS:
            cut = "max_tokens"
            break
        characters += size
        told.append(item)
    body: dict[str, Any] = {
        "tools": told,
        "matched": len(found),
        "tokens": -(-characters // _CHARACTERS),
    }
    if cut is None:
        return body
    left = len(found) - len(told)
    if told:
        note = f"{left} more match; add words to q, or raise {cut}."
    else:
        note = (
            f"The first of {left} tools alone takes more than max_tokens; raise it, or ask for "
            "fewer fields."
        )
    return body | {"cut": cut, "note": note}
