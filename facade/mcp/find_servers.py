"""The tool ``find_servers``: servers that are alive, by tag, capability or words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.mcp.tool import (
    NAMES,
    STALENESS_PROPERTIES,
    WORDS,
    McpTool,
    OnProgress,
    filter_arguments,
    number,
    object_schema,
    query_of,
    text,
    tool_result,
    why_nothing,
    words_of,
)
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import current_view
from mcp_discovery.facade.servers.paging import Sort
from mcp_discovery.facade.servers.search_index import ServerSearch

_LIMIT, _MOST = 20, 200


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
        **STALENESS_PROPERTIES,
    )

    def __init__(self, catalog: Catalog, search: ServerSearch) -> None:
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
            limit=number("How many servers to tell at most.", default=_LIMIT, most=_MOST),
        ) | {"additionalProperties": False}

    async def run(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None
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
            content["note"] = f"{left} more match; filter more closely, or raise limit."
        return tool_result(content | list_json.staleness(view))


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
