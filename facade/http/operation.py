"""One operation of the API, declared once: its route, its parameters and its place in OpenAPI."""

from __future__ import annotations

import functools
import re
import weakref
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

from aiohttp import web
from cachetools import LRUCache
from pydantic import BaseModel

from mcp_discovery.facade.access.rights import Need
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.nearest import nearest

#: How many characters of accepted query strings each operation remembers.
_ACCEPTED_CHARACTERS = 64 * 2**10
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: What the handlers of routes need.
_NEEDS: weakref.WeakKeyDictionary[Handler, Need] = weakref.WeakKeyDictionary()
#: What an answer or a body looks like: a model, a JSON Schema, or nothing.
Shape = type[BaseModel] | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query string (or, with ``where``, of the path or a header).

    ``schema`` is its JSON Schema; an ``array`` may be repeated or separated by commas.
    """

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    where: Literal["query", "path", "header"] = "query"


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of one path does.

    ``needs`` is the right without which nobody gets to it, or ``open``. The handler's docstring is
    its description. ``answers`` maps statuses to the shapes of their bodies; ``errors`` are the
    statuses of the problem documents that it may answer with, besides those that every operation
    has and that are not among ``answers``. ``media`` is the type of its good answers;
    ``body_optional`` says that a request without a body is one, too. ``lenient`` says that unknown
    query parameters are ignored: for an API whose clients nobody wrote for a facade. ``json_rpc``
    says that errors may be JSON-RPC errors instead, with the problem document in them.

    A function among ``parameters``, or as the ``body``, is called when the application is built: so
    the table of filters is read then and not when a module is imported.
    """

    method: str
    path: str
    handler: Handler
    group: str
    answers: Mapping[int, Shape] = field(default_factory=lambda: {200: {"type": "object"}})
    parameters: tuple[Parameter | Callable[[], Iterable[Parameter]], ...] = ()
    body: Shape | Callable[[], type[BaseModel]] = None
    errors: tuple[int, ...] = ()
    media: str = "application/json"
    body_optional: bool = False
    lenient: bool = False
    json_rpc: bool = False
    needs: Need = field(kw_only=True)

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """The parameters, with those that functions make."""
        given = ((each,) if isinstance(each, Parameter) else each() for each in self.parameters)
        return tuple(chain.from_iterable(given))

    @property
    def body_shape(self) -> Shape:
        """The body's shape, which a function may make."""
        body = self.body
        return body() if callable(body) and not isinstance(body, type) else body


def routes(operations: Iterable[Operation]) -> list[web.RouteDef]:
    """The routes of ``operations``, which refuse undeclared query parameters unless ``lenient``.

    ``HEAD`` is answered wherever there is a ``GET``, and ``OPTIONS`` everywhere.
    """
    methods: defaultdict[str, set[str]] = defaultdict(set)
    found = []
    for each in operations:
        methods[each.path] |= {each.method, "HEAD"} if each.method == "GET" else {each.method}
        found.append(web.route(each.method, _pattern(each.path), _strict(each)))
    found += (web.options(_pattern(path), _allowing(known)) for path, known in methods.items())
    return found


def needing(need: Need, handler: Handler) -> Handler:
    """``handler``, of which it is known from now on what it needs."""
    _NEEDS[handler] = need
    return handler


def needs_of(request: web.Request) -> Need:
    """What the operation that ``request`` is for needs; a request that is for none needs nothing.
    Nor does ``OPTIONS``: browsers ask it without credentials before they send a request.

    Raises :class:`LookupError` for a route of which it was not said.
    """
    match = request.match_info
    if match.http_exception is not None or request.method == "OPTIONS":
        return "open"
    return _NEEDS[match.handler]


def require_needs(app: web.Application) -> None:
    """Raises :class:`LookupError` for a route of ``app`` of which nobody said what it needs."""
    for route in app.router.routes():
        if route.handler not in _NEEDS:
            raise LookupError(f"{route.method} {route.resource} does not say what it needs")


def _pattern(path: str) -> str:
    """``path`` for aiohttp, whose own placeholders would not match a name with braces."""
    return re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", path)


def refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    """Raises :class:`ProblemError` (400) for an unknown parameter, naming the nearest known one."""
    for name in given:
        if name in known:
            continue
        near = nearest(name, known)
        hint = f"did you mean {near!r}? " if near else ""
        listed = f"known are {', '.join(known)}" if known else "this path has none"
        detail = f"unknown parameter {name[:100]!r}; {hint}{listed}"
        facts = {"nearest": near} if near else {}
        raise ProblemError(400, "unknown-parameter", detail, parameter=name[:100], **facts)


def _allowing(methods: Iterable[str]) -> Handler:
    allowed = ", ".join(sorted({*methods, "OPTIONS"}))

    async def options(request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Allow": allowed})

    return needing("open", options)


def _strict(operation: Operation) -> Handler:
    known = tuple(each.name for each in operation.all_parameters if each.where == "query")
    #: The query strings that had no unknown parameter: many requests have the same.
    accepted: LRUCache[str, str] = LRUCache(_ACCEPTED_CHARACTERS, getsizeof=len)

    @functools.wraps(operation.handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        text = "" if operation.lenient else request.rel_url.raw_query_string
        if text and text not in accepted:
            refuse_unknown(request.query, known)
            if len(text) <= _ACCEPTED_CHARACTERS:
                accepted[text] = text
        return await operation.handler(request)

    return needing(operation.needs, handle)
