"""A2aProbe: asks one A2A agent whether it lives, and for its card.

https://a2a-protocol.org/latest/specification/. A card may be a file that outlives its agent, so it
proves nothing. What does is the answer to a question that costs the agent nothing: for a task that
no agent has. It answers by an error that only A2A has, *task not found*.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from itertools import count
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
import orjson

from mcp_discovery.mcp_messages import METHOD_NOT_FOUND
from mcp_discovery.probe.agent_card import HTTP_JSON, JSON_RPC, AgentCard, AgentInterface
from mcp_discovery.probe.client import Probe
from mcp_discovery.probe.endpoint import ProbedEndpoint
from mcp_discovery.probe.errors import (
    BadAnswerError,
    NoAnswerError,
    NotAskedError,
    ProbeError,
)
from mcp_discovery.probe.handshake import Renewal
from mcp_discovery.probe.introspection import Introspection
from mcp_discovery.probe.messages import answer_in, misaddressed, parse, rpc_error, status_error
from mcp_discovery.probe.tls import SYSTEM_TLS, ServerTls
from mcp_discovery.probe.wire import (
    PLAIN,
    UNBOUNDED,
    Budget,
    Limits,
    explain,
    read_beginning,
    read_whole,
    refusal,
    retry_after,
    socket_errors,
)
from mcp_discovery.urls import AGENT_CARD, origin_of, resolve_in_origin, wire_url

#: Where a card is, by A2A from 0.3 on and before that.
_WELL_KNOWN = (AGENT_CARD, "/.well-known/agent.json")
#: How large a card may be, and any other answer.
_LIMITS = Limits(body_bytes=2**20)
#: How many JSON values that may be: real cards have some hundreds.
_parse = partial(parse, protocol="A2A", most=20_000)
#: What a card is asked for again with, from which header of it, where that can be sent as it is.
_VALIDATORS = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
_SENDABLE = re.compile(r"[ -~]{1,1024}")
#: The id of the task that is asked for. No agent has it.
_NO_TASK = "mcp-discovery-asks-whether-you-live"
#: Errors by which an agent shows that it has read a question of A2A: those of A2A's own, and that
#: it does not like the id (section 5.4).
_INVALID_PARAMS = -32602
_A2A_ERRORS = range(-32099, -32000)
#: The same in the body of an answer of HTTP+JSON (11.6), and as agents of 0.3 say it.
_A2A_ERROR = re.compile(rb"a2a-protocol\.org|task[\s_-]{0,3}not[\s_-]{0,3}found", re.IGNORECASE)
#: At how many of an agent's interfaces that are elsewhere the same path is tried here.
_MOST_TRIED = 3
_PLACE, _CARD_PLACE = "its A2A interface", "where its agent card should be"
_NOT_THERE = frozenset({404, 405, 410})
#: The shortest time, in seconds, that is left for reading the card again.
_LEAST = 0.05


class A2aProbe(Probe):
    """A client of one A2A agent that asks only whether it lives and for its card.

    ``url`` is the one below which the card is, or the card's own; nothing of another origin is
    ever asked, whatever a card says. A ping asks for a task that there is not, by the first
    interface that can be asked (JSON-RPC or HTTP+JSON), and then for the card, as far as that has
    changed. Of interfaces that are elsewhere the path is tried here: agents behind a proxy name
    its address. Where none of this can be, as with gRPC, pings raise ``NotAskedError``.
    """

    def __init__(
        self,
        url: str,
        *,
        session: aiohttp.ClientSession,
        headers: Mapping[str, str] | None = None,
        limits: Limits = _LIMITS,
        secrets: Callable[[], Iterable[str]] = tuple,
        tls: ServerTls = SYSTEM_TLS,
        transport: str = "a2a",
    ) -> None:
        """See :class:`~mcp_discovery.probe.probe.McpProbe`."""
        super().__init__(url)
        self._endpoint = ProbedEndpoint.of(url, transport, headers)
        self._session, self._tls, self._limits = session, tls, limits
        self._secrets = secrets
        self._asked = 0
        self._ids = count(1)
        self._turn = asyncio.Lock()
        self._card_urls = _card_urls(url)
        self._validators: dict[str, str] = {}
        self._card: AgentCard | None = None
        self._card_trouble: ProbeError | None = None
        self._latest: Introspection | None = None
        self._connected = False
        self._interface: AgentInterface | None = None

    @property
    def requests(self) -> int:
        # One for each probe: a question and a look at the card are as much as one request of MCP.
        return self._asked

    @property
    def url(self) -> str:
        return self._endpoint.urls[0]

    @property
    def server_info(self) -> Mapping[str, Any]:
        return self._card.info if self._card is not None and self._connected else {}

    @property
    def wants_credentials(self) -> bool:
        card, sends = self._card, {*self._endpoint.secrets, *self._secrets()}
        return card is not None and not sends and card.auth["type"] != "none"

    async def connect(self, timeout: float, renewals: Iterable[Renewal] = ()) -> None:
        self._asked += 1
        async with self._within(timeout):
            self._connected = False
            await self._connect()

    async def ping(self, timeout: float, *, along: bool = False) -> float:
        self._asked += 1
        started = time.monotonic()
        async with self._within(timeout):
            await self._connect()
            if self._interface is None:
                await self._read_card()
                raise NotAskedError(self._why_not_asked())
            await self._ask(self._interface)
        seconds = time.monotonic() - started
        if timeout - seconds > _LEAST:
            await self._look_at_card(timeout - seconds)
        return seconds

    async def refresh(self, timeout: float) -> Introspection:
        if not self._connected:
            await self.connect(timeout)
        if self._card_trouble is not None:
            raise self._card_trouble
        assert self._latest is not None, "connected"
        return self._latest

    async def changes(self) -> AsyncGenerator[str, None]:
        """Nothing: an agent does not say that its card has changed."""
        return
        yield

    async def disconnect(self) -> None:
        self._connected = False

    async def close(self) -> None:
        await self.disconnect()

    # -- inside ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _within(self, timeout: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout) as deadline:
                yield
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise NoAnswerError(timeout) from error
        except ProbeError as failure:
            await explain(failure, self._session, self.url, self._tls)
            failure.conceal({*self._endpoint.secrets, *self._secrets()})
            raise

    async def _connect(self) -> None:
        async with self._turn:
            if self._connected:
                return
            card = await self._read_card()
            self._interface = await self._chosen(card)
            self._connected = True
            self.allowance.connected()

    async def _chosen(self, card: AgentCard) -> AgentInterface | None:
        """The interface that is asked from now on, which has answered; ``None`` where none can be.

        One at the agent's own origin has to answer; at one that is elsewhere, what answers here
        may be anything.
        """
        own: list[AgentInterface] = []
        elsewhere: list[AgentInterface] = []
        for each in card.interfaces:
            if each.binding in (JSON_RPC, HTTP_JSON) and (found := self._here(each.url)):
                here, is_own = found
                (own if is_own else elsewhere).append(replace(each, url=here))
        if own:
            return await self._answering(own[0])
        for each in elsewhere[:_MOST_TRIED]:
            try:
                return await self._answering(each)
            except BadAnswerError as refusal:
                if refusal.wants_credentials:
                    raise
        return None

    def _here(self, url: str) -> tuple[str, bool] | None:
        """``url`` of an interface at the origin that is probed, and whether that is its own;
        ``None`` where it is no URL of HTTP."""
        own = urlsplit(self.url)
        try:
            is_own, parts = origin_of(url) == origin_of(self.url), urlsplit(url)
        except ValueError:
            return None
        if parts.scheme not in ("http", "https"):
            return None
        # Its authority may hold credentials, which are nobody's here.
        return urlunsplit(parts._replace(scheme=own.scheme, netloc=own.netloc)), is_own

    async def _answering(self, interface: AgentInterface) -> AgentInterface:
        """``interface``, which answers, as the version of A2A that it does answer: cards say 0.3 of
        agents that speak 1.0, and the other way round. That it asks for credentials is an answer
        where the card says so.
        """
        try:
            await self._ask(interface)
        except BadAnswerError as refusal:
            if refusal.wants_credentials and self.wants_credentials:
                return interface
            if refusal.code != METHOD_NOT_FOUND and refusal.status not in _NOT_THERE:
                raise
            other = replace(interface, version="1.0" if interface.is_legacy else "0.3")
            try:
                await self._ask(other)
            except BadAnswerError:
                raise refusal from None
            return other
        return interface

    async def _ask(self, interface: AgentInterface) -> None:
        """Asks for a task that there is not; returns where the agent says so, or anything else that
        only an agent can."""
        with socket_errors():
            if interface.binding == HTTP_JSON:
                await self._ask_http(interface)
            else:
                await self._ask_rpc(interface)

    async def _ask_rpc(self, interface: AgentInterface) -> None:
        method = "tasks/get" if interface.is_legacy else "GetTask"
        id = next(self._ids)
        params = {"id": _NO_TASK} | ({"tenant": interface.tenant} if interface.tenant else {})
        body = orjson.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        headers = {"Content-Type": "application/json", "A2A-Version": interface.version}
        async with self._request("POST", interface.url, headers, body) as response:
            if response.status != HTTPStatus.OK:
                failure = await refusal(response, method, _PLACE)
                if _is_of_a2a(failure.code):
                    return
                raise failure
            raw = await read_whole(response, Budget(self._limits))
        found = answer_in(_parse(raw), id)
        if found.message is None:
            if found.misaddressed:
                raise misaddressed(method, found.other_id)
            raise BadAnswerError("answered, but not A2A: the body is no JSON-RPC response")
        if (error := found.message.get("error")) is not None:
            failure = rpc_error(error, method)
            if not _is_of_a2a(failure.code):
                raise failure
        elif not isinstance(found.message.get("result"), dict):
            raise BadAnswerError(f"answered, but not A2A: the result of {method} is not an object")

    async def _ask_http(self, interface: AgentInterface) -> None:
        folder = "/v1/tasks/" if interface.is_legacy else "/tasks/"
        if interface.tenant:
            folder = f"/{quote(interface.tenant, safe='')}{folder}"
        url = f"{interface.url.partition('?')[0].rstrip('/')}{folder}{_NO_TASK}"
        async with self._request("GET", url, {"A2A-Version": interface.version}) as response:
            body = await read_beginning(response)
            if _A2A_ERROR.search(body):
                return
            if response.status == HTTPStatus.OK:
                found = _parse(body)
                if isinstance(found, dict) and "status" in found:
                    return
                raise BadAnswerError("answered, but not A2A: the body is no task")
            failure = status_error(response.status, body, "GET /tasks", _PLACE)
            failure.retry_after = retry_after(response.headers)
            raise failure

    async def _look_at_card(self, timeout: float) -> None:
        """Reads the card again, as far as it has changed; that it cannot be read is no death."""
        before = self._card_trouble
        try:
            async with self._within(timeout):
                await self._read_card()
        except ProbeError as failure:
            self._card_trouble = failure
        if self._card_trouble is not None or before is not None:
            self.noticed()

    async def _read_card(self) -> AgentCard:
        refusals: list[BadAnswerError] = []
        for url in self._card_urls:
            try:
                with socket_errors():
                    found = await self._get_card(url)
            except BadAnswerError as refusal:
                if refusal.status not in _NOT_THERE:
                    raise
                refusals.append(refusal)
                continue
            # From now on it is asked for where it was found, and elsewhere if it is there no more.
            self._card_urls = tuple(dict.fromkeys((url, *self._card_urls)))
            self._card_trouble = None
            if self._card is None or not found.same_as(self._card):
                self._take(found)
            return self._card or found
        raise refusals[0]

    def _take(self, card: AgentCard) -> None:
        if self._card is not None and self._card.interfaces != card.interfaces:
            self._connected = False  # which of them is asked is chosen anew
        self._card = card
        self._latest = card.introspection
        self.noticed()

    async def _get_card(self, url: str) -> AgentCard:
        """The card at ``url``: the one that is known where that is the same still."""
        known = self._card if url == self._card_urls[0] else None
        headers = {"Accept": "application/json"} | (self._validators if known is not None else {})
        for _ in range(2):
            async with self._request("GET", url, headers) as response:
                if response.status == HTTPStatus.NOT_MODIFIED and known is not None:
                    return known
                if response.status in (301, 302, 307, 308):
                    place = response.headers.get("Location", "")
                    if (target := resolve_in_origin(url, place)) is not None:
                        url = target
                        continue
                if response.status != HTTPStatus.OK:
                    raise await refusal(response, "GET", _CARD_PLACE)
                raw = await read_whole(response, Budget(self._limits))
                validators = {
                    header: value
                    for header, name in _VALIDATORS.items()
                    if _SENDABLE.fullmatch(value := response.headers.get(name, ""))
                }
            found = AgentCard.of(_parse(raw), url)
            self._validators = validators
            return found
        raise BadAnswerError("redirects more than once where its agent card should be")

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._session.request(
            method,
            wire_url(url),
            data=body,
            headers={**self._endpoint.headers, **PLAIN, **headers},
            allow_redirects=False,
            timeout=UNBOUNDED,
            **self._tls.options(),
        ) as response:
            yield response

    def _why_not_asked(self) -> str:
        assert self._card is not None
        bindings = ", ".join(self._card.bindings)[:100]
        return f"serves its card, but none of its interfaces ({bindings}) can be asked here"


def _is_of_a2a(code: int | None) -> bool:
    return code is not None and (code in _A2A_ERRORS or code == _INVALID_PARAMS)


def _card_urls(url: str) -> tuple[str, ...]:
    """Where the card of the agent at ``url`` may be: as it is written where it ends with ``.json``,
    else below it, else at the root of its origin."""
    parts = urlsplit(url)
    if parts.path.endswith(".json"):
        return (url,)

    def places() -> Iterator[str]:
        origin = f"{parts.scheme}://{parts.netloc}"
        for file in _WELL_KNOWN:
            yield f"{origin}{parts.path.rstrip('/')}{file}"
            yield f"{origin}{file}"

    return tuple(dict.fromkeys(places()))
