"""The tools ``find_servers`` and ``find_tools``: by filters and by words, within bounds."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Final

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.mcp.tool import (
    CAVEAT_PROPERTIES,
    NAMES,
    WORDS,
    McpTool,
    OnProgress,
    filter_argument,
    filter_arguments,
    number,
    object_schema,
    query_of,
    text,
    tool_result,
    why_nothing,
    words_of,
)
from mcp_discovery.facade.mcp.tool_answer import DETAILS, ModelWindow, tool_answer
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import current_view
from mcp_discovery.facade.servers.paging import Sort
from mcp_discovery.facade.servers.search_index import ServerSearch
from mcp_discovery.facade.tools.index import (
    DOCUMENTS_TIMEOUT,
    ToolDefinition,
    ToolDefinitions,
    ToolOffer,
    digests_of,
    instance_groups,
    score,
    tool_offers,
    weights_of,
)
from mcp_discovery.plural import counted
from mcp_discovery.query.filters import FILTERS
from mcp_discovery.query.search import NAME
from mcp_discovery.vouching import NOBODY, Voice, together


class FindServers(McpTool):
    """Searches one catalog by filters and by words."""

    name = "find_servers"
    title = "Find MCP servers"
    description = (
        "Find MCP servers that are alive now, with the URL to connect to. Filter by tags, by the "
        "exact names of what they offer, or search by words. Only healthy servers are told unless "
        "you ask for others. To find a tool rather than a server, use find_tools."
    )
    output_schema: ClassVar[Mapping[str, Any]] = object_schema(
        ("servers", "matched"),
        servers={
            "type": "array",
            "items": object_schema(
                ("id", "name", "transport", "version", "tags", "status", "tools"),
                id=text("The id of this instance."),
                name=text("The server's name; its replicas share it."),
                title=text(),
                description=text(),
                url=text("Where to connect; absent for stdio servers."),
                transport=text(),
                version=text(),
                tags=NAMES,
                status=text(),
                reason=text("Why it has this status, where it is not healthy."),
                tools={"type": "integer", "description": "How many tools it offers."},
            ),
        },
        matched={"type": "integer", "description": "How many servers match in all."},
        note=text("What to do about an incomplete answer."),
        **CAVEAT_PROPERTIES,
    )

    def __init__(self, catalog: LiveList, search: ServerSearch) -> None:
        self._catalog = catalog
        self._search = search
        q = (
            "Words that all stand somewhere in a server's name, title, description, tags or tools; "
            "the best matches come first."
        )
        self.input_schema = object_schema(
            (),
            q=text(q, **WORDS),
            **filter_arguments(),
            limit=number("How many servers to tell at most.", default=20, most=200),
        ) | {"additionalProperties": False}

    async def run(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None, caller: Caller
    ) -> Mapping[str, Any]:
        query, words = query_of(arguments), words_of(arguments["q"])
        scores = await self._search.scores(words) if words else None
        view = current_view(self._catalog)
        found = view.select(query, among=scores)
        if scores is not None:
            found = Sort("relevance").ordered(found, scores, view.as_of)
        shown = found[: arguments["limit"]]
        content: dict[str, Any] = {"servers": list(map(_summary, shown)), "matched": len(found)}
        if not found:
            content["note"] = why_nothing(view, query)
        elif left := len(found) - len(shown):
            content["note"] = f"{_more(left)}; filter more closely, or raise limit."
        return tool_result(content | list_json.caveats(view))


def _summary(entry: Entry) -> dict[str, Any]:
    record, health = entry.record, entry.health
    summary: dict[str, Any] = {
        "id": entry.id,
        "name": record.name,
        "title": record.title,
        "description": record.description or None,
        "url": record.endpoint.url,
        "transport": record.endpoint.transport,
        "version": record.version,
        "tags": list(record.tags),
        "status": health.status.value,
        "reason": None if health.status.value == "healthy" else health.reason,
        "tools": len(record.capabilities.tools),
    }
    return {name: value for name, value in summary.items() if value is not None}


#: A number for each name.
_COUNTS: Final = {"type": "object", "additionalProperties": {"type": "integer"}}


@dataclass(frozen=True, slots=True)
class ToolMatch:
    """One tool of one server, as most of its replicas define it (``None``: not known)."""

    name: str
    server: str
    definition: ToolDefinition | None

    def rank(self, words: Sequence[str], of_server: Sequence[int]) -> tuple[int, int]:
        """How many of ``words`` it has, and its score; ``of_server`` is the score of each word in
        the name of its server."""
        weights = self.definition.weights if self.definition else weights_of(self.name)
        found = total = 0
        for word, least in zip(words, of_server, strict=True):
            best = score(weights, (word,)) or least
            found += best > 0
            total += best
        return found, total

    @property
    def tool(self) -> Mapping[str, Any]:
        """MCP's definition of it, empty where that is not known."""
        return self.definition.tool if self.definition else {}


class FindTools(McpTool):
    """Reads one catalog, and the documents in which tools are defined."""

    name = "find_tools"
    title = "Find tools"
    description = (
        "Find tools across all MCP servers that are alive, by words that say what you want to do. "
        "Tools that have more of the words come first, then those that have them in their name. "
        "The answer stays within max_tokens. Then use describe_tool for a tool's arguments, or ask "
        "for detail=full."
    )
    output_schema: ClassVar[Mapping[str, Any]] = object_schema(
        ("tools", "matched", "tokens", "countedBy"),
        tools={
            "type": "array",
            "items": object_schema(
                ("name", "server"),
                name=text("The tool's own name."),
                server=text("Which server offers it."),
                title=text(),
                description=text(),
                inputSchema={"type": ["object", "boolean"]},
                outputSchema={"type": ["object", "boolean"]},
                annotations={"type": "object"},
            ),
        },
        groups=object_schema(
            ("servers", "tags"),
            servers=_COUNTS | {"description": "How many of them each server has."},
            tags=_COUNTS | {"description": "How many of them servers with the tag have."},
        )
        | {"description": "Where many match: what to choose from by server and tags."},
        matched={"type": "integer", "description": "How many tools match in all."},
        tokens={"type": "integer", "description": "How long this answer is."},
        countedBy=text("What counted the tokens."),
        cut=text(
            "What left out the rest, where not all that match are told.",
            enum=["max_tokens", "limit"],
        ),
        note=text("What to do about an incomplete answer."),
        **CAVEAT_PROPERTIES,
    )

    def __init__(self, catalog: LiveList, definitions: ToolDefinitions) -> None:
        self._catalog = catalog
        self._definitions = definitions
        q = (
            "Words for what the tool should do, such as 'search products'. Leave it out to list "
            "tools by name."
        )
        detail = (
            "What to tell of each tool: its name and server; its title and the beginning of its "
            "description as well; or all of it, with schemas, which are long: only with a good q."
        )
        self.input_schema = object_schema(
            (),
            q=text(q, **WORDS),
            server=filter_argument(FILTERS["name"]),
            **filter_arguments(find_tools=True),
            detail=text(detail, enum=list(DETAILS), default="summary"),
            max_tokens=number(
                "How many tokens the answer may take.", default=2000, most=200_000, least=500
            ),
            limit=number("How many tools to tell at most.", default=20, most=500),
        ) | {"additionalProperties": False}

    async def run(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None, caller: Caller
    ) -> Mapping[str, Any]:
        query = query_of({**arguments, "name": arguments["server"]})
        words = words_of(arguments["q"])
        view = current_view(self._catalog)
        window = ModelWindow(arguments["max_tokens"], arguments["limit"], arguments["detail"])
        selected = await asyncio.to_thread(view.select, query)
        groups = await asyncio.to_thread(instance_groups, selected)
        digests = digests_of(groups)
        known = await self._definitions.of(digests, timeout=DOCUMENTS_TIMEOUT)

        def make_result() -> dict[str, Any]:
            found = ranked_matches(tool_offers(groups, known, frozenset()), words)
            more: dict[str, Any] = {**list_json.caveats(view)}
            if not found:
                more["note"] = why_nothing(view, query)
            elif unread := len(digests - known.keys()):
                more["note"] = (
                    f"The descriptions of {counted(unread, 'version')} could not be read in time; "
                    "ask again."
                )
            tags: defaultdict[str, set[str]] = defaultdict(set)
            for entry in selected:
                tags[entry.record.name].update(entry.record.tags)
            return tool_result(tool_answer(found, tags, window, words=bool(words), more=more))

        # In a thread: there may be many tools.
        return await asyncio.to_thread(make_result)


def ranked_matches(offers: Mapping[str, ToolOffer], words: Sequence[str]) -> list[ToolMatch]:
    """The tools with any of ``words``, best first; every tool by name where there are no words."""
    found = [
        ToolMatch(name, server, definition)
        for name, offer in offers.items()
        for server, definition in _by_server(offer).items()
    ]
    found.sort(key=lambda each: (each.name, each.server))
    if not words:
        return found
    # A word in the server's name counts less than one in the tool's name.
    of_servers = {
        server: [score(weights_of(server), (word,)) * 2 // NAME for word in words]
        for server in {each.server for each in found}
    }
    ranks = [(each.rank(words, of_servers[each.server]), each) for each in found]
    ranks.sort(key=lambda each: each[0], reverse=True)  # stable: names decide between equals
    return [each for rank, each in ranks if rank[0]]


def _by_server(offer: ToolOffer) -> dict[str, ToolDefinition | None]:
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


def _more(number: int) -> str:
    return f"{number} more match" + ("es" if number == 1 else "")
