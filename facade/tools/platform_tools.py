"""``GET /api/platform/tools``: each tool of each instance, as a platform's own page lists it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web
from pydantic import Field

from mcp_discovery.adapters.view import View
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.http.etag import IF_NONE_MATCH, tag_of, tagged
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.filters import list_filters, parse
from mcp_discovery.facade.tools.handlers import TOOL_LISTINGS
from mcp_discovery.facade.tools.index import Tools
from mcp_discovery.query.query import Query


class PlatformTools(Shaped):
    """All tools of the instances that match, replicas apart."""

    tools: list[dict[str, Any]] = Field(description="MCP's definition, with `serverId`.")
    count: int = Field(ge=0, description="How many tools there are here.")


async def platform_tools(request: web.Request) -> web.Response:
    """Every tool of every healthy instance as MCP defines it, with `serverId`: the instance's id.

    Tools of an instance whose document could not be read in time are left out, as are those of
    one that cannot be asked.
    """
    query, view = parse(request), view_of(request)
    listing = await parts_of(request)[TOOL_LISTINGS].of(view, query, "tool")

    def serialize() -> tuple[bytes, str]:
        data = _serialized(listing.view, query, listing.documents)
        return data, tag_of(data)

    data, tag = await asyncio.to_thread(serialize)
    return tagged(request, tag, data, {list_json.REVISION: list_json.position(listing.view)})


def _serialized(view: View, query: Query, documents: Mapping[str, Tools]) -> bytes:
    """The body; each definition is serialized once, however many replicas share it."""
    beginnings: dict[tuple[str, str], bytes] = {}
    found = []
    for entry in view.select(query):
        capabilities = entry.record.capabilities
        digest = capabilities.digest or ""
        known, id = documents.get(digest, {}), orjson.dumps(entry.id)
        for name in dict.fromkeys(capabilities.tools):
            if (definition := known.get(("tool", name))) is None:
                continue
            beginning = beginnings.get((digest, name))
            if beginning is None:
                tool = {**definition.tool}
                tool.pop("serverId", None)
                beginning = orjson.dumps(tool, default=dict)[:-1] + b',"serverId":'
                beginnings[digest, name] = beginning
            found.append(beginning + id + b"}")
    body = b'{"tools":[%b],"count":%d}' % (b",".join(found), len(found))
    return list_json.with_members(body, dict(list_json.caveats(view)))


OPERATIONS = (
    Operation(
        "GET",
        "/api/platform/tools",
        platform_tools,
        "platform",
        answers={200: PlatformTools, 304: None},
        parameters=(list_filters, IF_NONE_MATCH),
        needs="read",
    ),
)
