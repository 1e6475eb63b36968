"""Requests to etcd's JSON gateway: fail-over between endpoints, authentication, time-outs."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import orjson
from cachetools import TTLCache

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.etcd.errors import (
    MemberUnavailableError,
    PermissionDeniedError,
    RequestRefusedError,
    TokenRejectedError,
    from_object,
    from_response,
)
from mcp_discovery.adapters.etcd.keys import Json, decode, encode
from mcp_discovery.adapters.etcd.rights import KeyRight, lacking_sentence, needed, question
from mcp_discovery.adapters.etcd.skydns import in_parts
from mcp_discovery.adapters.etcd.url import EtcdURL
from mcp_discovery.adapters.http import HttpClient, ResponseTooLargeError, StoreResponse
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.credential_files import Secret
from mcp_discovery.errors import StoreDeniedError, StoreError, StoreFault, StoreUnavailableError

log = logging.getLogger(__name__)

#: With ``hasleader`` a member without a leader refuses at once instead of waiting for one.
_HEADERS = {"Grpc-Metadata-hasleader": "true", "Content-Type": "application/json"}

#: What etcd up to 3.5.16 does for everybody, and 3.6.16 with a valid token alone.
_WITHOUT_RIGHTS = ("lease/keepalive",)

#: How many keys one page of a range holds.
PAGE = 1000

#: Seconds for which the rights that a request lacks are remembered: whoever is refused tries on.
_EXPLAINED_FOR = 30.0

_USERS_OFF = (
    "a user is given, but etcd's users are off: the password was not checked, and whoever reaches "
    "etcd may read and write everything; turn them on (etcdctl auth enable), or give no user"
)
_NO_USER = "a password is given without a user, and so is not used: give the user as well"

T = TypeVar("T")


class EtcdGateway:
    """The JSON gateway of one etcd cluster.

    The first endpoint is chosen at random, so that clients are spread over the members; after that
    the one that answered last is used. One that does not answer within half the time-out is
    skipped. A call takes at most one and a half time-outs. Every method raises
    :class:`StoreUnavailableError`, :class:`StoreDeniedError`, or the errors of
    :mod:`mcp_discovery.adapters.etcd.errors`.
    """

    def __init__(self, url: EtcdURL, options: StoreOptions) -> None:
        self.store = url.text
        self._endpoints = url.endpoints
        self._good = random.randrange(len(url.endpoints))
        self._http = HttpClient(url.text, options)
        self._user = options.user
        self._password = Secret(
            "store password", options.password, options.password_file, in_header=False
        )
        several = len(url.endpoints) > 1
        self._attempt = options.timeout / 2 if several else options.timeout
        self._budget = options.timeout * 1.5 if several else options.timeout
        self._token: str | None = None
        #: See :attr:`mcp_discovery.adapters.store.Store.unguarded`.
        self.unguarded: str | None = None
        if options.user is None and (options.password or options.password_file):
            self._told(_NO_USER)
        self._authenticated = options.user is None
        self._authenticating = asyncio.Lock()
        self._explained: TTLCache[tuple[KeyRight, ...], str] = TTLCache(64, _EXPLAINED_FOR)

    @property
    def endpoint(self) -> str:
        """The endpoint that answered last."""
        return self._endpoints[self._good]

    def pass_over(self, endpoint: str) -> None:
        """From now on uses the next endpoint first, if ``endpoint`` still is the first."""
        if self.endpoint == endpoint:
            self._good = (self._good + 1) % len(self._endpoints)

    async def call(self, path: str, body: Mapping[str, Any]) -> Any:
        """The response to one request (``kv/txn``) from the first endpoint that gives one."""
        try:
            return await self._in_turn(path, orjson.dumps(body), _object)
        except PermissionDeniedError as error:
            raise await self.explained(error, path, body) from error

    async def call_each(self, path: str, bodies: Sequence[Mapping[str, Any]]) -> list[Json]:
        """The responses to several messages of one stream, in one HTTP request."""
        return await self._in_turn(path, b"\n".join(map(orjson.dumps, bodies)), self._results)

    async def call_endpoint(
        self, endpoint: str, path: str, body: Mapping[str, Any], timeout: float
    ) -> Any:
        """The response of this ``endpoint`` within ``timeout`` seconds."""
        try:
            return await self._request(endpoint, path, orjson.dumps(body), _object, timeout)
        except PermissionDeniedError as error:
            raise await self.explained(error, path, body) from error

    async def lacking(self, rights: Sequence[KeyRight]) -> list[KeyRight]:
        """Those of ``rights`` that the user lacks. Nothing is written."""
        found: list[KeyRight] = []
        for part in in_parts(list(dict.fromkeys(rights))):
            found += await self._lacking(part)
        return found

    async def _lacking(self, rights: Sequence[KeyRight]) -> list[KeyRight]:
        try:
            await self._in_turn("kv/txn", orjson.dumps(question(rights)), _object)
        except PermissionDeniedError:
            if len(rights) == 1:
                return list(rights)
            half = len(rights) // 2
            return [*await self._lacking(rights[:half]), *await self._lacking(rights[half:])]
        return []

    async def explained(
        self, error: PermissionDeniedError, path: str, body: Mapping[str, Any]
    ) -> StoreDeniedError:
        """``error`` with the rights that the request lacks, which etcd does not tell."""
        rights = tuple(dict.fromkeys(needed(path, body)))
        problem = self._explained.get(rights)
        if problem is None:
            try:
                lacking = await self.lacking(rights)
            except StoreError:
                return error  # it told enough before it went away
            problem = self.lacking_sentence(lacking) if lacking else error.problem
            self._explained[rights] = problem
        return PermissionDeniedError(self.store, problem)

    def lacking_sentence(self, lacking: Sequence[KeyRight]) -> str:
        """What the user lacks, and what to do about it."""
        return lacking_sentence(self._user or "", lacking)

    async def txn(
        self, compare: Sequence[Json], success: Sequence[Json], failure: Sequence[Json] = ()
    ) -> tuple[bool, list[Json]]:
        """Runs a transaction; returns whether ``compare`` was true, and the responses.

        It may be executed twice, if the response to the first request is lost.
        """
        body = {"compare": compare, "success": success, "failure": failure}
        response = await self.call("kv/txn", body)
        return bool(response.get("succeeded")), response.get("responses", [])

    async def pages(
        self,
        keys: tuple[str, str],
        *,
        keys_only: bool = False,
        revision: int | None = None,
    ) -> AsyncGenerator[tuple[int, list[Json]]]:
        """All keys of a range in pages, each with the one revision at which all pages are read.

        The next page is requested before one is yielded, so use it inside ``aclosing``. Raises
        :class:`~mcp_discovery.adapters.etcd.errors.RevisionGoneError` when that revision has been
        compacted or does not exist yet.
        """
        first, end = encode(keys[0]), encode(keys[1])
        page = PAGE

        def requested() -> asyncio.Task[Any]:
            body: Json = {"key": first, "range_end": end, "limit": str(page)}
            body |= {"keys_only": keys_only}
            if revision is not None:
                body["revision"] = str(revision)
            return asyncio.create_task(self.call("kv/range", body))

        coming = requested()
        try:
            while True:
                try:
                    response = await coming
                except ResponseTooLargeError:
                    if page == 1:
                        raise
                    page = max(1, page // 8)  # the values are large, so read fewer at a time
                    coming = requested()
                    continue
                page = min(PAGE, page * 2)
                if revision is None:
                    revision = int(response["header"]["revision"])
                kvs = response.get("kvs", [])
                more = bool(response.get("more"))
                if more:
                    first = encode(decode(kvs[-1]["key"]) + b"\0")  # the next possible key
                    coming = requested()
                yield revision, kvs
                if not more:
                    return
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    @asynccontextmanager
    async def stream(
        self, endpoint: str, path: str, body: Mapping[str, Any], *, idle: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A stream of messages from ``endpoint``; fails after ``idle`` seconds without a byte."""
        headers = await self._headers(endpoint, self._attempt)
        token = self._token
        async with AsyncExitStack() as stack:
            try:
                url, data = f"{endpoint}/v3/{path}", orjson.dumps(body)
                stream = self._http.stream(
                    "POST", url, data=data, headers=headers, idle=idle, timeout=self._attempt
                )
                response = await stack.enter_async_context(stream)
            except StoreUnavailableError:
                self._distrust(token)
                raise
            if response.status != 200:
                said = await response.content.read(4096)
                raise from_response(
                    self.store, StoreResponse(response.status, response.headers, said)
                )
            yield response

    async def renew_token(self, endpoint: str, rejected: TokenRejectedError) -> None:
        """Authenticates again after ``rejected``; raises :class:`StoreDeniedError` where that is
        not possible."""
        await self._renew(endpoint, self._token, rejected, self._attempt)

    async def close(self) -> None:
        """Closes every connection; calls from now on raise :class:`StoreUnavailableError`."""
        await self._http.close()

    # -- endpoints in turn -------------------------------------------------------------------

    async def _in_turn(self, path: str, data: bytes, read: Callable[[bytes], T]) -> T:
        deadline = time.monotonic() + self._budget
        backoff = Backoff(0.1, 0.5)
        while True:
            failures: list[tuple[str, StoreUnavailableError]] = []
            # A single endpoint is tried twice: it may just have closed an idle connection.
            for _ in range(max(2, len(self._endpoints))):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                endpoint = self.endpoint
                try:
                    return await self._request(endpoint, path, data, read, min(left, self._attempt))
                except (RequestRefusedError, ResponseTooLargeError):
                    raise
                except StoreUnavailableError as error:
                    failures.append((endpoint, error))
                    self.pass_over(endpoint)
            pause = backoff.next()
            passing = any(isinstance(error, MemberUnavailableError) for _, error in failures)
            if not passing or time.monotonic() + pause >= deadline:
                raise self._unavailable(failures) from (failures[-1][1] if failures else None)
            await asyncio.sleep(pause)

    def _unavailable(
        self, failures: Sequence[tuple[str, StoreUnavailableError]]
    ) -> StoreUnavailableError:
        """One error for what went wrong at each endpoint, what says most first."""
        faults = list(StoreFault)
        by_problem: dict[str, list[str]] = {}
        for endpoint, error in sorted(failures, key=lambda each: faults.index(each[1].fault)):
            by_problem.setdefault(error.problem, []).append(endpoint.partition("://")[2])
        text = next(iter(by_problem), f"no answer within {self._budget:g} s")
        if len(self._endpoints) > 1:
            told = "; ".join(
                f"{', '.join(dict.fromkeys(hosts))}: {problem}"
                for problem, hosts in by_problem.items()
            )
            text = f"none of {len(self._endpoints)} endpoints could serve: {told or text}"
        fault = min((error.fault for _, error in failures), key=faults.index, default=None)
        return StoreUnavailableError(
            self.store,
            text,
            fault=fault or StoreFault.SILENT,
            retry_after=max((error.retry_after for _, error in failures), default=0.0),
        )

    async def _request(
        self, endpoint: str, path: str, data: bytes, read: Callable[[bytes], T], timeout: float
    ) -> T:
        deadline = time.monotonic() + timeout
        headers = await self._headers(endpoint, timeout, path)
        token = self._token
        try:
            return await self._post(endpoint, path, data, read, headers, deadline)
        except TokenRejectedError as rejected:
            await self._renew(endpoint, token, rejected, max(0.1, deadline - time.monotonic()))
            headers = await self._headers(endpoint, timeout)
            try:
                return await self._post(endpoint, path, data, read, headers, deadline)
            except TokenRejectedError as again:
                problem = f"a fresh token is refused: {again.problem}"
                raise StoreDeniedError(self.store, problem) from again
        except (RequestRefusedError, MemberUnavailableError):
            raise
        except StoreUnavailableError:
            self._distrust(token)
            raise

    async def _post(
        self,
        endpoint: str,
        path: str,
        data: bytes,
        read: Callable[[bytes], T],
        headers: Mapping[str, str],
        deadline: float,
    ) -> T:
        left = max(0.1, deadline - time.monotonic())
        response = await self._http.request(
            "POST", f"{endpoint}/v3/{path}", data=data, headers=headers, timeout=left
        )
        if response.status != 200:
            raise from_response(self.store, response)
        try:
            return read(response.body)
        except ValueError as error:
            problem = "answers what is no JSON: this is no etcd"
            raise RequestRefusedError(self.store, problem) from error

    def _results(self, body: bytes) -> list[Json]:
        messages = [orjson.loads(line) for line in body.splitlines() if line.strip()]
        for message in messages:
            if "result" not in message:
                refused = RequestRefusedError(self.store, "an unknown answer")
                raise from_object(self.store, message) or refused
        return [message["result"] for message in messages]

    # -- users -------------------------------------------------------------------------------

    async def _headers(self, endpoint: str, timeout: float, path: str = "") -> dict[str, str]:
        if not self._authenticated:
            try:
                await self._renew(endpoint, self._token, None, timeout)
            except StoreDeniedError:
                if path not in _WITHOUT_RIGHTS:
                    raise
        return _HEADERS | ({"Authorization": self._token} if self._token else {})

    def _distrust(self, token: str | None) -> None:
        """Makes the next request authenticate again, after one with ``token`` was not answered.

        A token contains the index in etcd's log at which it was issued, and a member delays
        requests with a later index until it has reached it: hours, if the store was wiped or
        restored.
        """
        if token is not None and token == self._token:
            self._authenticated = False

    async def _renew(
        self, endpoint: str, old: str | None, rejected: TokenRejectedError | None, timeout: float
    ) -> None:
        if self._user is None:
            problem = "etcd wants a user and a password; give both as options"
            raise StoreDeniedError(self.store, problem) from rejected
        async with self._authenticating:
            if self._authenticated and self._token != old:
                return  # another call has renewed it meanwhile
            deadline = time.monotonic() + timeout
            password = self._password.current()
            try:
                self._token = await self._authenticate(endpoint, password, deadline)
            except StoreDeniedError:
                if (fresh := self._password.renewed()) == password:
                    raise
                self._token = await self._authenticate(endpoint, fresh, deadline)
            self._authenticated = True

    async def _authenticate(
        self, endpoint: str, password: str | None, deadline: float
    ) -> str | None:
        """A token for the user; ``None`` where etcd wants none."""
        body = orjson.dumps({"name": self._user, "password": password or ""})
        try:
            response = await self._post(
                endpoint, "auth/authenticate", body, _object, _HEADERS, deadline
            )
        except RequestRefusedError as error:
            if "authentication is not enabled" not in error.problem:
                raise
            self._told(_USERS_OFF)
            return None
        self.unguarded = None
        return str(response["token"])

    def _told(self, unguarded: str) -> None:
        """Logs what guards nothing, once."""
        if unguarded != self.unguarded:
            self.unguarded = unguarded
            log.warning("%s: %s", self.store, unguarded)


def _object(body: bytes) -> Json:
    content = orjson.loads(body)
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content
