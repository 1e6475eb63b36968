"""The tool ``describe_tool``: a tool's whole definition, and whether all servers agree on it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, ClassVar

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.view import View
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.mcp.tool import (
    CAVEAT_PROPERTIES,
    NAMES,
    SHORT,
    TOOL_NAME,
    InvalidArgumentsError,
    McpTool,
    OnProgress,
    object_schema,
    text,
    tool_result,
)
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import current_view
from mcp_discovery.facade.tools.index import ToolDefinitions, detail
from mcp_discovery.health import Status
from mcp_discovery.nearest import nearest
from mcp_discovery.query.query import Query

#: The statuses of servers that can be used.
_USABLE = frozenset({Status.HEALTHY, Status.DEGRADED})


class DescribeTool(McpTool):
    """Reads one catalog, and the documents in which tools are defined."""

    name = "describe_tool"
    title = "Describe a tool"
    description = (
        "Tell all about one tool: its arguments (inputSchema), its result (outputSchema), which "
        "servers offer it, and whether they all mean the same by it. Use it before calling a tool "
        "that find_tools has found."
    )
    input_schema: Mapping[str, Any] = object_schema(
        ("name",),
        name=TOOL_NAME,
        server=text(
            "Only this server's tool, where several servers have one of this name; the server's "
            "name or an instance's id.",
            **SHORT,
        ),
    ) | {"additionalProperties": False}
    output_schema: ClassVar[Mapping[str, Any]] = object_schema(
        ("name", "servers", "instances", "consistent", "variants"),
        name=text(),
        definition={
            "type": "object",
            "description": "The tool as most instances define it; absent where nobody's "
            "definition could be read.",
        },
        servers=NAMES | {"description": "The names of the servers that offer it."},
        instances=NAMES | {"description": "The ids of their instances."},
        consistent={
            "type": "boolean",
            "description": "Whether all instances define it in the same way.",
        },
        variants={
            "type": "array",
            "description": "Each way in which it is defined, the most common first.",
            "items": object_schema(
                ("servers", "instances", "differs"),
                servers=NAMES,
                instances=NAMES,
                differs=NAMES
                | {"description": "What is not as in the first: inputSchema, for one."},
                definition={
                    "type": "object",
                    "description": "Absent from the first: it stands above.",
                },
            ),
        },
        unknown=NAMES
        | {"description": "Instances that offer it and whose definition is not known."},
        note=text(),
        **CAVEAT_PROPERTIES,
    )

    def __init__(self, catalog: LiveList, definitions: ToolDefinitions) -> None:
        self._catalog = catalog
        self._definitions = definitions

    async def run(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None, caller: Caller
    ) -> Mapping[str, Any]:
        name, server = arguments["name"], arguments["server"]
        view = current_view(self._catalog)
        query = Query(status=_USABLE, tool=name)
        having = [
            entry
            for entry in view.select(query)
            if server is None or server in (entry.record.name, entry.id)
        ]
        if not having:
            raise InvalidArgumentsError(_why_unknown(view, name, server))
        offer, _ = await self._definitions.offer(name, having)
        found = detail(offer)
        variants = [
            {key: each[key] for key in ("servers", "instances", "differs")}
            | ({"definition": each["tool"]} if number else {})
            for number, each in enumerate(found["variants"])
        ]
        content: dict[str, Any] = {"name": name}
        if found["variants"]:
            content["definition"] = found["variants"][0]["tool"]
        else:
            content["note"] = (
                "Its definition is not known: the servers that offer it told their tools' names "
                "only, or it could not be read in time."
            )
        content |= {key: found[key] for key in ("servers", "instances", "consistent")}
        content["variants"] = variants
        if found["unknown"]:
            content["unknown"] = found["unknown"]
        if not found["consistent"] and len(found["servers"]) > 1 and server is None:
            content["note"] = "Servers differ in what they mean by it; say which one with server."
        return tool_result(content | list_json.caveats(view))


def _why_unknown(view: View, name: str, server: str | None) -> str:
    everyone = view.select(Query(status=(), tool=name))
    usable = [entry for entry in everyone if entry.health.status in _USABLE]
    if usable:
        names = ", ".join(sorted({entry.record.name for entry in usable})[:20])
        return f"no server {server!r} offers a tool {name[:100]!r}; these do: {names}"
    if everyone:
        one = everyone[0]
        return (
            f"the tool {name[:100]!r} cannot be used now: {one.record.name} is "
            f"{one.health.status.value} ({one.health.reason}); find another tool, or try later"
        )
    offered = chain.from_iterable(
        entry.record.capabilities.tools for entry in view.select(Query(status=_USABLE))
    )
    near = nearest(name, offered)
    hint = f"did you mean {near!r}? " if near else ""
    return f"no server offers a tool {name[:100]!r}; {hint}find_tools finds those that are there"
