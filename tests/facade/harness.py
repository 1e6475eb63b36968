"""A real facade on a real socket, a client of it, and a reader of its events."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Store
from mcp_discovery.facade import FacadeOptions, create_app, serving
from mcp_discovery.facade.mcp.call_tool import ToolCaller
from tests.stores.waiting import until

#: Quick enough for tests, slow enough to be told apart. Its pings never come in a test: a reader
#: that does not answer within the half of ``ping`` is dropped, and one that is not being read from
#: does not answer.
QUICK = FacadeOptions(
    probe_interval=0.2,
    probe_timeout=0.5,
    heartbeat=0.2,
    posted_ttl=30.0,
    ping=600.0,
    settle=2.0,
    probe_claims=False,
)


@dataclass(frozen=True)
class Reply:
    """An answer, read whole."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)

    @property
    def ids(self) -> list[str]:
        """The ids of the servers in a list."""
        return [each["id"] for each in self.json["servers"]]


class Client:
    """Requests to one facade."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Reply:
        """One request; ``body`` goes as JSON, and bytes, too, unless a header says otherwise."""
        if isinstance(body, bytes):
            more["data"] = body
            headers = more.get("headers") or {}
            if "content-type" not in {name.lower() for name in headers}:
                more["headers"] = {**headers, "Content-Type": "application/json"}
        elif body is not None:
            more["json"] = body
        async with self.session.request(method, self.url + path, **more) as response:
            return Reply(response.status, response.headers, await response.read())

    async def raw(self, path: str) -> Reply:
        """GET of a path that goes out as it is written, percent-encoding included."""
        async with self.session.get(URL(self.url + path, encoded=True)) as response:
            return Reply(response.status, response.headers, await response.read())

    async def until_status(self, id: str, status: str, timeout: float = 30.0) -> dict[str, Any]:
        """Waits until the server has that status; returns its entry."""

        async def has_it() -> dict[str, Any] | None:
            reply = await self("GET", f"/servers/{id}")
            found: dict[str, Any] = reply.json
            return found if found.get("status") == status else None

        found = await until(has_it, timeout=timeout, what=f"{id} being {status}")
        assert found is not None
        return found

    @asynccontextmanager
    async def events(self, query: str = "", **headers: str) -> AsyncIterator[EventReader]:
        """The stream of events, until the block ends."""
        async with self.session.get(
            f"{self.url}/events{query}", headers=headers, timeout=aiohttp.ClientTimeout()
        ) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            yield EventReader(response)


@dataclass(frozen=True)
class SentEvent:
    """One server-sent event, its data read as JSON; ``name`` is empty where there was no data."""

    id: str
    name: str
    data: Any


class EventReader:
    """Reads server-sent events as the HTML standard says, as far as the facade uses it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.headers = response.headers
        self._buffer = b""
        self.last_id = ""
        self.comments = 0

    async def next(self, timeout: float = 30.0) -> SentEvent:
        """The next event; raises EOFError at the end of the stream."""
        async with asyncio.timeout(timeout):
            while True:
                event = self._parsed(await self._block())
                if event.name:
                    return event

    async def _block(self) -> bytes:
        while b"\n\n" not in self._buffer:
            chunk = await self._response.content.readany()
            if not chunk:
                raise EOFError
            self._buffer += chunk
        block, _, self._buffer = self._buffer.partition(b"\n\n")
        return block

    def _parsed(self, block: bytes) -> SentEvent:
        name, data = "", ""
        for line in block.decode().split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "":
                    self.comments += 1
                case "id":
                    self.last_id = value
                case "event":
                    name = value
                case "data":
                    data += value
        return SentEvent(self.last_id, name, orjson.loads(data) if data else None)


@asynccontextmanager
async def served(
    store: Store | None = None,
    options: FacadeOptions = QUICK,
    caller: ToolCaller | None = None,
    context: ssl.SSLContext | None = None,
    **changes: Any,
) -> AsyncIterator[Client]:
    """A facade over ``store`` (its own embedded one by default), ready to be asked.

    ``context`` is the client's where the facade listens with TLS.
    """
    own = store or EmbeddedStore()
    app: web.Application = create_app(own, replace(options, **changes), caller=caller)
    try:
        connector = aiohttp.TCPConnector(ssl=True if context is None else context)
        async with (
            serving(app, "127.0.0.1", 0) as url,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            client = Client(url, session)

            async def ready() -> bool:
                return (await client("GET", "/ready")).status == 200

            await until(ready, timeout=60, what="the facade being ready")
            yield client
    finally:
        if store is None:
            await own.close()


def leased(id: str, **more: Any) -> dict[str, Any]:
    """The body of a POST by a simple client that sends heartbeats itself."""
    body = {"id": id, "name": "products", "url": f"http://127.0.0.1:9/{id}", "lease": {"ttl": 60}}
    return body | more
