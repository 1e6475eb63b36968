"""HTTP requests to a Consul agent, and the classification of its responses into errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import aiohttp

from mcp_discovery.adapters.consul.url import ConsulAddress
from mcp_discovery.adapters.http import HttpClient, StoreResponse
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import StoreDeniedError, StoreFault, StoreUnavailableError

T = TypeVar("T")

#: What a lost quorum is called; so is an agent that reaches none of its servers.
NO_LEADER = (
    "Consul knows no leader: its servers have lost their quorum (start those that are down), are "
    "electing, or this agent is cut off from them"
)
#: What an agent says of servers that it does not reach.
_NO_SERVER = (
    "No cluster leader",
    "No known Consul servers",
    "failed to get conn",
    "leadership lost",
    "not the leader",
)
#: Seconds within which an agent says whether it knows a leader.
LEADER_WITHIN = 1.0

#: Seconds that the response to a blocking query may take beyond its wait.
BLOCKING_MARGIN = 4.0
#: The largest response in bytes: Consul has no paging and returns all records at once.
MAX_LIST = 512 * 2**20


@dataclass(frozen=True, slots=True)
class QueryResult(Generic[T]):
    """The result of a blocking query, and the index for the next one.

    ``value`` is ``None`` when the index has not moved: nothing has changed.
    """

    index: int
    value: T | None


class ConsulTransport:
    """Requests to one Consul agent.

    Every method raises :class:`StoreUnavailableError` or :class:`StoreDeniedError` where nothing
    else is said. The token is sent with each request and never logged.
    """

    def __init__(self, address: ConsulAddress, options: StoreOptions) -> None:
        self.address = address
        self._http = HttpClient(
            address.shown,
            options,
            lambda token: {"X-Consul-Token": token},
            is_limited=_is_limited,
        )

    @property
    def token(self) -> str | None:
        """The token that the next request carries."""
        return self._http.token

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
    ) -> StoreResponse:
        """The response to one request, whatever its status. The datacenter is added to ``params``
        where Consul takes one.

        A response of more than ``limit`` bytes raises
        :class:`~mcp_discovery.adapters.http.ResponseTooLargeError`.
        """
        query = dict(params or {})
        if self.address.dc and not where.startswith("/v1/agent/"):
            query["dc"] = self.address.dc
        url = self.address.api + where
        try:
            return await self._http.request(
                method, url, params=query, data=data, timeout=timeout, limit=limit
            )
        except StoreUnavailableError as error:
            if error.fault is StoreFault.SILENT and await self._lacks_leader():
                # Consul waits longer for a leader than anybody for Consul.
                problem = f"{error.problem}: {NO_LEADER}"
                raise StoreUnavailableError(
                    error.store, problem, fault=StoreFault.NO_LEADER
                ) from error
            if not isinstance(error.__cause__, aiohttp.ServerDisconnectedError):
                raise
            # So does Consul 1.8 with a connection too many, without a word.
            hint = "perhaps it allows no more (limits.http_max_conns_per_client)"
            raise StoreUnavailableError(error.store, f"{error.problem}; {hint}") from error

    async def request(
        self,
        method: str,
        where: str,
        params: Mapping[str, str] | None = None,
        *,
        data: bytes | None = None,
        missing: bool = False,
        timeout: float | None = None,
        limit: int = MAX_LIST,
    ) -> StoreResponse:
        """The response to one request, which must succeed; with ``missing`` a 404 is returned
        too."""
        response = await self.send(method, where, params, data=data, timeout=timeout, limit=limit)
        if response.status != 200 and not (missing and response.status == 404):
            self.refuse(response)
        # Consul 1.10 and later may answer from the agent's own copy, which a stream keeps current:
        # without asking for a leader, and so with "false" in this header, always.
        streamed = response.headers.get("X-Consul-Query-Backend") == "streaming"
        if response.headers.get("X-Consul-KnownLeader") == "false" and not streamed:
            raise StoreUnavailableError(
                self.address.shown,
                f"its answer is stale: {NO_LEADER}",
                fault=StoreFault.NO_LEADER,
            )
        return response

    async def block(
        self, where: str, params: Mapping[str, str], index: int, wait: float
    ) -> StoreResponse:
        """A blocking query from ``index`` for at most ``wait`` seconds. From index 0 it returns at
        once, with what the leader has confirmed by the quorum. A 404 is returned."""
        if index == 0:
            return await self.request("GET", where, {**params, "consistent": ""}, missing=True)
        # ``leader``: an agent's ``discovery_max_stale`` does not apply.
        query = {**params, "index": str(index), "wait": f"{round(wait * 1000)}ms", "leader": ""}
        # The server adds up to a sixteenth to the wait, so that not all queries return together.
        timeout = wait * 17 / 16 + BLOCKING_MARGIN
        return await self.request("GET", where, query, missing=True, timeout=timeout)

    async def _lacks_leader(self) -> bool:
        """Whether the agent, asked for nothing else, says that it knows no leader."""
        try:
            response = await self._http.request(
                "GET", f"{self.address.api}/v1/status/leader", timeout=LEADER_WITHIN
            )
        except StoreUnavailableError:
            return False
        if response.status == 500:
            return any(text in response.text for text in _NO_SERVER)
        return response.status == 200 and response.text == '""'

    def refuse(self, response: StoreResponse) -> NoReturn:
        """Raises the error for a response that is not a success."""
        said = f"answered {response.status}: {response.text or 'without a word'}"
        if response.status in (401, 403):
            unknown = "ACL not found" in response.text
            fault = StoreFault.DENIED if unknown else StoreFault.FORBIDDEN
            if unknown:
                said += "; the token was deleted, has expired, or is of another cluster"
            raise StoreDeniedError(self.address.shown, said, fault=fault)
        fault = StoreFault.OTHER
        if _is_limited(response):
            said += f"; {_advice(response.text)}"
            fault = StoreFault.OVERLOADED
        elif any(text in response.text for text in _NO_SERVER):
            said += f"; {NO_LEADER}"
            fault = StoreFault.NO_LEADER
        raise StoreUnavailableError(
            self.address.shown, said, fault=fault, retry_after=response.retry_after
        )

    @contextmanager
    def reading(self, response: StoreResponse) -> Iterator[None]:
        """Raises :meth:`malformed` where the block does not find the fields that it expects."""
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            raise self.malformed(response) from error

    def malformed(self, response: StoreResponse) -> StoreUnavailableError:
        """The error for a response that Consul does not send."""
        return StoreUnavailableError(
            self.address.shown, f"answered what is not Consul's: {response.text[:100]!r}"
        )

    def index(self, response: StoreResponse) -> int:
        """The index for the next blocking query; at least 1."""
        with self.reading(response):
            return max(1, int(response.headers["X-Consul-Index"]))

    def json(self, response: StoreResponse) -> Any:
        """The body as JSON."""
        with self.reading(response):
            return response.json()


def _is_limited(response: StoreResponse) -> bool:
    # The health of a service that is "warning" comes with status 429, too, and this header.
    return response.is_limited and "X-Consul-Reason" not in response.headers


def is_filtered(response: StoreResponse) -> bool:
    """Whether Consul, from 1.12 on, says that it left out what the token may not read. An answer
    from an agent's stream never does."""
    return response.headers.get("X-Consul-Results-Filtered-By-ACLs", "") == "true"


def _advice(said: str) -> str:
    """What to do about a limit, by what Consul 1.16 says of it."""
    if "concurrent connections" in said:
        return (
            "the agent allows so many connections from one address: raise its "
            "limits.http_max_conns_per_client (200 by default)"
        )
    if "rate limit" in said:
        return "raise limits.request_limits of Consul's servers, or ask them less often"
    return "it, or a proxy before it, limits requests: raise that limit"
