"""A site that answers as JSON:API 1.1 and Drupal's core module JSON:API are published to answer.

It is a fake, as no Drupal can be installed here: what it implements are the rules in the
specification (https://jsonapi.org/format/1.1/) and in the module's documentation: the entry point
with links to collections, pages of 50 at most with ``links.next``, sparse fieldsets, ids given by
clients (409 where there is one), 405 while it is read-only, 415 for other media types, 422 for what
a field does not take, error objects. Each document that it sends or is sent is checked with the
models of the package jsonapi-pydantic.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from jsonapi_pydantic.v1_0 import Error, TopLevel

MEDIA = "application/vnd.api+json"
TYPE = "node--mcp_server"
KEY = "0123456789-the-key"
PAGE = 50
#: Fields, of which those with a list take several values.
FIELDS: dict[str, type] = {
    "title": str,
    "status": bool,
    "field_mcp_id": str,
    "field_mcp_name": str,
    "field_mcp_url": str,
    "field_mcp_transport": str,
    "field_mcp_version": str,
    "field_mcp_description": str,
    "field_mcp_tags": list,
    "field_mcp_capabilities": list,
    "field_mcp_sync": str,
}


@dataclass
class FakeDrupalSite:
    """The site; ``nodes`` by their UUID are the attributes of what it has."""

    read_only: bool = False
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Method and path of each request, with the key that came with it.
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    #: Called before each change, which other people may make meanwhile.
    before_change: Callable[[str], None] | None = None
    #: The host that links name, in the place of the one that was asked.
    links_to: str | None = None
    #: What a hostile site names as the next page.
    next_page: str | None = None
    url: str = ""
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def writes(self) -> int:
        """How many requests there were that change something."""
        return sum(method not in ("GET", "HEAD") for method, _, _ in self.requests)

    def by_id(self, id: str) -> dict[str, Any]:
        """The attributes of the node of one instance."""
        [found] = [each for each in self.nodes.values() if each.get("field_mcp_id") == id]
        return found

    def add(self, **attributes: Any) -> str:
        """A node as an editor makes it; returns its UUID."""
        id = str(uuid.uuid4())
        self.nodes[id] = {"status": True, **attributes}
        return id

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeDrupalSite]:
        app = web.Application()
        app.router.add_get("/jsonapi", self._entry)
        app.router.add_route("*", "/jsonapi/node/mcp_server", self._collection)
        app.router.add_route("*", "/jsonapi/node/mcp_server/{id}", self._individual)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    @property
    def _base(self) -> str:
        return f"{self.links_to or self.url}/jsonapi"

    async def _entry(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        href = f"{self._base}/node/mcp_server"
        links = {"self": {"href": self._base}, TYPE: {"href": href}}
        return _answer(200, {"data": [], "links": links}, checked=False)

    async def _collection(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        if request.method == "POST":
            return await self._create(request)
        begin = int(request.query.get("page[offset]", "0"))
        size = min(int(request.query.get("page[limit]", PAGE)), PAGE)
        ids = list(self.nodes)
        document: dict[str, Any] = {
            "data": [self._resource(request, id) for id in ids[begin : begin + size]],
            "links": {"self": {"href": str(request.url)}},
        }
        if begin + size < len(ids):
            following = request.rel_url.update_query({"page[offset]": str(begin + size)})
            host = self.links_to or self.url
            document["links"]["next"] = {"href": f"{host}{following}"}
        if self.next_page is not None:
            document["links"]["next"] = {"href": self.next_page}
        return _answer(200, document, checked=self.next_page is None)

    async def _create(self, request: web.Request) -> web.Response:
        data, refused = await self._given(request)
        if refused is not None:
            return refused
        id = data.get("id") or str(uuid.uuid4())
        if self.before_change is not None:
            self.before_change(id)
        if id in self.nodes:
            return _error(409, "Conflict: Entity already exists.")
        self.nodes[id] = {"status": True, **data["attributes"]}
        document = {"data": self._resource(request, id)}
        return _answer(201, document, {"Location": f"{self._base}/node/mcp_server/{id}"})

    async def _individual(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        id = request.match_info["id"]
        if id not in self.nodes:
            return _error(404, 'The "entity" parameter was not converted for the path.')
        if request.method == "PATCH":
            data, refused = await self._given(request)
            if refused is not None:
                return refused
            if data.get("id") != id:
                return _error(400, "The selected entity does not match the ID in the payload.")
            if self.before_change is not None:
                self.before_change(id)
            self.nodes[id] |= data["attributes"]
        elif request.method != "GET":
            return _error(405, f"No route found for {request.method}.")
        return _answer(200, {"data": self._resource(request, id)})

    def _refused(self, request: web.Request) -> web.Response | None:
        key = request.headers.get("api-key")
        self.requests.append((request.method, request.path, key))
        if key != KEY:
            return _error(401, f"No authentication credentials provided, but {key}.")
        if request.method not in ("GET", "HEAD"):
            if self.read_only:
                return _error(
                    405,
                    "JSON:API is configured to accept only read operations. Site administrators "
                    "can configure this at /admin/config/services/jsonapi.",
                )
            if request.headers.get("Content-Type") != MEDIA:
                return _error(415, "No route found that matches the content type.")
        return None

    async def _given(self, request: web.Request) -> tuple[Any, web.Response | None]:
        document = orjson.loads(await request.read())
        TopLevel.model_validate(document)
        data = document["data"]
        if data["type"] != TYPE:
            return data, _error(409, "The type is not the one of this collection.")
        for name, value in data.get("attributes", {}).items():
            if name not in FIELDS:
                return data, _error(
                    422, f"The attribute {name} does not exist on the {TYPE} resource type."
                )
            if value is not None and not isinstance(value, FIELDS[name]):
                return data, _error(422, f"{name}: the value is not of the right type.", name)
            if name == "title" and (not value or len(str(value)) > 255):
                return data, _error(422, "title: This value should not be null.", name)
        return data, None

    def _resource(self, request: web.Request, id: str) -> dict[str, Any]:
        wanted = request.query.get(f"fields[{TYPE}]")
        attributes = dict.fromkeys(FIELDS) | self.nodes[id]
        if wanted is not None:
            attributes = {name: attributes[name] for name in wanted.split(",") if name in FIELDS}
        href = f"{self._base}/node/mcp_server/{id}?resourceVersion=id%3A7"
        return {"type": TYPE, "id": id, "attributes": attributes, "links": {"self": {"href": href}}}


def _answer(
    status: int,
    document: dict[str, Any],
    headers: dict[str, str] | None = None,
    *,
    checked: bool = True,
) -> web.Response:
    document = {"jsonapi": {"version": "1.1"}, **document}
    if checked:
        TopLevel.model_validate(document)
    return web.Response(
        status=status, body=orjson.dumps(document), content_type=MEDIA, headers=headers
    )


def _error(status: int, detail: str, name: str | None = None) -> web.Response:
    error: dict[str, Any] = {"title": "Refused", "status": str(status), "detail": detail}
    if name is not None:
        error["source"] = {"pointer": f"/data/attributes/{name}"}
    Error.model_validate(error)
    return _answer(status, {"errors": [error]})
