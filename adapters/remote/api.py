"""A facade's endpoints as the remote store uses them, and what their errors mean."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import orjson

from mcp_discovery.adapters.http import HttpClient, Params, StoreResponse
from mcp_discovery.adapters.meant_url import url_by_port
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.connection_errors import Remedies
from mcp_discovery.errors import (
    DiscoveryError,
    DocumentNotFoundError,
    DuplicateInstanceError,
    ForbiddenError,
    InvalidDocumentError,
    InvalidInputError,
    InvalidRecordError,
    InvalidStoreURLError,
    QueryChangedError,
    RegistrationLostError,
    StoreDeniedError,
    StoreUnavailableError,
    StoreUnsupportedError,
    UnauthenticatedError,
    UnknownQueryError,
)
from mcp_discovery.facade_url import facade_url_problem, without_path, without_secrets
from mcp_discovery.instance import HOLDER_HEADER, Holder, is_public_holder
from mcp_discovery.probe.errors import ProbeError
from mcp_discovery.probe.event_stream import Event, EventReader

#: A facade sends a comment every 15 s; a stream that is silent for longer than this is dead.
IDLE = 40.0
#: A stream that lasted for so many seconds and is ended by the facade is resumed at once: its
#: token's time was over, or a proxy's limit for one response.
_WHOLE_STREAM = 1.0
#: Statuses that ask the client to come again: a limit of the facade's, or of a proxy before it.
_LATER = (408, 425, 429)
#: The largest event: a snapshot of some 100,000 instances.
_EVENT_BYTES = 512 * 2**20
_KIND = "urn:mcp-discovery:problem:"


class UnknownDocumentError(DiscoveryError):
    """The facade has to be sent the capability document first."""


class FacadeApi:
    """Requests to one facade. Raises what :class:`mcp_discovery.adapters.store.Store` raises."""

    def __init__(
        self, url: str, options: StoreOptions, *, remedies: Remedies | None = None
    ) -> None:
        """``remedies``: see :class:`mcp_discovery.adapters.http.HttpClient`."""
        if (problem := facade_url_problem(url)) is not None:
            raise InvalidStoreURLError(without_secrets(url), problem)
        self.url = url.rstrip("/")
        self._has_answered = False
        self._http = HttpClient(
            self.url,
            options,
            bearer,
            is_limited=lambda response: response.is_limited,
            refusals=(401,),
            remedies=remedies,
        )

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        params: Params | None = None,
        holder: Holder | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> StoreResponse:
        """One request with a JSON body, in the name of ``holder``; raises what the facade's problem
        stands for."""
        data = None if body is None else orjson.dumps(body)
        sent = {"Content-Type": "application/json", **(headers or {})}
        if holder is not None and not is_public_holder(holder.proof):
            sent[HOLDER_HEADER] = holder.proof
        answer = await self._http.request(
            method, self.url + path, params=params, data=data, headers=sent
        )
        return self._checked(answer)

    async def put_document(self, digest: str, data: bytes) -> None:
        """Sends a compressed capability document."""
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = await self._http.request(
            "PUT", f"{self.url}/documents/{digest}", data=data, headers=headers
        )
        self._checked(answer)

    async def events(self, params: Params) -> AsyncGenerator[Event, None]:
        """The facade's events, filtered by ``params``, from a snapshot on. Ends only by raising.

        A stream that the facade ends after a while, as it does when a token's time is over, is
        resumed from its last event, with the token of then.
        """
        last = ""
        while True:
            opened = time.monotonic()
            async for event in self._stream(params, last):
                last = event.id or last
                yield event
            if not last or time.monotonic() - opened < _WHOLE_STREAM:
                raise StoreUnavailableError(self.url, "the facade ended its stream of events")

    async def _stream(self, params: Params, last: str) -> AsyncGenerator[Event, None]:
        """The events of one response, from the one after ``last`` on, until its end."""
        reader = EventReader(_EVENT_BYTES)
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        url = f"{self.url}/events"
        async with self._http.stream(
            "GET", url, params=params, headers=headers, idle=IDLE
        ) as response:
            if response.status != 200:
                self._checked(await self._http.whole(response))
            self._has_answered = True
            async for chunk in response.content.iter_any():
                try:
                    events = reader.feed(chunk)
                except ProbeError as error:
                    raise StoreUnavailableError(self.url, str(error)) from error
                for event in events:
                    yield event

    async def close(self) -> None:
        """Closes every connection."""
        await self._http.close()

    def _checked(self, answer: StoreResponse) -> StoreResponse:
        if answer.status < 300:
            self._has_answered = True
            return answer
        problem: Any = None
        with suppress(ValueError):
            problem = answer.json()
        error = self._error(
            answer.status, problem if isinstance(problem, dict) else {}, answer.text
        )
        if isinstance(error, StoreUnavailableError):
            # Those who were refused at the same moment shall not come again at the same one.
            error.retry_after = answer.retry_after * random.uniform(1.0, 1.2)
        raise error

    def _error(self, status: int, problem: Mapping[str, Any], text: str) -> DiscoveryError:
        kind = _text(problem.get("type")).removeprefix(_KIND)
        detail = _text(problem.get("detail")) or text or "no detail given"
        match kind:
            case "duplicate-instance":
                return DuplicateInstanceError(
                    _text(problem.get("id")),
                    holder=_text(problem.get("holder")) or "somebody",
                    url=_text(problem.get("url")) or None,
                )
            case "registration-lost" | "unknown-server":
                return RegistrationLostError(
                    _text(problem.get("id")) or "?", _text(problem.get("why")) or detail
                )
            case "name-held":
                return StoreDeniedError(self.url, detail)
            case "unknown-document":
                return UnknownDocumentError(detail)
            case "query-changed":
                version = _text(problem.get("version")) or None
                return QueryChangedError(_text(problem.get("name")), version)
            case "unknown-query":
                return UnknownQueryError(_text(problem.get("name")), _texts(problem.get("nearest")))
            case "not-supported":
                return StoreUnsupportedError(self.url, detail)
            case "document-not-found":
                return DocumentNotFoundError(_text(problem.get("digest")))
            case "invalid-document":
                return InvalidDocumentError(detail)
            case "invalid-record" | "secret-in-record" | "record-too-large":
                field = _text(problem.get("field"))
                return InvalidRecordError(field, detail.removeprefix(f"{field}: "))
        if status == 401:
            return UnauthenticatedError(self.url, _without_advice(detail))
        if status == 403:
            return ForbiddenError(self.url, detail, needs=_text(problem.get("needs")) or None)
        if status == 413:
            return InvalidRecordError("", detail)
        lost = not self._has_answered and status in (400, 404, 405)
        address = without_path(self.url) if lost else None
        path = f"; its URL has a path, the facade's address may be {address}" if address else ""
        if 400 <= status < 500 and status not in _LATER and problem:
            return InvalidInputError(f"{detail}{path}")
        usual = url_by_port(self.url)
        where = f"a facade? For that port write {usual}" if usual else "a facade?"
        hint = "" if problem or status in _LATER else f"; is this the address of {where}"
        return StoreUnavailableError(self.url, f"HTTP {status}: {detail}{path or hint}")


def _without_advice(detail: str) -> str:
    """A facade's 401 without what a program is to do, which is said in the reader's words."""
    return detail.partition("; send Authorization")[0]


def bearer(token: str) -> dict[str, str]:
    """The header that carries a bearer token."""
    return {"Authorization": f"Bearer {token}"}


def _text(value: Any) -> str:
    """``value`` where it is text, of a length for messages; what else a facade says is nothing."""
    return value[:1000] if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, value[:10])) if isinstance(value, list) else ()


def server_path(id: str) -> str:
    """The path of one server."""
    return f"/servers/{quote(id, safe='')}"
