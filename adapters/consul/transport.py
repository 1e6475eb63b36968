"""Requests to Consul's HTTP API, and what every answer means: errors are classified here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import quote

from mcp_discovery.adapters.consul.url import ConsulAddress
from mcp_discovery.adapters.http import Answer, HttpClient
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import StoreDeniedError, StoreUnavailableError

T = TypeVar("T")

#: Seconds that an answer to a blocking query may take beyond its wait.
BLOCKING_MARGIN = 4.0
#: The largest answer, in bytes: Consul has no pages, and gives all records at once.
MAX_LIST = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What a blocking query answered, and the index to ask from next.

    ``value`` is ``None`` when the index is the one that was asked from: nothing has changed.
    """

    index: int
    value: T | None


class Transport:
    """Requests to one Consul agent.

    Every method raises :class:`StoreUnavailableError` or :class:`StoreDeniedError` where nothing
    else is said; the token is sent with each request and never logged.
    """

    def __init__(self, address: ConsulAddress, options: StoreOptions) -> None:
        self.address = address
        headers = {"X-Consul-Token": options.token} if options.token else {}
        self._http = HttpClient(address.shown, options, headers)

    async def close(self) -> None:
        """Closes every connection; requests in flight raise :class:`StoreUnavailableError`."""
        await self._http.close()

    async def send(
        self,
        method: str,
        where: str,
        params: Mapping[str, str] | None = None,
        *,
        data: bytes | None = None,
        timeout: float | None = None,
        limit: int = MAX_LIST,
    ) -> Answer:
        """One request, answered with whatever status; the datacenter goes along where it counts.

        ``limit`` bounds the answer in bytes: :class:`mcp_discovery.adapters.http.AnswerTooLarge`
        beyond it.
        """
        asked = dict(params or {})
        if self.address.dc and not where.startswith("/v1/agent/"):
            asked["dc"] = self.address.dc
        return await self._http.request(
            *(method, self.address.api + where),
            params=asked,
            data=data,
            timeout=timeout,
            limit=limit,
        )

    async def ask(
        self,
        method: str,
        where: str,
        params: Mapping[str, str] | None = None,
        *,
        data: bytes | None = None,
        missing: bool = False,
        timeout: float | None = None,
        limit: int = MAX_LIST,
    ) -> Answer:
        """One request that must succeed; with ``missing`` a 404 is an answer."""
        answer = await self.send(method, where, params, data=data, timeout=timeout, limit=limit)
        self._check(answer, missing=missing)
        return answer

    async def block(self, where: str, params: Mapping[str, str], index: int, wait: float) -> Answer:
        """A blocking query from ``index`` for at most ``wait`` seconds; from 0 it answers at once,
        through the quorum. A 404 is an answer."""
        if index == 0:
            return await self.ask("GET", where, {**params, "consistent": ""}, missing=True)
        asked = {**params, "index": str(index), "wait": f"{round(wait * 1000)}ms"}
        # The server adds up to a sixteenth to the wait, lest all return together.
        timeout = wait * 17 / 16 + BLOCKING_MARGIN
        answer = await self.send("GET", where, asked, timeout=timeout)
        self._check(answer, missing=True)
        return answer

    def _check(self, answer: Answer, *, missing: bool) -> None:
        if answer.status != 200 and not (missing and answer.status == 404):
            self.refuse(answer)
        if answer.headers.get("X-Consul-KnownLeader", "true") == "false":
            raise StoreUnavailableError(
                self.address.shown, "it knows no leader, its answer is stale"
            )

    def refuse(self, answer: Answer) -> NoReturn:
        """Raises what an answer other than success means."""
        said = answer.text or "without a word"
        if answer.status in (401, 403):
            raise StoreDeniedError(self.address.shown, f"answered {answer.status}: {said}")
        raise StoreUnavailableError(self.address.shown, f"answered {answer.status}: {said}")

    def strange(self, answer: Answer) -> StoreUnavailableError:
        """The error for an answer that cannot be Consul's."""
        return StoreUnavailableError(
            self.address.shown, f"answered what is not Consul's: {answer.text[:100]!r}"
        )

    def index(self, answer: Answer) -> int:
        """The index to ask from next; at least 1."""
        try:
            return max(1, int(answer.headers["X-Consul-Index"]))
        except (KeyError, ValueError) as error:
            raise self.strange(answer) from error

    def json(self, answer: Answer) -> Any:
        """The body as JSON."""
        try:
            return answer.json()
        except ValueError as error:
            raise self.strange(answer) from error


def path(key: str) -> str:
    """``key`` as it stands in a URL's path."""
    return quote(key, safe="/")
