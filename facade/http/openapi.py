"""The OpenAPI document, generated from the operations that the facade serves, and ``GET /docs``:
the same for people, in one page that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from http import HTTPStatus
from importlib import resources
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.http.etag import has_already, headers_of, not_modified, tag_of
from mcp_discovery.facade.http.operation import Operation, Parameter, Shape
from mcp_discovery.facade.http.problems import MAX_BODY_BYTES
from mcp_discovery.version import installed_version

#: What each group of operations is about.
GROUPS: Mapping[str, str] = {
    "discovery": "Finding servers that are alive.",
    "history": "What became of servers, and of what they offered.",
    "tools": "Tools, across all servers that offer them.",
    "ask": 'Questions that a model answers with these tools; errors are `{"error"}`.',
    "registration": "Changing the list.",
    "queries": "What is asked by name: kept in the store for all facades, with fall-backs.",
    "connections": "The same servers as connections, with load balancing and health checks.",
    "registry": "The registry as a whole: figures, export and import.",
    "streams": "The list and its changes as they happen.",
    "usage": "What clients tell of the servers they used.",
    "documents": "Capability documents by their digest.",
    "audit": "What happened, and by whom.",
    "webhooks": "Receivers that are told what changes, and what was sent to them.",
    "platform": "The list, its tools and the audit as a platform's management API has them.",
    "ecosystem": "What other programs read.",
    "mcp-registry": "The MCP registry API, server cards and the AI catalog, as hosts read them; "
    'unknown query parameters are ignored, and errors below `/v0.1` are `{"error"}`.',
    "ard": "Agentic Resource Discovery (ARD v0.91): the manifest of what is published here, and "
    'this facade as a registry; errors below `/api/ard` are `{"errorCode", "message"}`.',
    "gateway": "One MCP address for each server, which outlives its instances.",
    "facade": "How this facade is.",
    "pages": "What people see in a browser; errors are pages, too, where `text/html` is accepted.",
}
#: Statuses of problems that any operation may answer with: an unknown parameter, a host that is not
#: allowed, a store that refuses the facade's credentials, a store that cannot be reached.
_ANYWHERE = (400, 421, 502, 503)
#: … and any that needs a right: there is no credential that counts, or none with that right.
_WITH_RIGHTS = (401, 403)
#: … and any operation that reads a body: it is late, too large, or in an unknown encoding.
_WITH_BODY = (408, 413, 415)
#: … and any that is not to be reached by a facade's own probe.
_NO_PROBES = 508
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_REF = "#/components/schemas/{model}"

_HEADERS: Mapping[str, Any] = {
    "X-Request-Id": {
        "description": "The request's id: the one that was sent, or a new one.",
        "required": True,
        "schema": {"type": "string", "maxLength": 128},
    },
    "Server-Timing": {
        "description": "`app`: milliseconds until the answer began; `store`: of these, how many "
        "went into asking the store, where it was asked.",
        "required": True,
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "`Bearer`, with where to get a token (RFC 9728) and for what scope.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before asking again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
}
_TOKEN: Mapping[str, Any] = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of this facade or of an issuer that it trusts, where it was started "
    "with `--auth`. `x-needs` is the right that an operation needs.",
}
_EVERYWHERE = ("X-Request-Id", "Server-Timing")


class ProblemModel(Shaped):
    """What went wrong and what to do about it; the facts are further members."""

    type: str = Field(description="`urn:mcp-discovery:problem:<kind>`, or `about:blank`.")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="One sentence, for people.")
    instance: str = Field(description="The path that was asked for.")


class Description:
    """The OpenAPI document of ``operations``, made when it is first requested."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._operations = tuple(operations)

    @cached_property
    def body(self) -> bytes:
        """The document as JSON."""
        return orjson.dumps(document(self._operations))


DESCRIPTION = web.AppKey("description", Description)


async def openapi(request: web.Request) -> web.Response:
    """This description of the API, as an OpenAPI 3.1 document."""
    return web.Response(body=request.app[DESCRIPTION].body, content_type="application/json")


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of ``operations``."""
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, schemas)
    used = {each.group for each in operations}
    groups = [*(each for each in GROUPS if each in used), *sorted(used - GROUPS.keys())]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mcp-discovery",
            "version": installed_version(),
            "summary": "MCP servers that are alive, by tag and by capability.",
            "description": (
                "Every error is a problem document (RFC 9457). An unknown query parameter is an "
                "error. `HEAD` is answered wherever `GET` is, `OPTIONS` everywhere. A parameter "
                "that takes several values may be repeated, or they may be separated by commas. "
                f"A body may be gzip-compressed, and is limited to {MAX_BODY_BYTES:,} bytes."
            ),
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": GROUPS.get(name, name)} for name in groups],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "headers": dict(_HEADERS),
            "securitySchemes": {"token": dict(_TOKEN)},
            "responses": {
                f"Problem{status}": _problem(status)
                for status in sorted({each for one in operations for each in _errors(one)})
            },
        },
    }


class _Schemas:
    """The JSON Schemas of all models that ``operations`` name, each once."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        wanted: dict[tuple[type[BaseModel], Any], None] = {(ProblemModel, "serialization"): None}
        for each in operations:
            if isinstance(body := each.body_shape, type):
                wanted[body, "validation"] = None
            for shape in each.answers.values():
                if isinstance(shape, type):
                    wanted[shape, "serialization"] = None
        self._refs, definitions = models_json_schema(
            list(wanted), ref_template=_REF, schema_generator=_Generator
        )
        self.components: dict[str, Any] = definitions.get("$defs", {})

    def of(self, shape: Shape, *, sent: bool = False) -> Mapping[str, Any]:
        """The schema of ``shape``; ``sent`` when it is the body of a request."""
        if isinstance(shape, type):
            return self._refs[shape, "validation" if sent else "serialization"]
        return shape or {}


class _Generator(GenerateJsonSchema):
    """Names each component after its model's class, without a trailing ``Model``.

    The title that pydantic makes of a field's name is left out, since it says nothing more.
    """

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(_component_name(name))

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        name = schema["cls"].__name__
        if described.get("title") == name:
            described["title"] = _component_name(name)
        return described

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _component_name(class_name: str) -> str:
    return class_name.removesuffix("Model") or class_name


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    text = inspect.getdoc(operation.handler) or ""
    summary, _, rest = text.partition("\n\n")
    described: dict[str, Any] = {
        "operationId": operation_id(operation),
        "tags": [operation.group],
        "summary": _plain(summary).rstrip("."),
    }
    if operation.needs != "open":
        # A facade without --auth asks nobody.
        described["security"] = [{}, {"token": []}]
        described["x-needs"] = operation.needs
    if rest:
        described["description"] = _plain(rest)
    if parameters := [_parameter(each) for each in _parameters(operation)]:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {
            "required": not operation.body_optional,
            "content": {
                "application/json": {"schema": schemas.of(operation.body_shape, sent=True)}
            },
        }
    responses = {
        str(status): _answer(operation, status, shape, schemas)
        for status, shape in operation.answers.items()
    }
    for status in _errors(operation):
        responses[str(status)] = (
            _problem(status, **others)
            if (others := _other_errors(operation))
            else {"$ref": f"#/components/responses/Problem{status}"}
        )
    described["responses"] = dict(sorted(responses.items()))
    return described


def _answer(operation: Operation, status: int, shape: Shape, schemas: _Schemas) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in _EVERYWHERE},
    }
    if shape is not None:
        schema = schemas.of(shape)
        if not operation.media.endswith("json"):
            schema = {"type": "string"}
        answer["content"] = {operation.media: {"schema": schema}}
    return answer


def _other_errors(operation: Operation) -> dict[str, str]:
    """What an error may be instead of a problem document: media type → type of its content."""
    if operation.json_rpc:
        return {"application/json": "object"}
    return {"text/html": "string"} if operation.media == "text/html" else {}


def _problem(status: int, **others: str) -> dict[str, Any]:
    """A problem document, which may be inside of something of the ``others`` instead."""
    more = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
    names = (*_EVERYWHERE, *more.get(status, ()))
    schema = {"$ref": _REF.format(model="Problem")}
    return {
        "description": HTTPStatus(status).phrase,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {"application/problem+json": {"schema": schema}}
        | {media: {"schema": {"type": kind}} for media, kind in others.items()},
    }


def _errors(operation: Operation) -> list[int]:
    found = {*_ANYWHERE, *operation.errors}
    if operation.body is not None:
        found.update(_WITH_BODY)
    if operation.needs != "open":
        found.update(_WITH_RIGHTS)
    if operation.method != "GET":
        found.add(_NO_PROBES)
    return sorted(found - operation.answers.keys())


def _parameters(operation: Operation) -> list[Parameter]:
    """Those declared, and those of the path that were not."""
    parameters = operation.all_parameters
    known = {each.name for each in parameters if each.where == "path"}
    missing = [name for name in _PLACEHOLDER.findall(operation.path) if name not in known]
    return [*(Parameter(name, "", where="path") for name in missing), *parameters]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "schema": dict(parameter.schema),
    }
    if parameter.description:
        described["description"] = parameter.description
    if parameter.where == "path" and parameter.schema.get("type") == "string":
        described["schema"].setdefault("minLength", 1)
    return described


def operation_id(operation: Operation) -> str:
    """``getServersByIdCapabilities`` for ``GET /servers/{id}/capabilities``."""
    words = []
    for part in operation.path.strip("/").split("/"):
        name = part.strip("{}")
        word = "".join(each[:1].upper() + each[1:] for each in re.split(r"\W+", name))
        words.append(f"By{word}" if part.startswith("{") else word)
    return operation.method.lower() + "".join(words)


def _plain(text: str) -> str:
    """A docstring as CommonMark: without references of Sphinx, code in single back-ticks."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return re.sub(r"\s*\n\s*", " ", text.replace("``", "`"))


@cache
def page() -> tuple[bytes, str, str]:
    """The page with its style and script in it, the policy that lets nothing else run in it, and
    its tag; what it shows it reads from ``openapi.json``."""
    folder = resources.files("mcp_discovery.facade.http") / "static"
    style, script = ((folder / name).read_text("utf-8") for name in ("docs.css", "docs.js"))
    text = (folder / "docs.html").read_text("utf-8")
    body = text.replace("/*style*/", style).replace("/*script*/", script).encode()
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; "
        f"style-src {_hash(style)}; script-src {_hash(script)}"
    )
    return body, policy, tag_of(body)


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what may stand in the page (CSP 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


async def docs(request: web.Request) -> web.Response:
    """The API for people: every operation, what goes in and out, and a way to try it."""
    body, policy, tag = page()
    if has_already(request, tag):
        return not_modified(tag, {})
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    headers = headers_of(tag, headers)
    return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)


OPERATIONS = (
    Operation(
        "GET",
        "/openapi.json",
        openapi,
        "ecosystem",
        needs="open",
    ),
    Operation(
        "GET",
        "/docs",
        docs,
        "ecosystem",
        answers={200: {}, 304: None},
        media="text/html",
        needs="open",
    ),
)
