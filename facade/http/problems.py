"""Every error as a problem document (RFC 9457): one table from errors to statuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Self

import orjson
from aiohttp import web

from mcp_discovery.errors import (
    DiscoveryError,
    DocumentNotFoundError,
    DuplicateInstanceError,
    InvalidDocumentError,
    InvalidInputError,
    InvalidRecordError,
    OutdatedRevisionError,
    QueryChangedError,
    RecordTooLargeError,
    RegistrationLostError,
    SecretInRecordError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
    StoreUnsupportedError,
    UnknownQueryError,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: The largest body of any request but the PUT of a document, in bytes.
MAX_BODY_BYTES = 2**20
#: How long, in seconds, a client shall wait before it tries an unavailable store again.
RETRY_AFTER = 1

#: Error → status and problem type; the first that fits counts. The types are part of the API.
#: A refused store is 502: it is the facade, not its client, whose credentials are refused upstream.
STATUSES: tuple[tuple[type[DiscoveryError], int, str], ...] = (
    (SecretInRecordError, 422, "secret-in-record"),
    (RecordTooLargeError, 422, "record-too-large"),
    (InvalidRecordError, 422, "invalid-record"),
    (InvalidDocumentError, 422, "invalid-document"),
    (UnknownQueryError, 404, "unknown-query"),
    (InvalidInputError, 400, "invalid-input"),
    (DuplicateInstanceError, 409, "duplicate-instance"),
    (RegistrationLostError, 404, "registration-lost"),
    (DocumentNotFoundError, 404, "document-not-found"),
    (OutdatedRevisionError, 410, "start-over"),
    (QueryChangedError, 412, "query-changed"),
    (StoreDeniedError, 502, "store-denied"),
    (StoreUnavailableError, 503, "store-unavailable"),
    (StoreUnsupportedError, 501, "not-supported"),
    (StoreError, 502, "store-error"),
)


class ProblemError(DiscoveryError):
    """A request that cannot be answered as it is.

    ``kind`` is the last part of the problem's type, in words joined by hyphens; ``detail`` is one
    sentence; ``facts`` are further members of the problem document. ``headers`` are set on the
    response.
    """

    def __init__(self, status: int, kind: str, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.facts = facts
        self.headers: Mapping[str, str] = {}

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        """The same, with ``headers``."""
        self.headers = headers
        return self


def problem(
    request: web.Request,
    status: int,
    detail: str,
    *,
    kind: str | None = None,
    facts: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """The problem document as an answer.

    ``type`` is ``urn:mcp-discovery:problem:<kind>``, or ``about:blank`` with the status's own
    phrase as title where the status says it all (RFC 9457, 4.2.1).
    """
    title = kind.replace("-", " ").capitalize() if kind else HTTPStatus(status).phrase
    body = dict(facts or {}) | {
        "type": f"urn:mcp-discovery:problem:{kind}" if kind else "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.rel_url.raw_path,
    }
    given = dict(headers or {})
    if status in (429, 503):
        given.setdefault("Retry-After", str(RETRY_AFTER))
    media, data = "application/problem+json", orjson.dumps(body)
    return web.Response(status=status, body=data, content_type=media, headers=given)


def reshape(response: web.StreamResponse, make: Callable[[dict[str, Any]], object]) -> None:
    """Replaces a problem document by what ``make`` makes of it: the error of an API that others
    have specified."""
    if (
        isinstance(response, web.Response)
        and isinstance(response.body, bytes)
        and response.content_type == "application/problem+json"
    ):
        response.body = orjson.dumps(make(orjson.loads(response.body)))
        response.content_type = "application/json"


def problem_of(request: web.Request, error: Exception) -> web.Response:
    """The problem document for what a handler raised; of an unexpected error, only that it was."""
    match error:
        case ProblemError():
            status, kind, headers = error.status, error.kind, error.headers
            return problem(
                request, status, error.detail, kind=kind, facts=error.facts, headers=headers
            )
        case DiscoveryError():
            return _from_error(request, error)
        case web.HTTPException():
            return _from_http(request, error)
        case web.RequestPayloadError():
            return problem(request, 400, "the body cannot be read: it is not as its head says")
    detail = "the facade failed to answer this request; its log says why"
    return problem(request, 500, detail)


def _from_error(request: web.Request, error: DiscoveryError) -> web.Response:
    status, kind = next(
        ((status, kind) for fits, status, kind in STATUSES if isinstance(error, fits)),
        (500, "error"),
    )
    facts: dict[str, Any] = {}
    detail = str(error)
    match error:
        case InvalidRecordError():
            facts = {"field": error.field}
            if error.field == "name" and "DNS label" in detail:
                detail += "; a name for people goes into 'title'"
        case DuplicateInstanceError():
            facts = {"id": error.id, "holder": error.holder, "url": error.url}
        case RegistrationLostError():
            facts = {"id": error.id, "why": error.why}
        case DocumentNotFoundError():
            facts = {"digest": error.digest}
        case UnknownQueryError():
            facts = {"name": error.name[:100], "nearest": list(error.nearest)}
        case QueryChangedError():
            facts = {"name": error.name, "version": error.version}
        case StoreDeniedError():
            detail = f"the store refuses the facade's own credentials: {detail}"
        case StoreUnavailableError():
            detail = f"the store cannot be reached now, try again soon: {detail}"
    facts = {key: value for key, value in facts.items() if value is not None}
    return problem(request, status, detail, kind=kind, facts=facts)


def _from_http(request: web.Request, error: web.HTTPException) -> web.Response:
    headers: dict[str, str] = {}
    path = request.rel_url.raw_path[:200]
    match error:
        case web.HTTPMethodNotAllowed():
            headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            detail = f"{request.method} is not for {path}; use {headers['Allow']}"
        case web.HTTPNotFound():
            detail = f"there is nothing at {path}"
        case _:
            detail = error.text or error.reason
    return problem(request, error.status, detail, headers=headers)
