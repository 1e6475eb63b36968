"""The frame of all pages: templates, what they have in common, and the files beside them.

Nothing here decides who may see what: a page is an operation like any other, and shows the parts
of its request. Links are relative to the page, so that a proxy may put a prefix before all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, wraps
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson
from aiohttp import web

from mcp_discovery.facade.access.authentication import AUTHENTICATION
from mcp_discovery.facade.access.browser_session import csrf_of
from mcp_discovery.facade.access.caller import caller_if_known
from mcp_discovery.facade.access.rights import Need
from mcp_discovery.facade.http.operation import Handler, Operation, Parameter
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.pages.visible import sentence, visible
from mcp_discovery.health import rfc3339, utcnow
from mcp_discovery.version import installed_version

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent
_MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
#: Nothing but the facade's own files runs or is loaded; what servers answer with comes as blobs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
#: The cookie with the theme that somebody chose; any other value is the system's.
_THEME_COOKIE = "mcp_discovery_theme"
_THEMES = frozenset(("light", "dark"))


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the pages' navigation: where it leads to, and the right that this needs."""

    key: str
    label: str
    path: str
    needs: Need = "read"


NAVIGATION = (
    Link("servers", "Servers", ""),
    Link("tools", "Tools", "ui/tools"),
    Link("ask", "Ask", "ui/ask", "call"),
    Link("topology", "Topology", "ui/topology", "admin"),
    Link("audit", "Audit", "ui/audit", "admin"),
    Link("status", "Status", "ui/status"),
)


@cache
def _files() -> Mapping[str, tuple[bytes, str]]:
    """The files beside the pages: name → content, media type."""
    return {
        each.name: (each.read_bytes(), _MEDIA[each.suffix])
        for each in sorted((_FOLDER / "static").iterdir())
        if each.suffix in _MEDIA
    }


@cache
def _version() -> str:
    """What changes with any of the files: browsers keep each of them for good."""
    digest = hashlib.blake2b(digest_size=6)
    for name, (content, _) in _files().items():
        digest.update(b"%b:%d:%b" % (name.encode(), len(content), content))
    return digest.hexdigest()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {"visible": visible, "sentence": sentence, "rfc3339": _rfc3339}
    environment.globals["version"] = installed_version()
    return environment


@cache
def _prepare() -> None:
    """Compiles all templates and reads all files: some 200 ms, in a thread."""
    environment = _environment()
    for name in environment.list_templates():
        environment.get_template(name)
    _version()


def _rfc3339(moment: datetime | str) -> str:
    return moment if isinstance(moment, str) else rfc3339(moment)


def to_root(request: web.Request) -> str:
    """The relative URL of the facade's root, as seen from the page of ``request``."""
    return "../" * (request.rel_url.raw_path.count("/") - 1) or "./"


def page(
    request: web.Request,
    template: str,
    *,
    title: str,
    current: str = "",
    status: int = 200,
    **values: Any,
) -> web.Response:
    """``template`` with ``values``, inside the frame.

    ``current`` is the key of the entry of :data:`NAVIGATION` that the page belongs to. Besides
    ``values`` a template has ``caller`` (``None`` for a request that was refused before that was
    known), ``navigation``, ``csrf``, ``may_sign_in``, ``here`` (this page,
    encoded for a query), ``now`` (UTC), ``root``, and the functions ``path``, which
    makes a link of a path below the facade's root, and ``asset``, of a file beside the pages.
    """
    root = to_root(request)
    caller = caller_if_known(request)
    verbs = frozenset() if caller is None else caller.rights.verbs

    def path(below: str) -> str:
        return root + below

    def asset(name: str) -> str:
        if name not in _files():
            raise LookupError(f"there is no file {name!r} beside the pages")
        return f"{root}ui/static/{_version()}/{name}"

    theme = request.cookies.get(_THEME_COOKIE, "")
    text = (
        _environment()
        .get_template(template)
        .render(
            values,
            title=title,
            current=current,
            caller=caller,
            navigation=[each for each in NAVIGATION if each.needs == "open" or each.needs in verbs],
            csrf=csrf_of(request),
            may_sign_in=AUTHENTICATION in request.app,
            here=quote(request.rel_url.raw_path_qs, safe=""),
            now=utcnow(),
            root=root,
            path=path,
            asset=asset,
            theme=theme if theme in _THEMES else "",
        )
    )
    headers = {
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    body = text.encode(errors="replace")
    return web.Response(
        status=status, body=body, content_type="text/html", charset="utf-8", headers=headers
    )


def is_for_people(request: web.Request) -> bool:
    """Whether ``request`` is a browser's for a page, by a form of one, or for what is not there at
    all."""
    if "text/html" not in request.headers.get("Accept", ""):
        return False
    path, reads = request.path, request.method in ("GET", "HEAD")
    is_missing = request.match_info.http_exception is not None
    return path.startswith("/ui/") or (reads and (path == "/" or is_missing))


def reshape_problem(request: web.Request, response: web.StreamResponse) -> None:
    """Makes a page of the problem document that people would get; who has to sign in first is led
    to where that is done."""
    if (
        not isinstance(response, web.Response)
        or not isinstance(response.body, bytes)
        or response.content_type != "application/problem+json"
        or not is_for_people(request)
    ):
        return
    problem = orjson.loads(response.body)
    phrase = HTTPStatus(response.status).phrase
    made = page(request, "problem.html", title=phrase, status=response.status, problem=problem)
    response.body = made.body
    goes_there = request.method in ("GET", "HEAD") and (
        request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
    )
    if response.status == HTTPStatus.UNAUTHORIZED and goes_there and AUTHENTICATION in request.app:
        response.set_status(HTTPStatus.SEE_OTHER)
        here = quote(request.rel_url.raw_path_qs, safe="")
        response.headers["Location"] = f"{to_root(request)}ui/login?next={here}"
    for name, value in made.headers.items():
        if name != "Content-Length":
            response.headers[name] = value


async def static(request: web.Request) -> web.Response:
    """A file beside the pages; browsers keep it, as its URL changes with it."""
    name = request.match_info["file"]
    found = _files().get(name)
    if found is None:
        raise ProblemError(404, "unknown-file", f"there is no file {name[:100]!r} beside the pages")
    content, media = found
    current = request.match_info["version"] == _version()
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if current else "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    charset = None if media.startswith("image/") else "utf-8"
    return web.Response(body=content, content_type=media, charset=charset, headers=headers)


#: A page's shape in OpenAPI.
HTML: Mapping[int, Mapping[str, Any]] = {200: {"type": "string"}}


def page_operation(
    path: str,
    handler: Handler,
    *,
    needs: Need,
    parameters: tuple[Parameter | Callable[[], Iterable[Parameter]], ...] = (),
    errors: tuple[int, ...] = (),
    lenient: bool = True,
) -> Operation:
    """The operation of a page: a browser may bring parameters that nobody asked for."""

    @wraps(handler)
    async def shown(request: web.Request) -> web.StreamResponse:
        if not _prepare.cache_info().currsize:
            await asyncio.to_thread(_prepare)
        return await handler(request)

    return Operation(
        "GET",
        path,
        shown,
        "pages",
        answers=HTML,
        parameters=parameters,
        errors=errors,
        media="text/html",
        lenient=lenient,
        needs=needs,
    )


OPERATIONS = (
    Operation(
        "GET",
        "/ui/static/{version}/{file}",
        static,
        "pages",
        answers={200: {"type": "string"}},
        errors=(404,),
        media="text/css",
        needs="open",
    ),
)
