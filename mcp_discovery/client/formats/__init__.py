"""Tools in the forms of the three large model APIs, and their calls and results back."""

from mcp_discovery.client.formats.calls import ToolCall, UnreadableCallError, parse_call
from mcp_discovery.client.formats.dialects import Format
from mcp_discovery.client.formats.notes import Note
from mcp_discovery.client.formats.results import render_error, render_result
from mcp_discovery.client.formats.tool_list import ToolList, export

__all__ = [
    "Format",
    "Note",
    "ToolCall",
    "ToolList",
    "UnreadableCallError",
    "export",
    "parse_call",
    "render_error",
    "render_result",
]
