"""The tools ``find_servers`` and ``find_tools``: by filters and by words, within bounds."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.mcp.tool import (
    CAVEAT_PROPERTIES,
    NAMES,
    SHORT,
    WORDS,
    InvalidArgumentsError,
    McpTool,
    OnProgress,
    filter_argument,
    filter_arguments,
    number,
    object_schema,
    query_of,
    question_of,
    text,
    tool_result,
    why_nothing,
)
from mcp_discovery.facade.mcp.tool_answer import DETAILS, ModelWindow, tool_answer
from mcp_discovery.facade.queries.answers import NamedAnswers
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import current_view
from mcp_discovery.facade.servers.search_index import MANY, ServerSearch, aside
from mcp_discovery.facade.tools.index import (
    DOCUMENTS_TIMEOUT,
    ToolDefinitions,
    digests_of,
    instance_groups,
    tool_offers,
)
from mcp_discovery.facade.tools.ranking import all_matches
from mcp_discovery.plural import counted
from mcp_discovery.query.definition import NamedQuery
from mcp_discovery.query.filters import FILTERS

#: How many skills of one server are named.
_SKILLS: Final = 20


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
                skills=NAMES | {"description": f"The skills that it has, {_SKILLS} at most."},
                why=text("Which words of q were found, and where."),
            ),
        },
        matched={"type": "integer", "description": "How many servers match in all."},
        note=text("What to do about an incomplete answer."),
        **CAVEAT_PROPERTIES,
    )

    def __init__(self, catalog: LiveList, search: ServerSearch, answers: NamedAnswers) -> None:
        self._catalog = catalog
        self._search = search
        self._answers = answers
        q = (
            "What the server should be able to do, as a sentence or some words; the best matches "
            "come first. With match 'all' only those that have every word."
        )
        self.input_schema = object_schema(
            (),
            q=text(q, **WORDS),
            **filter_arguments(),
            query=text("A named query that you were told of, instead of all that.", **SHORT),
            limit=number("How many servers to tell at most.", default=20, most=200),
        ) | {"additionalProperties": False}

    async def run(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None, caller: Caller
    ) -> Mapping[str, Any]:
        if (name := arguments["query"]) is not None:
            return await self._named(name, arguments, caller)
        query, question = query_of(arguments), question_of(arguments)
        ranks = await self._search.servers(question) if question is not None else None
        view = current_view(self._catalog)

        def select() -> list[Entry]:
            found = view.select(query, among=ranks.ranking if ranks is not None else None)
            return found if ranks is None else ranks.ordered(found)

        found = await aside(ranks is not None and len(ranks.ranking) > MANY, select)
        shown = found[: arguments["limit"]]
        servers = [_summary(each, ranks.why(each) if ranks else None) for each in shown]
        content: dict[str, Any] = {"servers": servers, "matched": len(found)}
        if not found:
            content["note"] = why_nothing(view, query)
        elif left := len(found) - len(shown):
            content["note"] = f"{_more(left)}; filter more closely, or raise limit."
        return tool_result(content | list_json.caveats(view))

    async def _named(
        self, name: str, arguments: Mapping[str, Any], caller: Caller
    ) -> Mapping[str, Any]:
        others = [each for each in ("q", *FILTERS) if arguments.get(each)]
        if others:
            raise InvalidArgumentsError(
                f"query {name!r} says which servers; leave out {', '.join(others)}"
            )
        answer = await self._answers.answer(NamedQuery(name), usual_key=caller.key)
        shown = await self._answers.shown(answer, arguments["limit"])
        servers = [_summary(entry, answer.why(entry)) for entry in shown]
        content: dict[str, Any] = {"servers": servers, "matched": len(answer.found.all)}
        if not servers:
            content["note"] = "Neither the query nor a fall-back of it finds any server now."
        return tool_result(content | list_json.caveats(answer.view))


def _summary(entry: Entry, why: str | None) -> dict[str, Any]:
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
        "skills": list(record.capabilities.skills[:_SKILLS]) or None,
        "why": why,
    }
    return {name: value for name, value in summary.items() if value is not None}


#: A number for each name.
_COUNTS: Final = {"type": "object", "additionalProperties": {"type": "integer"}}


class FindTools(McpTool):
    """Reads one catalog, and the documents in which tools are defined."""

    name = "find_tools"
    title = "Find tools"
    description = (
        "Find tools across all MCP servers that are alive, by a sentence or words that say what "
        "you want to do; the best come first. "
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
                why=text("Which words of q were found, and where."),
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

    def __init__(
        self, catalog: LiveList, definitions: ToolDefinitions, search: ServerSearch
    ) -> None:
        self._catalog = catalog
        self._search = search
        self._definitions = definitions
        q = (
            "What the tool should do, as a sentence or some words, such as 'search products'. "
            "Leave it out to list tools by name."
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
        question = question_of(arguments)
        view = current_view(self._catalog)
        window = ModelWindow(arguments["max_tokens"], arguments["limit"], arguments["detail"])
        selected = await asyncio.to_thread(view.select, query)
        groups = await asyncio.to_thread(instance_groups, selected)
        digests = digests_of(groups)
        known = await self._definitions.of(digests, timeout=DOCUMENTS_TIMEOUT)
        ranks = await self._search.tools(question, known) if question is not None else None

        def make_result() -> dict[str, Any]:
            offers = tool_offers(groups, known, frozenset())
            found = all_matches(offers) if ranks is None else ranks.matches(offers)
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
            return tool_result(tool_answer(found, tags, window, words=ranks is not None, more=more))

        # In a thread: there may be many tools.
        return await asyncio.to_thread(make_result)


def _more(number: int) -> str:
    return f"{number} more match" + ("es" if number == 1 else "")
