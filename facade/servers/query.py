"""The request for a list: every parameter of ``GET /servers``, parsed and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from aiohttp import web
from cachetools import LRUCache

from mcp_discovery.facade.http.etag import tag_of
from mcp_discovery.facade.http.operation import Parameter
from mcp_discovery.facade.http.parameters import (
    flag,
    listed,
    once,
    one_of,
    seconds,
    sentence,
    whole,
)
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers.filters import contradiction, list_filters, parse
from mcp_discovery.facade.servers.paging import BY_NAME, SORTS, Cursor, Sort
from mcp_discovery.instance import DERIVED
from mcp_discovery.query.query import Query
from mcp_discovery.query.question import MAX_TEXT, Question
from mcp_discovery.record import Record

#: The largest number of entries on one page.
MAX_LIMIT = 1000
#: The longest wait of a long poll, in seconds.
MAX_WAIT = 300.0

#: The fields of an entry that ``fields`` may name.
FIELDS = (
    *(str(each.serialization_alias or name) for name, each in Record.model_fields.items()),
    *sorted(DERIVED - {"uptime"}),
    "why",
)

#: What lists of servers and of tools are searched for.
WORDS = Parameter(
    "q",
    "A sentence or some words: what is found has one of them in its names, titles, tags, "
    "descriptions or parameters, a server in its tools and a tool in its server too; the best come "
    "first. With `match=all` it has every word.",
    {"type": "string", "maxLength": MAX_TEXT},
)
PARAMETERS = (
    list_filters,
    WORDS,
    Parameter(
        "fields",
        "Only these fields of each entry; the id always.",
        {"type": "array", "items": {"type": "string", "enum": list(FIELDS)}},
    ),
    Parameter(
        "sort",
        "The field that decides the order, with `-` before it for descending; ids decide between "
        "equals, and what is not known comes last. `relevance` (with `q`, and then the default) "
        "has the best first.",
        {"type": "string", "enum": [sign + each for each in SORTS for sign in ("", "-")]},
    ),
    Parameter(
        "limit",
        "At most so many; the answer then has `total` and, where there are more, `nextCursor`.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
    ),
    Parameter("cursor", "The `nextCursor` of the page before; filters and sort as they were."),
    Parameter(
        "explain",
        "Also tell, for each instance left out, which filters it fails.",
        {"type": "string", "enum": ["true", "false"]},
    ),
    Parameter(
        "wait",
        "Wait for so long (`30s`, `5m` at most) until the answer is another than it was at "
        "`index`; without an `index`, answer at once.",
        {"type": "string", "pattern": r"^\d{1,9}(\.\d{1,6})?(ms|s|m|h|d)?$"},
    ),
    Parameter("index", "With `wait`: the `X-Discovery-Revision` of the last answer."),
)


@dataclass(frozen=True, slots=True)
class ServerQuery:
    """One request for a list.

    ``question`` is searched for. ``fields`` are the wanted fields of each entry, ``None`` for all.
    ``index`` is the epoch and the revision after which a long poll waits for a change, for ``wait``
    seconds at most.
    """

    query: Query
    question: Question | None = None
    sort: Sort = BY_NAME
    limit: int | None = None
    cursor: Cursor | None = None
    fields: tuple[str, ...] | None = None
    explain: bool = False
    wait: float = 0.0
    index: tuple[str, int] | None = None
    #: The digest of the selection and its order, which all pages of one list have in common.
    fingerprint: str = field(default="", compare=False)
    #: The digest of everything that decides the response's bytes but the time: requests with equal
    #: keys share one response.
    key: str = field(default="", compare=False)

    @property
    def steady(self) -> bool:
        """Whether the response is the same for as long as the list is, but for ``lastSeen``.

        It is not where it depends on the clock, or on descriptions that become known later.
        """
        return not (self.question or self.cursor or self.query.min_uptime or self.sort.moves)


#: The requests that were parsed lately, by their query string: many clients send the same one.
_PARSED: LRUCache[str, ServerQuery] = LRUCache(1024)
#: The longest query string, in characters, that is cached.
_MAX_CACHED = 1024


def read_query(request: web.Request, **defaults: Iterable[str]) -> ServerQuery:
    """The request in a query string; raises :class:`ProblemError` (400) for a bad one.

    ``defaults`` are the values of filters that it does not name, where they are not the table's.
    """
    if defaults:
        return _read(request, **defaults)
    text = request.rel_url.raw_query_string
    try:
        return _PARSED[text]
    except KeyError:
        parsed = _read(request)
    if len(text) <= _MAX_CACHED:
        _PARSED[text] = parsed
    return parsed


def _read(request: web.Request, **defaults: Iterable[str]) -> ServerQuery:
    query = parse(request, **defaults)
    question = read_question(request, query)
    sort = _sort(request, searching=question is not None)
    text = question.text if question is not None else None
    fingerprint = tag_of(query.identity, text, sort.field, sort.descending)
    cursor_text = once(request, "cursor")
    cursor = Cursor.decode(cursor_text, sort, fingerprint) if cursor_text else None
    limit = whole(request, "limit", least=1, most=MAX_LIMIT)
    if limit is None and cursor is not None:
        limit = cursor.limit
    fields = listed(request, "fields")
    for each in fields:
        one_of("fields", each, FIELDS)
    chosen = tuple(dict.fromkeys(("id", *fields))) if fields else None
    explain = flag(request, "explain")
    wait = seconds(request, "wait", most=MAX_WAIT)
    index = _index(once(request, "index"))
    if index is not None and not wait:
        raise contradiction("index says since when to wait for a change; add wait=30s")
    if cursor is not None and (wait or explain):
        name = "wait" if wait else "explain"
        raise contradiction(f"{name} is for a list from its beginning; leave out cursor or {name}")
    key = tag_of(fingerprint, limit, cursor_text, chosen, explain)
    return ServerQuery(
        query, question, sort, limit, cursor, chosen, explain, wait, index, fingerprint, key
    )


def read_question(request: web.Request, query: Query) -> Question | None:
    """What a list is searched for, as ``query`` wants it matched; ``None`` where it is not.

    Raises :class:`ProblemError` (400) where there is no word in it, or too much.
    """
    text = sentence(request, "q")
    if not text:
        return None
    if len(text) > MAX_TEXT:
        detail = f"q has {len(text):,} characters; it may have {MAX_TEXT:,} at most"
        raise ProblemError(400, "too-many-values", detail, parameter="q", most=MAX_TEXT)
    question = Question(text, query.match)
    if not question.words:
        detail = f"q={text[:100]!r} has no word to search for; write letters or digits"
        raise ProblemError(400, "unknown-value", detail, parameter="q")
    return question


def _sort(request: web.Request, *, searching: bool) -> Sort:
    text = once(request, "sort")
    if text is None:
        return Sort("relevance") if searching else BY_NAME
    name = one_of("sort", text.removeprefix("-"), SORTS)
    if name == "relevance" and not searching:
        raise contradiction("relevance is to what is searched for; add q, or sort by another field")
    return Sort(name, text.startswith("-"))


def _index(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9a-zA-Z._-]{1,64}):(\d{1,18})", text, re.ASCII)
    if found is None:
        hint = "send the X-Discovery-Revision of the last answer, such as 5f0c2a9be1d3:42"
        detail = f"index={text[:100]!r} is no state of a list; {hint}"
        raise ProblemError(400, "bad-index", detail, parameter="index")
    return found[1], int(found[2])
