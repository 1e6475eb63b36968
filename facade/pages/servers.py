"""The page of all servers, ``/``: the list, grouped by server, as its caller sees it.

It is rendered here whole, a page at a time; ``static/servers.js`` then shows all of it, from the
same API that everybody has, and keeps it up to date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.ard.manifest import WELL_KNOWN
from mcp_discovery.facade.http.etag import tag_of
from mcp_discovery.facade.http.operation import Parameter
from mcp_discovery.facade.http.parameters import whole
from mcp_discovery.facade.pages.site import page, page_operation
from mcp_discovery.facade.pages.visible import visible
from mcp_discovery.facade.registry.index import REGISTRY_INDEX
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.filters import list_filters, stream_filters
from mcp_discovery.facade.servers.query import PARAMETERS, WORDS, ServerQuery, read_query
from mcp_discovery.facade.servers.results import LISTS, ListSelection
from mcp_discovery.facade.servers.search_index import MANY, aside
from mcp_discovery.health import PREFERENCE, Status, rfc3339
from mcp_discovery.query.filters import FILTERS, Filter
from mcp_discovery.query.versions import precedence

#: So many servers stand on one page where no script shows all of them.
_ON_A_PAGE = 50
#: So many of the instances that are left out are explained.
_EXPLAINED = 50
#: A text field suggests values where there are no more of them than these.
_SUGGESTED = 200
#: So many characters of a description are shown.
_DESCRIPTION = 200
#: So many different versions, zones and transports of one server are named.
_NAMED = 2
#: What there is of a server that its columns show: heading, and what the list is sorted by.
COLUMNS = (
    ("Server", "name"),
    ("Status", "status"),
    ("Since", "since"),
    ("Instances", ""),
    ("Version", "version"),
    ("Zone", "zone"),
    ("Transport", ""),
)
_SORTS = {
    "name": "Name",
    "status": "Status",
    "-since": "Last change first",
    "since": "Longest in its status first",
    "-version": "Newest version first",
    "version": "Oldest version first",
    "zone": "Zone",
    "owner": "Owner",
    "-registeredAt": "Last registered first",
}


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One server with those of its instances that match; the texts are as they were registered.

    ``counts`` says how many have which status, the best first. ``reason`` and ``since`` are those
    of the instance that is worst off.
    """

    name: str
    text: str
    counts: Mapping[str, int]
    reason: str
    since: str
    versions: str
    zones: str
    transports: str

    @property
    def instances(self) -> int:
        """How many there are."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class FilterInput:
    """A filter in the form: the texts that it is set to, and values to choose from, or to suggest.

    ``is_choice`` says that there are no others.
    """

    filter: Filter
    label: str
    values: Sequence[str]
    choices: Sequence[str]
    is_choice: bool


@dataclass(frozen=True, slots=True)
class ServerScreen:
    """What one request is shown of the list."""

    rows: Sequence[ServerRow]
    number: int
    counts: Mapping[str, int]


async def servers(request: web.Request) -> web.StreamResponse:
    """The page of all servers that the caller may see, with the filters and the order of
    `GET /servers`; of every status, unless `status` says which."""
    view = view_of(request)
    lists = parts_of(request)[LISTS]
    wanted = read_query(request, status=())
    number = whole(request, "page", least=1, most=10**6) or 1
    # The status is chosen here, so that the others can be counted.
    selection = await lists.selection(_of_every_status(wanted))
    many = len(selection.entries) > MANY
    screen = await aside(many, _screen, selection, wanted.query["status"], number)
    explained: Mapping[str, Any] = {}
    if wanted.explain or (not screen.number and len(view)):
        explained = (await lists.result(_explaining(wanted))).members
    given = [(name, value) for name, value in request.query.items() if value.strip()]
    base = parts_of(request)[REGISTRY_INDEX].addresses.base(request)
    shown = page(
        request,
        "servers.html",
        title="Servers",
        current="servers",
        screen=screen,
        total=len(view),
        view=view,
        facade=base,
        position=list_json.position(view),
        columns=COLUMNS,
        sorts=_SORTS,
        sort=_sort(wanted),
        mode=wanted.query.match,
        words=wanted.question.text if wanted.question is not None else "",
        explain=wanted.explain,
        explained=explained,
        fields=list(_fields(view, given)),
        chips=_chips(given),
        statuses=[each.value for each in Status],
        chosen=wanted.query["status"],
        linked=_LinkedHere(given),
        number=number,
        last=max(1, -(-screen.number // _ON_A_PAGE)),
        streamed=" ".join(each.name for each in stream_filters() if each.name != "status"),
        filters=" ".join(each.name for each in (*list_filters(), WORDS)),
    )
    shown.headers["Link"] = f'<{base}{WELL_KNOWN}>; rel="ard"'
    return shown


class _LinkedHere:
    """Links to this page: ``linked(zone="eu")`` is the present one with another value, ``None`` for
    none."""

    def __init__(self, given: Sequence[tuple[str, str]]) -> None:
        self._given = given

    def __call__(self, **changes: str | None) -> str:
        changes.setdefault("page", None)
        kept = [each for each in self._given if each[0] not in changes]
        added = [(name, value) for name, value in changes.items() if value is not None]
        return "?" + urlencode(kept + added)

    def without(self, name: str, value: str) -> str:
        """The present page without one value of a filter."""
        return "?" + urlencode(
            [each for each in self._given if each not in ((name, value), ("page", each[1]))]
        )


def _of_every_status(wanted: ServerQuery) -> ServerQuery:
    query = wanted.query.but(status=())
    text = wanted.question.text if wanted.question is not None else None
    fingerprint = tag_of(query.identity, text, wanted.sort.field, wanted.sort.descending)
    return replace(wanted, query=query, fingerprint=fingerprint, fields=None, explain=False)


def _explaining(wanted: ServerQuery) -> ServerQuery:
    key = tag_of(wanted.fingerprint, _EXPLAINED, "explained")
    return replace(wanted, explain=True, limit=_EXPLAINED, key=key)


def _screen(selection: ListSelection, chosen: frozenset[str], number: int) -> ServerScreen:
    counts = Counter(each.health.status.value for each in selection.entries)
    groups: dict[str, list[Entry]] = {}
    for entry in selection.entries:
        if not chosen or entry.health.status.value in chosen:
            groups.setdefault(entry.record.name, []).append(entry)
    names = list(groups)[(number - 1) * _ON_A_PAGE : number * _ON_A_PAGE]
    ranking = selection.ranks.ranking if selection.ranks is not None else None
    rows = []
    for name in names:
        why = ranking.why(groups[name][0].id) if ranking is not None else ""
        rows.append(row_of(groups[name], why))
    return ServerScreen(rows, len(groups), counts)


def row_of(entries: Sequence[Entry], why: str = "") -> ServerRow:
    """The row of one server; ``entries`` are its instances, ``why`` says how it was found."""
    record = entries[0].record
    counts = Counter(each.health.status for each in entries)
    worst = max(
        entries, key=lambda each: (PREFERENCE.index(each.health.status), each.health.since)
    ).instance.health
    return ServerRow(
        name=record.name,
        text=why or (record.title or record.description or "")[:_DESCRIPTION],
        counts={each.value: counts[each] for each in PREFERENCE if counts[each]},
        reason="" if worst.status is Status.HEALTHY else worst.reason,
        since=rfc3339(worst.since),
        versions=_named(sorted({each.record.version for each in entries}, key=precedence)),
        zones=_named(sorted({each.record.zone or "" for each in entries})),
        transports=_named(sorted({each.record.endpoint.transport for each in entries})),
    )


def _named(values: Sequence[str]) -> str:
    known = [each for each in values if each]
    more = f" +{len(known) - _NAMED}" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more


def _sort(wanted: ServerQuery) -> str:
    return ("-" if wanted.sort.descending else "") + wanted.sort.field


def _fields(view: View, given: Iterable[tuple[str, str]]) -> Iterator[FilterInput]:
    for each in FILTERS.values():
        if each.name == "status":
            continue  # the links with the counts are its field
        label = each.name.replace("_", " ").capitalize()
        values = [value for name, value in given if name == each.name]
        choices = list(each.allowed)
        if not choices and each.index is not None and each.syntax is None:
            known = view.keys(each.name)
            choices = sorted(known) if len(known) <= _SUGGESTED else []
            # A value is suggested as it is: one that hides a part of itself is not.
            choices = [choice for choice in choices if visible(choice) == choice]
        if each.split == "commas" and each.allowed:
            values = [part for value in values for part in value.split(",")]
        yield FilterInput(each, label, values, choices, bool(each.allowed))


def _chips(given: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The filters that are set, but for the status, which is shown by itself."""
    return [each for each in given if each[0] in FILTERS and each[0] != "status"]


OPERATIONS = (
    page_operation(
        "/",
        servers,
        needs="read",
        parameters=(
            list_filters,
            WORDS,
            *(
                each
                for each in PARAMETERS
                if isinstance(each, Parameter) and each.name in ("sort", "explain")
            ),
            Parameter(
                "page",
                "Which page of the list, where no script shows all of it.",
                {"type": "integer", "minimum": 1},
            ),
        ),
        lenient=False,
    ),
)
