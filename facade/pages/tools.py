"""The pages of tools: the search as agents have it, and one tool with all that a call needs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from aiohttp import web

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.calling import may_call
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.gateway.replicas import TRANSPORT
from mcp_discovery.facade.http.operation import Parameter
from mcp_discovery.facade.http.parameters import whole
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.mcp.tool import why_nothing
from mcp_discovery.facade.options import OPTIONS
from mcp_discovery.facade.pages.site import page, page_operation
from mcp_discovery.facade.pages.visible import visible_json
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.filters import list_filters, parse
from mcp_discovery.facade.servers.query import WORDS, read_question
from mcp_discovery.facade.servers.search_index import SEARCH
from mcp_discovery.facade.tools.handlers import TOOL_DEFINITIONS, TOOL_LISTINGS
from mcp_discovery.facade.tools.index import ToolDefinition, ToolOffer
from mcp_discovery.facade.tools.ranking import (
    ToolMatch,
    ToolRanks,
    all_matches,
    definitions_by_server,
)
from mcp_discovery.health import PREFERENCE, Status
from mcp_discovery.nearest import nearest
from mcp_discovery.query.filters import FILTERS
from mcp_discovery.query.query import Query
from mcp_discovery.tokens import token_counter

#: How many tools a page shows at first, and how many it can be made to show.
_SHOWN, _MOST = 25, 500
#: How many instances, and how many other servers, a tool's page names.
_NAMED = 50
#: How much of a description it shows, in characters.
_DESCRIBED = 20_000
#: A schema of more bytes is shown without line breaks, and one of more than those not at all.
_LONG, _LARGE = 64 * 2**10, 256 * 2**10
#: How much of a title is looked at, in characters.
_TITLE = 300
#: The filters that the search has a field for; others stay in the URL and can be taken away.
_FIELDS = ("name", "tags", "status")

#: Annotation → what its two values say, and the value that MCP assumes where none is given
#: (https://modelcontextprotocol.io/specification/2026-07-28/schema, ToolAnnotations).
_HINTS: Mapping[str, tuple[str, str, bool]] = {
    "readOnlyHint": ("Reads only", "Changes things", False),
    "destructiveHint": ("May destroy or overwrite", "Only adds", True),
    "idempotentHint": ("Safe to repeat", "Repeating has further effects", False),
    "openWorldHint": ("Reaches the outside world", "Stays within its own data", True),
}


@dataclass(frozen=True, slots=True)
class ToolLine:
    """One tool of one server in the list; ``tokens`` are those of its definition, ``None`` where
    that is not known."""

    match: ToolMatch
    status: Status
    instances: int
    hints: Sequence[str]
    tokens: int | None

    @property
    def title(self) -> str | None:
        """Its title, unless that is its name."""
        given = self.match.definition.text("title") if self.match.definition else None
        return None if given is None or given == self.match.name else given[:_TITLE]

    @property
    def description(self) -> str:
        """The beginning of its description."""
        given = self.match.definition.text("description") if self.match.definition else None
        return (given or "")[:1000]


def tool_path(server: str, name: str) -> str:
    """The path of a tool's page below the facade's root."""
    return f"ui/tools/{quote(server, safe='')}/{quote(name, safe='')}"


async def tools(request: web.Request) -> web.Response:
    """The search for tools, as agents have it, for people."""
    view = view_of(request)
    limit = whole(request, "limit", least=1, most=_MOST) or _SHOWN
    words = " ".join(request.query.get("q", "").split())
    values: dict[str, Any] = {"words": words, "chips": _chips(request), "limit": limit}
    values |= {"lines": (), "matched": 0, "problem": None, "nothing": "", "taken_for": {}}
    values["given"] = {name: request.query.get(name, "") for name in _FIELDS}
    status = 200
    try:
        found = await _found(request, view, limit)
    except ProblemError as error:
        values["problem"], status = error.detail, error.status
    else:
        values |= found
    asked = [(name, value) for name, value in request.query.items() if name != "limit" and value]
    return page(
        request,
        "tools.html",
        title="Tools",
        current="tools",
        status=status,
        view=view,
        statuses=[each.value for each in PREFERENCE],
        counted_by=token_counter().name,
        tool_path=tool_path,
        more=urlencode([*asked, ("limit", min(_MOST, 2 * limit))]),
        whatever=urlencode([*asked, ("status", "all")]),
        most=_MOST,
        **values,
    )


async def _found(request: web.Request, view: View, limit: int) -> dict[str, Any]:
    query = parse(request)
    question = read_question(request, query)
    listing = await parts_of(request)[TOOL_LISTINGS].of(view, query, "tool")
    ranks = None
    if question is not None:
        ranks = await parts_of(request)[SEARCH].tools(question, listing.documents)
    lines, matched = await asyncio.to_thread(_lines, listing.offers, ranks, limit)
    return {
        "lines": lines,
        "matched": matched,
        "unread": listing.unread,
        "nothing": "" if matched else await asyncio.to_thread(why_nothing, view, query),
        "taken_for": {} if ranks is None else ranks.ranking.taken_for,
    }


def _lines(
    offers: Mapping[str, ToolOffer], ranks: ToolRanks | None, limit: int
) -> tuple[list[ToolLine], int]:
    found = all_matches(offers) if ranks is None else ranks.matches(offers)
    shown = found[:limit]
    texts = [_text(each.tool) for each in shown]
    lines = []
    for each, text, tokens in zip(shown, texts, token_counter().counts(texts), strict=True):
        groups = [group for group in offers[each.name].all_groups if each.server in group.servers]
        status = min((group.health[each.server] for group in groups), key=PREFERENCE.index)
        number = sum(len(group.servers[each.server]) for group in groups)
        said = [said for said, is_given in _hints(each.tool) if is_given]
        lines.append(ToolLine(each, status, number, said, tokens if text else None))
    return lines, len(found)


def _text(tool: Mapping[str, Any]) -> str:
    """A definition as models get it; empty for one that is too large to be counted."""
    text = orjson.dumps(tool, default=dict).decode() if tool else ""
    return text if len(text) <= _LARGE else ""


def _hints(tool: Mapping[str, Any]) -> Iterable[tuple[str, bool]]:
    """What a tool's annotations say, or what MCP assumes, in words; whether it was given."""
    given = tool.get("annotations")
    given = given if isinstance(given, Mapping) else {}
    reads_only = given.get("readOnlyHint") is True
    for name, (yes, no, assumed) in _HINTS.items():
        if reads_only and name in ("destructiveHint", "idempotentHint"):
            continue  # these mean something for a tool that changes things only
        value = given.get(name)
        is_given = isinstance(value, bool)
        yield (yes if (value if is_given else assumed) else no), is_given


def _chips(request: web.Request) -> list[tuple[str, str, str]]:
    """The filters without a field of their own: name, value, and the query string without them."""
    items = list(request.query.items())
    names = {*FILTERS, "match"}
    return [
        (name, value, urlencode([each for each in items if each != (name, value)]))
        for name, value in items
        if name in names - {*_FIELDS} and value
    ]


async def tool(request: web.Request) -> web.Response:
    """One tool of one server: what it is, who offers it, what it costs, and a form to call it."""
    server, name = request.match_info["server"], request.match_info["tool"]
    view = view_of(request)
    having, others = await asyncio.to_thread(_offering, view, server, name)
    if not having:
        raise await asyncio.to_thread(_unknown, view, server, name)
    definitions = parts_of(request)[TOOL_DEFINITIONS]
    offer, unread = await definitions.offer(name, having)
    known = definitions_by_server(offer).get(server)
    definition: Mapping[str, Any] = known.tool if known else {}
    counter = token_counter()
    text = await asyncio.to_thread(_text, definition)
    tokens = await asyncio.to_thread(counter.count, text) if text else None
    annotations = definition.get("annotations")
    return page(
        request,
        "tool.html",
        title=name,
        current="tools",
        view=view,
        server=server,
        tool=name,
        known=known,
        heading=_heading(name, known),
        description=((known.text("description") if known else None) or "")[:_DESCRIBED],
        hints=list(_hints(definition)),
        reads_only=_is(annotations, "readOnlyHint"),
        destructive=_is(annotations, "destructiveHint"),
        repeatable=_is(annotations, "readOnlyHint") or _is(annotations, "idempotentHint"),
        instances=having[:_NAMED],
        total=len(having),
        variants=len(offer.definitions),
        others=others,
        tool_path=tool_path,
        input_schema=await asyncio.to_thread(_shown, definition.get("inputSchema", True)),
        output_schema=await asyncio.to_thread(_shown, definition["outputSchema"])
        if "outputSchema" in definition
        else "",
        tokens=tokens,
        counted_by=counter.name,
        unread=unread,
        **await asyncio.to_thread(_calling, request, having, server, name),
    )


def _offering(view: View, server: str, name: str) -> tuple[list[Entry], list[str]]:
    """The instances of ``server`` that have the tool, the most useful first, and other servers."""
    every = view.select(Query(status=(), tool=name))
    having = [each for each in every if each.record.name == server]
    having.sort(key=lambda each: (PREFERENCE.index(each.health.status), each.id))
    return having, sorted({each.record.name for each in every} - {server})[:_NAMED]


def _heading(name: str, known: ToolDefinition | None) -> str:
    return ((known.text("title") if known else None) or name)[:_TITLE]


def _is(annotations: object, hint: str) -> bool:
    return isinstance(annotations, Mapping) and annotations.get(hint) is True


def _shown(schema: object) -> str | None:
    """``schema`` as JSON to show, from which the form is made; ``None`` for one that is too large
    for a page."""
    text = orjson.dumps(schema, default=dict, option=orjson.OPT_INDENT_2)
    if len(text) > _LONG:
        text = orjson.dumps(schema, default=dict)
    return visible_json(text.decode()) if len(text) <= _LARGE else None


def _calling(
    request: web.Request, having: Sequence[Entry], server: str, name: str
) -> dict[str, Any]:
    """Through which doors the caller may call the tool; ``refused`` says why through none.

    ``call_tool`` comes first: it calls servers of every kind, whatever their protocol.
    """
    options, rights = request.app[OPTIONS], caller_of(request).rights
    doors = [
        *(["call_tool"] if options.mcp_call_tool else []),
        *(["gateway"] if options.gateway else []),
    ]
    callable_ones = [each for each in having if may_call(rights, each.instance, name)]
    refused = ""
    if not doors:
        refused = (
            "Nothing can be called through this facade: start it with --mcp-call-tool, which "
            "calls tools of every kind of server, or with --gateway."
        )
    elif not callable_ones:
        refused = "You may see this tool and not call it: none of your roles has that right."
    elif doors == ["gateway"] and all(
        each.record.endpoint.transport != TRANSPORT for each in callable_ones
    ):
        refused = (
            f"The gateway forwards {TRANSPORT} alone, which this server does not speak: start the "
            "facade with --mcp-call-tool."
        )
    elif all(each.health.status is Status.QUARANTINED for each in callable_ones):
        refused = "Its server breaks a rule for names, and is offered to nobody until it does not."
    best = callable_ones[0] if callable_ones else having[0]
    return {
        "doors": doors,
        "refused": refused,
        "modern": best.record.protocol is not None and best.record.protocol.era == "modern",
        "gateway_path": f"gateway/{quote(server, safe='')}/mcp",
    }


def _unknown(view: View, server: str, name: str) -> ProblemError:
    """What is not there, and what is hidden from the caller, in the same words."""
    known: set[str] = set()
    for each in view.select(Query(status=(), name=server)):
        known.update(each.record.capabilities.tools)
    if not known:
        detail = f"no server {server[:100]!r} with tools is listed; it may be another one's"
        return ProblemError(404, "unknown-tool", detail)
    near = nearest(name, known)
    hint = f"did you mean {near!r}?" if near else f"it has {', '.join(islice(sorted(known), 10))}"
    return ProblemError(404, "unknown-tool", f"{server} offers no tool {name[:100]!r}; {hint}")


OPERATIONS = (
    page_operation(
        "/ui/tools",
        tools,
        needs="read",
        parameters=(
            WORDS,
            list_filters,
            Parameter(
                "limit",
                f"How many tools at most; {_SHOWN} unless it says otherwise.",
                {"type": "integer", "minimum": 1, "maximum": _MOST},
            ),
        ),
        errors=(503,),
    ),
    page_operation(
        "/ui/tools/{server}/{tool}",
        tool,
        needs="read",
        parameters=(
            Parameter("server", "The server's name.", where="path"),
            Parameter("tool", "The tool's name, percent-encoded.", where="path"),
        ),
        errors=(404, 503),
    ),
)
