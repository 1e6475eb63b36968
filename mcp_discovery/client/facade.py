"""A facade as the client's source: its list, its stream of events, its documents."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx2
import orjson

from mcp_discovery.bearer_tokens import BearerToken
from mcp_discovery.client.attempt import REMEDIES
from mcp_discovery.client.source import (
    CallOutcome,
    Everything,
    News,
    One,
    RankedTool,
    Source,
    Staleness,
    Wanted,
    differences,
)
from mcp_discovery.client.transports import SharedHttp
from mcp_discovery.connection_errors import connection_sentence
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DocumentNotFoundError,
    ForbiddenError,
    InvalidInputError,
    InvalidStoreURLError,
    StoreDeniedError,
    StoreUnavailableError,
    TokenError,
    UnauthenticatedError,
)
from mcp_discovery.facade_url import facade_url_problem, without_secrets
from mcp_discovery.health import utcnow
from mcp_discovery.instance import Instance, instance_from_dict
from mcp_discovery.query.definition import NamedQuery
from mcp_discovery.query.query import Query
from mcp_discovery.query.question import Question
from mcp_discovery.record import parse_moment
from mcp_discovery.telemetry.conventions import http_answered, http_request

log = logging.getLogger(__name__)

#: Seconds of silence after which a stream counts as dead; a facade sends a comment every 15 s.
IDLE = 40.0
#: Seconds that a request to a facade may take.
_ANSWER = 15.0
#: Seconds that a poll of a named query waits for something else to be found.
_POLL = 20.0
#: Seconds between two such polls at least: facades that differ for long, and are one URL, answer
#: each of them at once.
_BETWEEN_POLLS = 0.2
#: How many tools a search finds at most.
_MOST_FOUND = 1000
#: How many bytes of a question are asked: more words than a search reads, and no URL too long.
_LONGEST_QUESTION = 1300
#: The largest event in bytes, enough for a snapshot of some 100,000 instances.
_EVENT_BYTES = 512 * 2**20
#: The first and the largest bound of the random pause, in seconds, before the next attempt to reach
#: a facade; the bound doubles ("full jitter": Amazon, "Exponential Backoff And Jitter", 2015).
_FIRST, _LONGEST = 0.2, 5.0
#: A stream that lasted for so many seconds and is ended by the facade is resumed at once, and says
#: nothing about the list: its token's time was over, or a proxy's limit for one response.
_WHOLE_STREAM = 1.0
#: Statuses that ask a client to come again, and for how many seconds at most that is waited for.
_LATER = (408, 425, 429)
_LONGEST_RETRY_AFTER = 30.0
#: What helps where a facade cannot be connected to.
_REMEDIES = replace(
    REMEDIES,
    refused="is the facade running there?",
    closed="if it speaks TLS there, write https://",
)


class FacadeSource(Source):
    """One facade (or several behind one address). The token goes there alone: no redirect is
    followed."""

    def __init__(self, url: str, http: SharedHttp, *, token: BearerToken | None = None) -> None:
        if (problem := facade_url_problem(url)) is not None:
            raise InvalidStoreURLError(without_secrets(url), problem)
        self.name = url.rstrip("/")
        self._http = http.facade
        self._token = token or BearerToken("facade's token", None)

    async def servers(self, wanted: Wanted) -> list[Instance]:
        path = _query_path(wanted) if isinstance(wanted, NamedQuery) else "/servers"
        answer = await self._ask("GET", path, params=wanted.params)
        return list(_instances(orjson.loads(answer.content)["servers"]))

    async def find(self, question: Question, within: Query | None) -> Sequence[RankedTool]:
        if within is None or (within.match != question.match and len(within["tags"]) > 1):
            within = Query()  # ``match`` is said once, for tags and words
        # In every status: the client knows who can be called.
        filters = [each for each in within.but(status=()).params if each[0] != "match"]
        params = [("q", _line(question.text)), ("match", question.match)]
        params.append(("limit", str(_MOST_FOUND)))
        params += filters
        answer = await self._ask("GET", "/tools", params=params)
        return [
            RankedTool(each["name"], each["server"], each["why"])
            for each in orjson.loads(answer.content)["tools"]
        ]

    async def document(self, digest: str) -> CapabilityDocument:
        answer = await self._ask(
            "GET", f"/documents/{digest}", missing=DocumentNotFoundError(digest)
        )
        return CapabilityDocument.from_json(answer.content, digest=digest)

    async def report(self, outcomes: Sequence[CallOutcome]) -> None:
        """Sends ``POST /outcomes``; the facade ignores instances that it does not know."""
        reported = [
            {
                "id": each.instance,
                "capability": each.tool,
                "success": each.success,
                "latency": round(each.latency * 1000, 3),
            }
            | ({"error": each.error[:500]} if each.error else {})
            for each in outcomes
        ]
        await self._ask("POST", "/outcomes", json={"outcomes": reported})

    async def watch(self, wanted: Wanted) -> AsyncGenerator[News, None]:
        """``GET /events``, resumed with ``Last-Event-ID`` after every interruption; of a named
        query one poll after the other."""
        if isinstance(wanted, NamedQuery):
            async with aclosing(self._polls(wanted)) as found:
                async for each in found:
                    yield each
        assert isinstance(wanted, Query)
        last: str | None = None
        bound = _FIRST
        away = False
        while True:
            opened = time.monotonic()
            try:
                async for news, id in self._events(wanted, last):
                    last, away, bound = id, False, _FIRST
                    yield news
                if last is not None and time.monotonic() - opened >= _WHOLE_STREAM:
                    continue
                problem, asked_for = "the facade ended its stream", 0.0
            except (StoreUnavailableError, StoreDeniedError, InvalidInputError) as error:
                if last is None:
                    raise
                problem = str(error)
                asked_for = getattr(error, "retry_after", 0.0)
            if not away:
                log.warning("serving the last known list: %s", problem)
                away = True
                yield Staleness(utcnow(), problem)
            await asyncio.sleep(asked_for + random.uniform(0, bound))
            bound = min(bound * 2, _LONGEST)

    async def _polls(self, wanted: NamedQuery) -> AsyncGenerator[News, None]:
        tag: str | None = None
        listed: dict[str, Instance] = {}
        stale = False  # whether that was said
        bound, whole = _FIRST, True
        asked = -_BETWEEN_POLLS
        while True:
            await asyncio.sleep(asked + _BETWEEN_POLLS - time.monotonic())
            asked = time.monotonic()
            headers = {"If-None-Match": tag} if tag else {}
            params = [*wanted.params, ("wait", f"{_POLL:g}s")]
            try:
                answer = await self._ask(
                    "GET", _query_path(wanted), params=params, headers=headers, within=2 * _POLL
                )
            except (StoreUnavailableError, StoreDeniedError, InvalidInputError) as error:
                if tag is None:
                    raise
                if not stale:
                    log.warning("serving the last known list: %s", error)
                    yield Staleness(utcnow(), str(error))
                stale = whole = True
                tag = ""  # what comes next is a list that starts over
                asked_for = getattr(error, "retry_after", 0.0)
                await asyncio.sleep(asked_for + random.uniform(0, bound))
                bound = min(bound * 2, _LONGEST)
                continue
            bound, tag = _FIRST, answer.headers.get("ETag", "")
            if answer.status_code == 304:
                continue
            content = orjson.loads(answer.content)
            found = list(_instances(content["servers"]))
            instances = {each.id: each for each in found[: content.get("inZone") or None]}
            if whole:
                yield Everything(instances)
            else:
                for one in differences(listed, instances):
                    yield one
            listed, whole = instances, False
            state = _staleness(content)
            if state.since is None and (since := content.get("definitionsStaleSince")):
                problem = str(content.get("definitionsProblem", ""))
                state = Staleness(parse_moment(since), problem)
            if stale or state.since is not None:
                yield state
            stale = state.since is not None

    async def _events(
        self, wanted: Query, last: str | None
    ) -> AsyncGenerator[tuple[News, str], None]:
        timeout = httpx2.Timeout(self._http.timeout.connect, read=IDLE, write=_ANSWER)
        refused = False
        try:
            token = await self._token.current()
            while True:
                headers = _bearer(token) | ({"Last-Event-ID": last} if last else {})
                async with self._http.sse(
                    f"{self.name}/events",
                    params=wanted.params,
                    headers=headers,
                    timeout=timeout,
                    max_event_size=_EVENT_BYTES,
                ) as events:
                    if events.response.status_code != 200:
                        await events.response.aread()
                        if events.response.status_code == 401 and not refused:
                            refused, before = True, token
                            if (token := await self._token.after_refusal(before)) != before:
                                continue
                        self._check(events.response)
                    if last is not None:
                        yield Staleness(None), last  # a stale facade says so in its first event
                    async for event in events:
                        for news in _news(event):
                            yield news, event.id
                return
        except TokenError as error:
            raise self._without_token(error) from error
        except httpx2.TransportError as error:
            raise StoreUnavailableError(self.name, _why(error)) from error
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise StoreUnavailableError(self.name, f"an event that is none ({error!r})") from error

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        missing: Exception | None = None,
        headers: Mapping[str, str] | None = None,
        within: float = _ANSWER,
        **given: Any,
    ) -> httpx2.Response:
        url = self.name + path
        with http_request(method, url) as span:
            answer = await self._answered(method, url, headers, within, given)
            http_answered(span, answer.status_code)
        if answer.status_code == 404 and missing is not None:
            raise missing
        self._check(answer)
        return answer

    async def _answered(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        within: float,
        given: dict[str, Any],
    ) -> httpx2.Response:
        """The answer, with another token where the first is refused."""
        given["timeout"] = httpx2.Timeout(self._http.timeout.connect, read=within, write=_ANSWER)
        try:
            async with asyncio.timeout(within):
                token = await self._token.current()
                sent = _bearer(token) | dict(headers or {})
                answer = await self._http.request(method, url, headers=sent, **given)
                if answer.status_code == 401:
                    fresh = await self._token.after_refusal(token)
                    if fresh != token:
                        sent = _bearer(fresh) | dict(headers or {})
                        answer = await self._http.request(method, url, headers=sent, **given)
        except TokenError as error:
            raise self._without_token(error) from error
        except httpx2.TransportError as error:
            raise StoreUnavailableError(self.name, _why(error)) from error
        except TimeoutError as error:
            raise StoreUnavailableError(self.name, f"no answer within {within:g} s") from error
        return answer

    def _without_token(self, error: TokenError) -> StoreUnavailableError | StoreDeniedError:
        kind = UnauthenticatedError if error.denied else StoreUnavailableError
        return kind(self.name, error.problem)

    def _check(self, answer: httpx2.Response) -> None:
        if answer.status_code < 300 or answer.status_code == 304:
            return
        try:
            problem = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            problem = None
        problem = problem if isinstance(problem, dict) else {}
        detail = problem.get("detail")
        if answer.status_code == 401:
            why = str(detail or "it wants a valid token")
            # The error itself says what to do, in words of the library or of the shell.
            raise UnauthenticatedError(self.name, why.partition("; send Authorization")[0])
        if answer.status_code == 403:
            needs = problem.get("needs")
            why = str(detail or "it refuses this request to whoever the token is of")
            raise ForbiddenError(self.name, why, needs=needs if isinstance(needs, str) else None)
        if answer.status_code in _LATER:
            raise StoreUnavailableError(
                self.name,
                f"HTTP {answer.status_code}: {detail or 'it asks to come again later'}",
                retry_after=_retry_after(answer),
            )
        if 400 <= answer.status_code < 500 and isinstance(detail, str):
            raise InvalidInputError(detail)
        hint = str(detail) if detail else "is this the address of a facade?"
        raise StoreUnavailableError(self.name, f"HTTP {answer.status_code}: {hint}")


def _query_path(wanted: NamedQuery) -> str:
    return f"/queries/{quote(wanted.name, safe='')}"


def _retry_after(answer: httpx2.Response) -> float:
    """The seconds that a facade asks to be left alone for; 0 if none."""
    given = answer.headers.get("Retry-After", "")
    return min(float(given), _LONGEST_RETRY_AFTER) if given.isascii() and given.isdigit() else 0.0


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _news(event: httpx2.ServerSentEvent) -> Iterator[News]:
    if event.event == "message":  # an id without data: the position moves on
        return
    data = orjson.loads(event.data)
    match event.event:
        case "snapshot":
            if partial := data.get("partial"):
                log.warning("the facade's list is only a part: %s", partial)
            yield Everything({each.id: each for each in _instances(data["servers"])})
            yield _staleness(data)
        case "change":
            entry = data["server"]
            if entry is None:
                yield One(data["id"], None)
            else:
                for instance in _instances([entry]):
                    yield One(instance.id, instance)
        case "stale" | "fresh":
            yield _staleness(data)
        case other:
            log.debug("an event %r that is not known here is ignored", other)


def _staleness(data: Mapping[str, Any]) -> Staleness:
    since = data.get("staleSince")
    return Staleness(parse_moment(since) if since else None, str(data.get("problem", "")))


def _instances(entries: Sequence[Mapping[str, Any]]) -> Iterator[Instance]:
    for entry in entries:
        try:
            yield instance_from_dict(entry, checked=True)
        except ValueError as error:
            # One that a newer facade serializes in another way must not hide all the others.
            log.warning("leaving out server %.80r: %s", entry.get("id"), error)


def _why(error: httpx2.TransportError) -> str:
    if isinstance(error, httpx2.ConnectTimeout):
        return "no connection in time; is the facade running there?"
    return connection_sentence(error, _REMEDIES)


def _line(text: str) -> str:
    """The beginning of ``text`` as a query string takes it: in one line."""
    plain = "".join(each if each.isprintable() else " " for each in text[:_LONGEST_QUESTION])
    line = " ".join(plain.split()).encode(errors="ignore")
    return line[:_LONGEST_QUESTION].decode(errors="ignore")
