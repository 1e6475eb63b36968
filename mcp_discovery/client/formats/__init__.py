"""Tools in the forms of the three large model APIs, and their calls and results back.

To read in this order: ``dialects`` (what each API accepts), ``schema`` (JSON Schema itself),
``conversion`` and its two kinds, ``json_schema`` and ``plain_types``; ``arguments`` (restored to
what the server expects), ``export`` (the payload), ``deferred`` (one whose tools are loaded by a
search) and ``calls`` (of a model, and their results).
"""

from mcp_discovery.client.formats.calls import (
    ToolCall,
    UnreadableCallError,
    parse_call,
    render_error,
    render_result,
)
from mcp_discovery.client.formats.conversion import Note
from mcp_discovery.client.formats.deferred import SEARCH_TOOL, DeferredToolList, question_of
from mcp_discovery.client.formats.dialects import Format
from mcp_discovery.client.formats.export import ToolList, export

__all__ = [
    "SEARCH_TOOL",
    "DeferredToolList",
    "Format",
    "Note",
    "ToolCall",
    "ToolList",
    "UnreadableCallError",
    "export",
    "parse_call",
    "question_of",
    "render_error",
    "render_result",
]
