"""The tool ``call_tool``: calls any tool of any server; only where the operator allows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from mcp_discovery.facade.mcp.tool import Tool, failed
from mcp_discovery.facade.mcp.tool_caller import OnProgress, ToolCaller

#: How long, in seconds, a call may take: unless it says otherwise, and at most.
_TIMEOUT, _LONGEST = 60, 600
#: How many calls may be under way at the same time.
_MOST_CALLS: Final = 256


class CallTool(Tool):
    """Passes calls on to ``caller``."""

    name = "call_tool"
    title = "Call a tool"
    description = (
        "Call a tool of any MCP server that is alive, by its name and with its own arguments, and "
        "get its own result. Find tools with find_tools and read their arguments with "
        "describe_tool first. What a call does is up to the tool: it may change things."
    )
    input_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "minLength": 1,
                "maxLength": 256,
                "description": "The tool's exact name, as find_tools tells it.",
            },
            "arguments": {
                "type": "object",
                "default": {},
                "description": "The tool's arguments, as its inputSchema wants them.",
            },
            "server": {
                "type": "string",
                "minLength": 1,
                "maxLength": 256,
                "description": "The name of the server, where several have a tool of this name.",
            },
            "timeout": {
                "type": "number",
                "minimum": 1,
                "maximum": _LONGEST,
                "default": _TIMEOUT,
                "description": "How many seconds the call may take.",
            },
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    # It can be anything: the answer is the tool's own, so there is no schema of it.
    annotations: ClassVar[Mapping[str, Any]] = {
        "readOnlyHint": False,
        "destructiveHint": True,
        "idempotentHint": False,
        "openWorldHint": True,
    }
    slow = True

    def __init__(self, caller: ToolCaller) -> None:
        self._caller = caller
        self._under_way = 0

    async def run(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None
    ) -> Mapping[str, Any]:
        if self._under_way >= _MOST_CALLS:
            return failed(f"{_MOST_CALLS} calls are under way already; try again soon")
        self._under_way += 1
        try:
            return await self._caller.call(
                arguments["name"],
                arguments["arguments"],
                server=arguments["server"],
                timeout=arguments["timeout"],
                on_progress=on_progress,
            )
        except TimeoutError:
            return failed(
                f"{arguments['name'][:100]!r} did not answer within {arguments['timeout']:g} s; "
                "raise timeout, or find another tool"
            )
        finally:
            self._under_way -= 1
