"""``/queries``: what is asked by name, and its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from mcp_discovery.adapters.named_queries import KnownQueries
from mcp_discovery.adapters.view import Entry
from mcp_discovery.errors import InvalidInputError, QueryChangedError, UnknownQueryError
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.connections.requests import parsed
from mcp_discovery.facade.http.body import read_object
from mcp_discovery.facade.http.etag import (
    IF_NONE_MATCH,
    has_already,
    not_modified,
    tag_of,
    tagged,
)
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import listed, once, one_of, seconds, whole
from mcp_discovery.facade.http.pauses import made_of_each
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.queries.answers import NAMED_ANSWERS, NamedAnswer
from mcp_discovery.facade.queries.models import KeptQueries, KeptQuery, NamedQueryAnswer
from mcp_discovery.facade.registration.permission import forbidden
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.query import FIELDS, MAX_WAIT
from mcp_discovery.facade.state import facade_of
from mcp_discovery.query.definition import (
    MAX_DEFINITION,
    MOST_SERVERS,
    NamedQuery,
    QueryDefinition,
)
from mcp_discovery.query.filters import FILTERS
from mcp_discovery.record import is_label


async def queries(request: web.Request) -> web.Response:
    """The named queries, and what each is for.

    Who may see all servers, or change queries, sees the definitions, too: they may name what others
    do not see.
    """
    known = await facade_of(request).queries.current()
    shown: list[dict[str, Any]] = []
    for name, each in known.stored.items():
        definition = known.definitions.get(name)
        entry: dict[str, Any] = {"name": name, "description": ""}
        if definition is not None:
            entry["description"] = definition.description
        if _may_see(request):
            entry["etag"] = each.version
            if definition is not None:
                entry["definition"] = orjson.Fragment(each.definition)
            else:
                entry["problem"] = known.unreadable.get(name, "")
        shown.append(entry)
    body = orjson.dumps({"queries": shown} | known.caveats)
    return tagged(request, tag_of(body), body)


async def answer(request: web.Request) -> web.Response:
    """The servers that a named query finds among those that you may see, in its order.

    Where it finds fewer than it wants, its fall-backs are asked; `answeredBy` says which of them
    answered. With `wait` and `If-None-Match` it answers as soon as something else is found, and
    after `wait` at the latest; a load alone, or whose turn it is, is nothing else.
    """
    wanted = NamedQuery(_named(request), once(request, "zone"), once(request, "key"))
    limit = whole(request, "limit", least=1, most=MOST_SERVERS)
    fields = frozenset(one_of("fields", each, FIELDS) for each in listed(request, "fields"))
    wait = seconds(request, "wait", most=MAX_WAIT)
    answers = parts_of(request)[NAMED_ANSWERS]

    def tag(found: NamedAnswer) -> str:
        caveats = list_json.caveats(found.view) | found.known.caveats
        return tag_of(found.tag, limit, sorted(fields), caveats)

    found = await answers.answer(wanted)
    if wait:
        found = await answers.changed(
            request, found, lambda each: not has_already(request, tag(each)), wait
        )
    headers = {list_json.REVISION: list_json.position(found.view)}
    if has_already(request, tag(found)):
        return not_modified(tag(found), headers)
    shown = await answers.shown(found, limit)
    return tagged(request, tag(found), await _body(found, shown, fields), headers)


async def _body(answer: NamedAnswer, shown: Sequence[Entry], fields: frozenset[str]) -> bytes:
    found, view = answer.found, answer.view
    about: dict[str, object] = {"query": answer.wanted.name, "answeredBy": found.answered_by}
    if answer.wanted.zone or answer.definition.zone:
        about["inZone"] = min(len(found.near), len(shown))
    about["total"] = len(found.all)
    about |= list_json.caveats(view) | answer.known.caveats
    wanted = fields and fields | {"id"}

    def made(entry: Entry) -> bytes:
        why = answer.why(entry)
        whole = list_json.with_members(entry.json(view.as_of), {"why": why} if why else {})
        if not wanted:
            return whole
        members = orjson.loads(whole)
        return orjson.dumps({name: members[name] for name in members if name in wanted})

    entries = await made_of_each(shown, made)
    return list_json.with_members(b'{"servers":[' + b",".join(entries) + b"]}", about)


async def definition(request: web.Request) -> web.Response:
    """What a named query asks. Its `ETag` is for `If-Match` where it is changed."""
    name = _named(request)
    if not _may_see(request):
        raise forbidden(caller_of(request), "read", "every server, as a definition takes")
    known = await facade_of(request).queries.current(name)
    known[name]  # raises for one that is not there, or cannot be read
    kept = known.stored[name]
    headers = {"ETag": f'"{kept.version}"', "Cache-Control": "no-cache"}
    if has_already(request, kept.version):
        return web.Response(status=304, headers=headers)
    return web.Response(body=kept.definition, content_type="application/json", headers=headers)


async def put(request: web.Request) -> web.Response:
    """Keeps a named query in the store, for all facades, in the place of the one of that name.

    `If-Match` with the `ETag` of its definition changes no other than that; `If-None-Match: *`
    changes none. It takes the right to register every server: what is asked by name decides which
    servers others are led to.
    """
    _require_may_change(request)
    name = _named(request)
    body = await read_object(request, limit=4 * MAX_DEFINITION)
    _require_filters_in_place(body)
    wanted = parsed(QueryDefinition, body)
    kept = facade_of(request).queries
    before = await kept.latest()
    version = await kept.put(name, wanted, expected=_expected(request, name, before))
    entry = {"name": name, "description": wanted.description, "etag": version}
    content = orjson.dumps(entry | {"definition": orjson.Fragment(wanted.encode())})
    headers = {} if version is None else {"ETag": f'"{version}"'}
    status = 200 if name in before.stored else 201
    return web.Response(
        status=status, body=content, content_type="application/json", headers=headers
    )


async def delete(request: web.Request) -> web.Response:
    """Removes a named query, with `If-Match` no other than that."""
    _require_may_change(request)
    name = _named(request)
    kept = facade_of(request).queries
    before = await kept.latest()
    if name not in before.stored:
        raise UnknownQueryError(name)
    await kept.put(name, None, expected=_expected(request, name, before))
    return web.Response(status=204)


def _require_filters_in_place(body: Mapping[str, Any]) -> None:
    """Raises :class:`ProblemError` (422) for a filter that stands beside ``filters``."""
    more = body.get("fallbacks")
    steps = dict(enumerate(more)) if isinstance(more, list) else {}
    for number, step in ((None, body), *steps.items()):
        for name in step if isinstance(step, dict) else ():
            if name in FILTERS and name not in QueryDefinition.model_fields:
                field = name if number is None else f"fallbacks.{number}.{name}"
                detail = f'{field}: is a filter; write it in filters: {{"{name}": …}}'
                raise ProblemError(422, "unknown-field", detail, field=field)


def _named(request: web.Request) -> str:
    name = request.match_info["name"]
    if not is_label(name):
        raise InvalidInputError(
            f"{name[:100]!r} is no name of a query; write small letters, digits and inner hyphens, "
            "63 at most"
        )
    return name


def _may_see(request: web.Request) -> bool:
    rights = caller_of(request).rights
    return rights.sees_all or rights.grants_all("register")


def _require_may_change(request: web.Request) -> None:
    caller = caller_of(request)
    if not caller.rights.grants_all("register"):
        raise forbidden(caller, "register", "every server, as changing a named query takes")


def _expected(request: web.Request, name: str, known: KnownQueries) -> str | None:
    """The version that has to be there: ``""`` for none, ``None``: whichever.

    Raises :class:`QueryChangedError` where that is known to be none of those that are named.
    """
    stored = known.stored.get(name)
    now = None if stored is None else stored.version
    if any(each.value == "*" for each in request.if_none_match or ()):
        return ""
    given = [each.value for each in request.if_match or ()]
    if not given:
        if request.headers.get("If-Match") is not None:
            raise QueryChangedError(name, now)
        return None
    if "*" in given or now in given:
        if now is None:
            raise QueryChangedError(name, None)
        return now
    return given[0]  # what is known here may be old


NAME = Parameter("name", "The query's name, a DNS label.", where="path")
_CONDITIONS = (
    Parameter("If-Match", "The `ETag` of the definition that is to be changed.", where="header"),
    Parameter("If-None-Match", "`*`: only where there is none of that name.", where="header"),
)
_STORE: tuple[int, ...] = (501, 502, 503)
_CHANGED: Mapping[int, Any] = {200: KeptQuery, 201: KeptQuery}

OPERATIONS = (
    Operation(
        "GET",
        "/queries",
        queries,
        "queries",
        answers={200: KeptQueries, 304: None},
        parameters=(IF_NONE_MATCH,),
        errors=_STORE,
        needs="read",
    ),
    Operation(
        "GET",
        "/queries/{name}",
        answer,
        "queries",
        answers={200: NamedQueryAnswer, 304: None},
        parameters=(
            NAME,
            Parameter(
                "zone", "Servers of this zone come first, in the place of the definition's zone."
            ),
            Parameter("key", "For `consistent-hash`: who has the same is led to the same server."),
            Parameter(
                "limit",
                "At most so many, and at most as many as the definition says.",
                {"type": "integer", "minimum": 1, "maximum": MOST_SERVERS},
            ),
            Parameter(
                "fields",
                "Only these fields of each entry; the id always.",
                {"type": "array", "items": {"type": "string", "enum": list(FIELDS)}},
            ),
            Parameter(
                "wait",
                "With `If-None-Match`: wait for so long (`30s`, `5m` at most) until something else "
                "is found.",
                {"type": "string", "pattern": r"^\d{1,9}(\.\d{1,6})?(ms|s|m|h|d)?$"},
            ),
            IF_NONE_MATCH,
        ),
        errors=(404, *_STORE),
        needs="read",
    ),
    Operation(
        "GET",
        "/queries/{name}/definition",
        definition,
        "queries",
        answers={200: QueryDefinition, 304: None},
        parameters=(NAME, IF_NONE_MATCH),
        errors=(403, 404, *_STORE),
        needs="read",
    ),
    Operation(
        "PUT",
        "/queries/{name}",
        put,
        "queries",
        answers=_CHANGED,
        parameters=(NAME, *_CONDITIONS),
        body=QueryDefinition,
        errors=(400, 403, 408, 412, 413, 415, 422, *_STORE),
        needs="register",
    ),
    Operation(
        "DELETE",
        "/queries/{name}",
        delete,
        "queries",
        answers={204: None},
        parameters=(NAME, _CONDITIONS[0]),
        errors=(403, 404, 412, *_STORE),
        needs="register",
    ),
)
