"""The page of one server, ``/ui/servers/{name}``: its instances, its health, what it offers, how it
is reached and where it comes from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from aiohttp import web

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.document import CapabilityDocument, text_of
from mcp_discovery.errors import StoreError
from mcp_discovery.facade.access.audit.audit import AUDIT
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.documents.documents import DOCUMENTS
from mcp_discovery.facade.history.answers import HistoryPage, diff_of, documents_of, history_of
from mcp_discovery.facade.http.operation import Parameter
from mcp_discovery.facade.http.parameters import once
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.options import OPTIONS
from mcp_discovery.facade.pages.connecting import ways_to_connect
from mcp_discovery.facade.pages.servers import row_of
from mcp_discovery.facade.pages.site import page, page_operation
from mcp_discovery.facade.pages.timeline import SPANS, Timeline, timeline
from mcp_discovery.facade.registry.index import REGISTRY_INDEX
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.namesakes import SharedName, shared_name
from mcp_discovery.facade.servers.search_index import MANY, aside
from mcp_discovery.health import PREFERENCE, utcnow
from mcp_discovery.instance import instance_to_dict
from mcp_discovery.nearest import all_nearest
from mcp_discovery.query.query import Query

#: So many instances, changes, and items of each kind that a server offers are shown.
_INSTANCES, _CHANGES, _ITEMS = 50, 1000, 200
#: So many characters of a description are shown.
_DESCRIPTION = 300


@dataclass(frozen=True, slots=True)
class OfferedItem:
    """A tool, resource, template, prompt or skill; ``link`` leads to the page of a tool."""

    name: str
    description: str
    link: str | None


@dataclass(frozen=True, slots=True)
class OfferedPart:
    """All of one kind that a server offers: the first of them, and how many there are."""

    label: str
    items: Sequence[OfferedItem]
    number: int


@dataclass(frozen=True, slots=True)
class ShownInstance:
    """One instance, and of it what is told in words."""

    entry: Entry
    last_seen: datetime
    load: str
    is_chosen: bool


async def server(request: web.Request) -> web.StreamResponse:
    """The page of one server and its instances.

    `instance` chooses the one whose record is shown, `span` how far back its health is, `document`
    which version of what it offers is compared with the one before.
    """
    view, name = view_of(request), request.match_info["name"]
    many = view.number("name", name) > MANY
    entries, shared = await aside(many, _instances_of, view, name)
    if not entries:
        return await _missing(request, name)
    wanted = once(request, "instance")
    chosen = next((each for each in entries if each.id == wanted), entries[0])
    parts, options = parts_of(request), request.app[OPTIONS]
    shown = instance_to_dict(chosen.instance)
    document, lost = await _document(request, chosen)
    history, no_history = await _history(request, name)
    span, since = _span(request, history, view.as_of)
    rights = caller_of(request).rights
    return page(
        request,
        "server.html",
        title=name,
        current="servers",
        name=name,
        view=view,
        row=await aside(many, row_of, entries),
        record=chosen.record,
        lease=chosen.instance.lease,
        wanted=wanted,
        instances=[
            ShownInstance(each, each.last_seen(view.as_of), load_in_words(each), each is chosen)
            for each in entries[:_INSTANCES]
        ],
        number=len(entries),
        documents=len({each.record.capabilities.digest for each in entries}),
        shared=shared,
        offers=list(_offers(name, document)),
        lost=lost,
        ways=ways_to_connect(
            shown,
            parts[REGISTRY_INDEX].addresses.base(request),
            gateway=options.gateway,
            facade_wants_token=options.auth is not None,
        ),
        span=span,
        spans=SPANS,
        history=history,
        no_history=no_history,
        timeline=await _timeline(history, since, view.as_of),
        versions=await _versions(request, name, once(request, "document")),
        audited=AUDIT in request.app and "admin" in rights.verbs,
        position=list_json.position(view),
    )


def _instances_of(view: View, name: str) -> tuple[list[Entry], SharedName | None]:
    """The instances of a server, the best first, and who shares its name."""
    entries = view.select(Query(name=name, status=(), kind=()))
    entries.sort(key=lambda each: (PREFERENCE.index(each.health.status), each.id))
    return entries, shared_name(view, name)


async def _missing(request: web.Request, name: str) -> web.Response:
    """There is no such server: the instance that is called so, or the names that are most like,
    and what became of it if there was one."""
    view = view_of(request)
    if (entry := view.entries.get(name)) is not None:
        raise web.HTTPFound(f"{entry.record.name}?instance={entry.id}")
    history, _ = await _history(request, name)
    span, since = _span(request, history, view.as_of)
    return page(
        request,
        "server_missing.html",
        title="No such server",
        current="servers",
        status=404,
        name=name,
        nearest=all_nearest(name, view.keys("name"), most=5, cutoff=0.5),
        total=len(view),
        history=history,
        span=span,
        timeline=await _timeline(history, since, view.as_of),
    )


async def _document(request: web.Request, entry: Entry) -> tuple[CapabilityDocument | None, str]:
    """What an instance offers, or why that cannot be read."""
    try:
        return await parts_of(request)[DOCUMENTS].of_record(entry.record), ""
    except StoreError as error:
        return None, str(error)


async def _history(request: web.Request, name: str) -> tuple[HistoryPage | None, str]:
    """What became of a server, or why that is not known."""
    try:
        since = utcnow() - max(SPANS.values())
        return await history_of(request, name, of="server", since=since, limit=_CHANGES), ""
    except ProblemError as error:
        return None, error.detail


async def _timeline(history: HistoryPage | None, since: datetime, now: datetime) -> Timeline | None:
    return None if history is None else await asyncio.to_thread(timeline, history, since, now)


def _span(request: web.Request, history: HistoryPage | None, now: datetime) -> tuple[str, datetime]:
    """How far back the health is shown: as far as is asked for, or else a day; of a facade that
    has just begun, an hour."""
    wanted = once(request, "span") or ""
    if wanted not in SPANS:
        known = history.since if history is not None else None
        wanted = "hour" if known is not None and known > now - SPANS["hour"] else "day"
    return wanted, now - SPANS[wanted]


async def _versions(request: web.Request, name: str, newer: str | None) -> Mapping[str, Any]:
    """The documents that a server has had, and what ``newer`` changed, or the newest."""
    try:
        _, known = await documents_of(request, name, of="server")
    except ProblemError as error:
        return {"known": [], "diff": None, "problem": error.detail}
    compared = newer or (known[0].digest if len(known) > 1 else None)
    if compared is None:
        return {"known": known, "diff": None, "problem": ""}
    try:
        diff = await diff_of(request, name, compared, None, of="server")
    except ProblemError as error:
        return {"known": known, "diff": None, "problem": error.detail}
    return {"known": known, "diff": diff, "problem": ""}


def _offers(name: str, document: CapabilityDocument | None) -> Iterable[OfferedPart]:
    if document is None:
        return
    for label, items in (
        ("Tools", document.tools),
        ("Resources", document.resources),
        ("Resource templates", document.resource_templates),
        ("Prompts", document.prompts),
        ("Skills", document.skills),
    ):
        if items:
            shown = [_offered(name, each, is_tool=label == "Tools") for each in items[:_ITEMS]]
            yield OfferedPart(label, shown, len(items))


def _offered(server: str, item: Mapping[str, Any], *, is_tool: bool) -> OfferedItem:
    about: Any = item.get("frontmatter")
    about = about if isinstance(about, Mapping) else item
    called = next(
        (text for key in ("name", "uri", "uriTemplate", "id") if (text := text_of(item, key))), "?"
    )
    link = f"ui/tools/{quote(server, safe='')}/{quote(called, safe='')}" if is_tool else None
    description = text_of(about, "description") or text_of(item, "description") or ""
    return OfferedItem(called, description[:_DESCRIPTION], link)


def load_in_words(entry: Entry) -> str:
    """The figures that an instance reports, the ones that tell most."""
    load = entry.instance.load
    if load is None:
        return ""
    found = []
    if load.active is not None:
        of = f" of {load.capacity}" if load.capacity else ""
        found.append(f"{load.active}{of} under way")
    if load.rate is not None:
        found.append(f"{load.rate:g}/min")
    if load.latency is not None:
        found.append(f"{load.latency * 1000:.0f} ms")
    if load.error_rate:
        found.append(f"{load.error_rate:.1%} errors")
    return ", ".join(found)


OPERATIONS = (
    page_operation(
        "/ui/servers/{name}",
        server,
        needs="read",
        parameters=(
            Parameter("name", "The server's name, or the id of an instance.", where="path"),
            Parameter("instance", "The id of the instance whose record is shown."),
            Parameter(
                "span",
                "How far back its health is shown.",
                {"type": "string", "enum": list(SPANS)},
            ),
            Parameter("document", "The digest of the document that is compared."),
        ),
        errors=(404,),
    ),
)
