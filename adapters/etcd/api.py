"""Calls etcd's JSON gateway: endpoints in turn, users, and one time-out over all of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import orjson

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.etcd.errors import (
    MemberUnavailableError,
    RequestRefusedError,
    TokenRejectedError,
    from_answer,
    from_object,
)
from mcp_discovery.adapters.etcd.keys import decode, encode
from mcp_discovery.adapters.etcd.txn import Json
from mcp_discovery.adapters.etcd.url import EtcdURL
from mcp_discovery.adapters.http import HttpClient, ResponseTooLargeError
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import StoreDeniedError, StoreUnavailableError

#: A member without a leader refuses at once instead of waiting for one.
_HEADERS = {"Grpc-Metadata-hasleader": "true", "Content-Type": "application/json"}

#: How many keys one page of a range holds.
PAGE = 1000

T = TypeVar("T")


class Gateway:
    """The JSON gateway of one etcd cluster.

    With several endpoints, the first to be asked is any, so that the members share the work; one
    that does not answer in half the time-out is passed over, and the one that answered last is
    asked first. A call takes at most one and a half time-outs.
    Every method raises :class:`StoreUnavailableError`, :class:`StoreDeniedError`, or what
    :mod:`mcp_discovery.adapters.etcd.errors` makes of a refusal.
    """

    def __init__(self, url: EtcdURL, options: StoreOptions) -> None:
        self.store = url.text
        self._endpoints = url.endpoints
        self._good = random.randrange(len(url.endpoints))
        self._http = HttpClient(url.text, options)
        self._user = options.user
        self._password = options.password
        several = len(url.endpoints) > 1
        self._attempt = options.timeout / 2 if several else options.timeout
        self._budget = options.timeout * 1.5 if several else options.timeout
        self._token: str | None = None
        self._authenticated = options.user is None
        self._authenticating = asyncio.Lock()

    @property
    def endpoint(self) -> str:
        """The endpoint that answered last."""
        return self._endpoints[self._good]

    def pass_over(self, endpoint: str) -> None:
        """Ask another one first from now on, if ``endpoint`` is still the first."""
        if self.endpoint == endpoint:
            self._good = (self._good + 1) % len(self._endpoints)

    async def call(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to one request (``kv/txn``), from whichever endpoint gives one."""
        data = orjson.dumps(body)
        return await self._in_turn(
            lambda endpoint, limit: self._ask(endpoint, path, data, _object, limit)
        )

    async def call_each(self, path: str, bodies: Sequence[Mapping[str, Any]]) -> list[Json]:
        """The answers to several messages sent down one stream, in one HTTP request."""
        data = b"\n".join(orjson.dumps(body) for body in bodies)
        results: list[Json] = await self._in_turn(
            lambda endpoint, limit: self._ask(endpoint, path, data, self._results, limit)
        )
        return results

    async def ask(self, endpoint: str, path: str, body: Mapping[str, Any], timeout: float) -> Any:
        """The answer of ``endpoint`` and no other, within ``timeout`` seconds."""
        return await self._ask(endpoint, path, orjson.dumps(body), _object, timeout)

    async def txn(
        self, compare: Sequence[Json], success: Sequence[Json], failure: Sequence[Json] = ()
    ) -> tuple[bool, list[Json]]:
        """Runs a transaction; returns whether ``compare`` held, and the responses.

        It may run twice, when the answer to the first run is lost.
        """
        body = {"compare": compare, "success": success, "failure": failure}
        answer = await self.call("kv/txn", body)
        return bool(answer.get("succeeded")), answer.get("responses", [])

    async def pages(
        self,
        keys: tuple[str, str],
        *,
        keys_only: bool = False,
        revision: int | None = None,
    ) -> AsyncGenerator[tuple[int, list[Json]]]:
        """All keys of a range in pages, each with the revision at which all of them were read.

        The next page is asked for before one is given: use it inside ``aclosing``. Raises
        :class:`~mcp_discovery.adapters.etcd.errors.RevisionGoneError` when that revision is
        compacted, or not yet
        there.
        """
        first, end = encode(keys[0]), encode(keys[1])
        page = PAGE

        def asked() -> asyncio.Task[Any]:
            body: Json = {"key": first, "range_end": end, "limit": str(page)}
            body |= {"keys_only": keys_only}
            if revision is not None:
                body["revision"] = str(revision)
            return asyncio.create_task(self.call("kv/range", body))

        coming = asked()
        try:
            while True:
                try:
                    answer = await coming
                except ResponseTooLargeError:
                    if page == 1:
                        raise
                    page = max(1, page // 8)  # large values: fewer at a time
                    coming = asked()
                    continue
                page = min(PAGE, page * 2)
                if revision is None:
                    revision = int(answer["header"]["revision"])
                kvs = answer.get("kvs", [])
                more = bool(answer.get("more"))
                if more:
                    first = _after(kvs[-1]["key"])
                    coming = asked()
                yield revision, kvs
                if not more:
                    return
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    @asynccontextmanager
    async def stream(
        self, endpoint: str, path: str, body: Mapping[str, Any], *, quiet: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A stream of answers from ``endpoint``, which may be silent for ``quiet`` seconds."""
        headers = await self._headers(endpoint, self._attempt)
        token = self._token
        async with AsyncExitStack() as stack:
            try:
                # The client bounds the connecting and each read, not the wait for the headers.
                async with asyncio.timeout(self._attempt):
                    response = await stack.enter_async_context(
                        self._http.stream(
                            "POST",
                            f"{endpoint}/v3/{path}",
                            data=orjson.dumps(body),
                            headers=headers,
                            idle=quiet,
                            timeout=self._attempt,
                        )
                    )
            except TimeoutError as error:
                self._doubt(token)
                raise StoreUnavailableError(
                    self.store, f"no answer within {self._attempt:g} s"
                ) from error
            except StoreUnavailableError:
                self._doubt(token)
                raise
            if response.status != 200:
                raise from_answer(self.store, response.status, await response.content.read(4096))
            yield response

    async def renew_token(self, endpoint: str, rejected: TokenRejectedError) -> None:
        """A new token after ``rejected``; raises :class:`StoreDeniedError` where none can be
        had."""
        await self._renew(endpoint, self._token, rejected, self._attempt)

    async def close(self) -> None:
        """Closes every connection; calls from now on raise :class:`StoreUnavailableError`."""
        await self._http.close()

    # -- endpoints in turn -------------------------------------------------------------------

    async def _in_turn(self, ask: Callable[[str, float], Any]) -> Any:
        deadline = time.monotonic() + self._budget
        backoff = Backoff(0.1, 0.5)
        while True:
            failures: list[StoreUnavailableError] = []
            # A single one twice: it may have closed an idle connection just now.
            for _ in range(max(2, len(self._endpoints))):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                endpoint = self.endpoint
                try:
                    return await ask(endpoint, min(left, self._attempt))
                except (RequestRefusedError, ResponseTooLargeError):
                    raise
                except StoreUnavailableError as error:
                    failures.append(error)
                    self.pass_over(endpoint)
            pause = backoff.next()
            passing = any(isinstance(error, MemberUnavailableError) for error in failures)
            if not passing or time.monotonic() + pause >= deadline:
                raise self._unavailable(failures) from (failures[-1] if failures else None)
            await asyncio.sleep(pause)

    def _unavailable(self, failures: Sequence[StoreUnavailableError]) -> StoreUnavailableError:
        problems = dict.fromkeys(error.problem for error in failures)
        text = "; ".join(problems) or f"no answer within {self._budget:g} s"
        if len(self._endpoints) > 1:
            text = f"none of {len(self._endpoints)} endpoints could serve: {text}"
        return StoreUnavailableError(self.store, text)

    async def _ask(
        self,
        endpoint: str,
        path: str,
        data: bytes,
        read: Callable[[bytes], T],
        timeout: float,
    ) -> T:
        deadline = time.monotonic() + timeout
        headers = await self._headers(endpoint, timeout)
        token = self._token
        try:
            return await self._post(endpoint, path, data, read, headers, deadline)
        except TokenRejectedError as rejected:
            await self._renew(endpoint, token, rejected, max(0.1, deadline - time.monotonic()))
            headers = await self._headers(endpoint, timeout)
            try:
                return await self._post(endpoint, path, data, read, headers, deadline)
            except TokenRejectedError as again:
                raise StoreDeniedError(
                    self.store, f"a fresh token is refused: {again.problem}"
                ) from again
        except (RequestRefusedError, MemberUnavailableError):
            raise
        except StoreUnavailableError:
            self._doubt(token)
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
        answer = await self._http.request(
            "POST",
            f"{endpoint}/v3/{path}",
            data=data,
            headers=headers,
            timeout=max(0.1, deadline - time.monotonic()),
        )
        if answer.status != 200:
            raise from_answer(self.store, answer.status, answer.body)
        try:
            return read(answer.body)
        except ValueError as error:
            raise RequestRefusedError(
                self.store, "answers what is no JSON: this is no etcd"
            ) from error

    def _results(self, body: bytes) -> list[Json]:
        results = []
        for line in body.splitlines():
            if not line.strip():
                continue
            message = orjson.loads(line)
            if "result" not in message:
                raise from_object(self.store, message) or RequestRefusedError(
                    self.store, "an unknown answer"
                )
            results.append(message["result"])
        return results

    # -- users -------------------------------------------------------------------------------

    async def _headers(self, endpoint: str, timeout: float) -> dict[str, str]:
        if not self._authenticated:
            await self._renew(endpoint, self._token, None, timeout)
        return _HEADERS | ({"Authorization": self._token} if self._token else {})

    def _doubt(self, token: str | None) -> None:
        """Authenticates before the next request, after one with ``token`` was not answered.

        A token bears the index of etcd's log at which it was given, and a member holds back what
        comes with a later one until it has got there: after a store was wiped or restored, that
        can be hours.
        """
        if token is not None and token == self._token:
            self._authenticated = False

    async def _renew(
        self,
        endpoint: str,
        old: str | None,
        rejected: TokenRejectedError | None,
        timeout: float,
    ) -> None:
        if self._user is None:
            raise StoreDeniedError(
                self.store, "etcd wants a user and a password; give both as options"
            ) from rejected
        async with self._authenticating:
            if self._authenticated and self._token != old:
                return  # Another call has renewed it meanwhile.
            body = orjson.dumps({"name": self._user, "password": self._password or ""})
            deadline = time.monotonic() + timeout
            try:
                answer = await self._post(
                    endpoint, "auth/authenticate", body, _object, _HEADERS, deadline
                )
            except RequestRefusedError as error:
                if "authentication is not enabled" not in error.problem:
                    raise
                self._token = None
            else:
                self._token = answer["token"]
            self._authenticated = True


def _object(body: bytes) -> Json:
    content = orjson.loads(body)
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def _after(key: str) -> str:
    """The first key that can follow ``key``, both as the gateway spells them."""
    return encode(decode(key) + b"\0")
