"""An MCP server whose tools have every kind of schema, and whose results are of every kind.

``python -m tests.facade.pages.workshop --port 0`` prints ``listening on …``. ``GET /seen`` tells
how the calls of ``work`` went. ``echo`` and what has a schema of its own answer with their
arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import socket
import struct
import zlib
from collections import Counter
from typing import Any

import uvicorn
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolRequestParams,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
    ToolAnnotations,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

COUNTS: Counter[str] = Counter()
HOSTILE = (
    "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>\u202e\u200b"
)

#: A schema with what a form has to know.
ORDER: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["city", "people", "when", "kind", "contact"],
    "additionalProperties": False,
    "properties": {
        "city": {
            "type": "string",
            "title": "City",
            "description": "Where to.",
            "minLength": 2,
            "maxLength": 60,
            "pattern": "^[A-Z]",
            "examples": ["Lisbon", "Oslo"],
        },
        "people": {"type": "integer", "minimum": 1, "maximum": 9, "default": 2},
        "price": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5},
        "big": {"type": "integer"},
        "when": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "page": {"type": "string", "format": "uri"},
        "mail": {"anyOf": [{"type": "string", "format": "email"}, {"type": "null"}]},
        "kind": {"enum": ["hotel", "flat", 3, None]},
        "urgent": {"type": "boolean", "default": False},
        "version": {"const": "v1"},
        "note": {"type": "string", "description": "Anything else."},
        "tags": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "maxItems": 3,
            "uniqueItems": True,
        },
        "contact": {"$ref": "#/$defs/Contact"},
        "second": {"$ref": "#/$defs/Contact", "description": "If the first is away."},
        "pay": {
            "oneOf": [
                {
                    "title": "Card",
                    "type": "object",
                    "required": ["type", "number"],
                    "properties": {"type": {"const": "card"}, "number": {"type": "string"}},
                },
                {
                    "title": "Invoice",
                    "type": "object",
                    "required": ["type", "days"],
                    "properties": {"type": {"const": "invoice"}, "days": {"type": "integer"}},
                },
            ]
        },
        "labels": {"type": "object", "additionalProperties": {"type": "integer"}},
        "pair": {"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}]},
        "anything": {},
    },
    "$defs": {
        "Contact": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string"},
                "phones": {"type": "array", "items": {"type": "string"}},
            },
        }
    },
}
#: Schemas that a page must survive.
HOSTILE_SCHEMAS: dict[str, dict[str, Any]] = {
    "recursive": {
        "type": "object",
        "required": ["tree"],
        "properties": {
            "tree": {"$ref": "#/$defs/Node"},
            "loop": {"$ref": "#/$defs/Loop"},
            "itself": {"$ref": "#"},
            "twice": {"$ref": "#/$defs/Twice"},
        },
        "$defs": {
            "Node": {
                "type": "object",
                "required": ["value", "next"],
                "properties": {
                    "value": {"type": "string"},
                    "next": {"$ref": "#/$defs/Node"},
                    "others": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                },
            },
            "Loop": {"$ref": "#/$defs/Loop2"},
            "Loop2": {"allOf": [{"$ref": "#/$defs/Loop"}, {"$ref": "#/$defs/Loop2"}]},
            "Twice": {"anyOf": [{"$ref": "#/$defs/Twice"}, {"$ref": "#/$defs/Twice"}]},
        },
    },
    "wide": {
        "type": "object",
        "required": ["p0"],
        "properties": {f"p{number}": {"type": "string"} for number in range(5000)},
    },
    "all_wanted": {
        "type": "object",
        "required": [f"p{number}" for number in range(5000)],
        "properties": {f"p{number}": {"type": "string"} for number in range(5000)},
    },
    "polluting": {
        "type": "object",
        "properties": {
            "__proto__": {"type": "object", "properties": {"polluted": {"type": "string"}}},
            "constructor": {"type": "string"},
            "toString": {"type": "string"},
            "hasOwnProperty": {"type": "boolean"},
        },
        "required": ["__proto__", "constructor"],
    },
    "many": {
        "type": "object",
        "required": ["one"],
        "properties": {"one": {"enum": [f"value {number}" for number in range(20_000)]}},
    },
    "evil": {
        "type": "object",
        "required": ["word"],
        "properties": {"word": {"type": "string", "pattern": "^(a+)+$"}},
    },
    "markup": {
        "type": "object",
        "title": HOSTILE,
        "required": [HOSTILE],
        "properties": {
            HOSTILE: {
                "type": "string",
                "title": HOSTILE,
                "description": HOSTILE,
                "examples": [HOSTILE],
                "default": HOSTILE,
            },
            "choice": {"enum": [HOSTILE, "plain"]},
        },
    },
    "broken": {
        "type": "object",
        "properties": {
            "gone": {"$ref": "#/$defs/Gone"},
            "elsewhere": {"$ref": "https://elsewhere.example/schema.json"},
            "odd": {"type": 7, "enum": "no", "required": 3, "properties": [1]},
            "never": False,
            "ever": True,
        },
    },
}
KINDS: tuple[str, ...] = (
    *("text", "json", "long", "huge", "image", "svg", "audio", "broken", "link", "embedded"),
    *("table", "tree", "error", "empty", "hostile", "odd"),
)


def _png(side: int = 64) -> str:
    rows = b"".join(
        b"\0" + bytes(255 * (x * y // 64 % 2) for x in range(side)) for y in range(side)
    )

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    return base64.b64encode(data + chunk(b"IEND", b"")).decode()


def _wav() -> str:
    samples = bytes(128 + 60 * (number // 20 % 2) for number in range(8000))
    head = b"RIFF" + struct.pack("<I", 36 + len(samples)) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data"
    return base64.b64encode(head + struct.pack("<I", len(samples)) + samples).decode()


SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><rect width="40" height="40" '
    "fill=\"teal\"/><script>parent.document.title='run'</script></svg>"
)


def _result(kind: str) -> CallToolResult:
    content: list[Any] = []
    structured: Any = None
    match kind:
        case "text":
            content = [TextContent(type="text", text="Good day.\nThis is a text.")]
        case "json":
            content = [TextContent(type="text", text='{"id": 12345678901234567890, "ok": true}')]
        case "long":
            content = [TextContent(type="text", text="line of a long text\n" * 5_000)]
        case "huge":
            content = [TextContent(type="text", text="x" * 10 * 2**20)]
        case "image":
            content = [ImageContent(type="image", data=_png(), mime_type="image/png")]
        case "svg":
            data = base64.b64encode(SVG.encode()).decode()
            content = [ImageContent(type="image", data=data, mime_type="image/svg+xml")]
        case "audio":
            content = [AudioContent(type="audio", data=_wav(), mime_type="audio/wav")]
        case "broken":
            content = [ImageContent(type="image", data="bm90IGFuIGltYWdl", mime_type="image/png")]
        case "link":
            links = (
                "https://example.com/a",
                "javascript:document.title='run'",
                "file:///etc/passwd",
            )
            content = [
                ResourceLink(type="resource_link", name=f"link {uri[:5]}", uri=uri) for uri in links
            ]
        case "embedded":
            text = TextResourceContents(uri="note://1", mime_type="text/plain", text="A note.")
            page = base64.b64encode(b"<script>document.title='run'</script>").decode()
            blob = BlobResourceContents(uri="blob://2", mime_type="text/html", blob=page)
            content = [EmbeddedResource(type="resource", resource=each) for each in (text, blob)]
        case "table":
            structured = {
                "rows": [
                    {"name": f"row {number}", "size": (number * 37) % 1000, "deep": {"a": [number]}}
                    for number in range(1500)
                ],
                "total": 1500,
            }
        case "tree":
            structured = {"a": {"b": {"c": [1, 2, {"d": None}]}}, "__proto__": {"e": True}}
        case "error":
            said = "the disk is full; free some space"
            return CallToolResult(is_error=True, content=[TextContent(type="text", text=said)])
        case "hostile":
            content = [TextContent(type="text", text=HOSTILE)]
            structured = {HOSTILE: [{HOSTILE: HOSTILE}]}
        case "odd":
            structured = [1, "two", None]
    return CallToolResult(content=content, structured_content=structured)


async def _work(ctx: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
    given = params.arguments or {}
    COUNTS["begun"] += 1
    token = (params.meta or {}).get("progress_token")
    try:
        for step in range(given["steps"]):
            if token is not None:
                await ctx.session.send_progress_notification(
                    token,
                    step,
                    given["steps"],
                    f"step {step}",
                    related_request_id=str(ctx.request_id),
                )
            await asyncio.sleep(given.get("pause", 0.05))
    except asyncio.CancelledError:
        COUNTS["cancelled"] += 1
        raise
    COUNTS["done"] += 1
    return CallToolResult(content=[TextContent(type="text", text=f"{given['steps']} steps")])


WANTED = {
    "type": "object",
    "required": ["colour"],
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
}


async def _ask(
    ctx: ServerRequestContext[Any], params: CallToolRequestParams
) -> CallToolResult | InputRequiredResult:
    question = ElicitRequestFormParams(message="Which colour?", requested_schema=WANTED)
    if ctx.protocol_version >= "2026-07-28":
        answers = params.input_responses or {}
        if "colour" not in answers:
            wanted = ElicitRequest(method="elicitation/create", params=question)
            return InputRequiredResult(input_requests={"colour": wanted}, request_state="s")
        answer = answers["colour"]
    else:
        answer = await ctx.session.elicit_form(
            question.message, question.requested_schema, ctx.request_id
        )
    assert isinstance(answer, ElicitResult)
    said = f"{answer.action}: {(answer.content or {}).get('colour')}"
    return CallToolResult(content=[TextContent(type="text", text=said)])


def tools() -> list[Tool]:
    """All of them."""
    work = {
        "type": "object",
        "required": ["steps"],
        "properties": {
            "steps": {"type": "integer", "minimum": 1},
            "pause": {"type": "number", "default": 0.05},
        },
    }
    show = {"type": "object", "required": ["kind"], "properties": {"kind": {"enum": list(KINDS)}}}
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    wipes = ToolAnnotations(destructive_hint=True, idempotent_hint=True)
    told = f"Books a stay. {HOSTILE}"
    found = [
        Tool(name="book", title="Book a stay", description=told, input_schema=ORDER),
        Tool(name="show", description="Shows results.", input_schema=show, annotations=reads),
        Tool(name="work", description="Works for a while.", input_schema=work),
        Tool(name="ask", description="Asks back.", input_schema={"type": "object"}),
        Tool(name="wipe", description="Wipes.", input_schema={"type": "object"}, annotations=wipes),
        Tool(name="fault", description="Is no tool.", input_schema={"type": "object"}),
    ]
    found += [
        Tool(name=name, description=f"A schema: {name}. {HOSTILE}", input_schema=schema)
        for name, schema in HOSTILE_SCHEMAS.items()
    ]
    return found


async def _listed(
    ctx: ServerRequestContext[Any], params: PaginatedRequestParams | None
) -> ListToolsResult:
    return ListToolsResult(tools=tools())


async def _called(
    ctx: ServerRequestContext[Any], params: CallToolRequestParams
) -> CallToolResult | InputRequiredResult:
    match params.name:
        case "show":
            return _result((params.arguments or {})["kind"])
        case "work":
            return await _work(ctx, params)
        case "ask":
            return await _ask(ctx, params)
        case "fault":
            raise MCPError(-32011, "no tool at all", {"why": HOSTILE})
        case "wipe":
            COUNTS["wiped"] += 1
    return CallToolResult(content=[], structured_content=params.arguments or {})


async def main() -> None:
    """Serves until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    server = Server("workshop", version="1.0.0", on_list_tools=_listed, on_call_tool=_called)

    async def seen(_: Request) -> Response:
        return JSONResponse(COUNTS)

    app = server.streamable_http_app(
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False)
    )
    app.router.routes += [Route("/health", seen), Route("/seen", seen)]
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", given.port))
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
