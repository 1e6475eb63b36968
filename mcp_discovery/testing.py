"""For test suites of agents: MCP servers of this process, found and called without a socket.

The store, the catalog, the search and the client are those of the product, and each server answers
over the SDK's streams in memory. What is missing is the network, the sidecar and its probes: a test
says itself what these would have found.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from mcp_discovery.extras import require_extra

try:
    import anyio
    from mcp import Client
    from mcp.server import MCPServer, Server
    from mcp.shared.memory import create_client_server_memory_streams
except ImportError:
    require_extra("client", "mcp_discovery.testing")
    raise

from pydantic.alias_generators import to_camel

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Registration
from mcp_discovery.client.discovery import Discovery
from mcp_discovery.client.settings import require_choice
from mcp_discovery.client.source import CatalogSource
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import Health, Status, healthy
from mcp_discovery.instance import Instance
from mcp_discovery.probe import Introspection
from mcp_discovery.probe.introspection import BASE_LISTINGS, McpListing
from mcp_discovery.probe.offer import ServerOffer
from mcp_discovery.record import Record

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams
    from mcp.client.client import ConnectMode
    from mcp.shared._context_streams import ContextSendStream

__all__ = ["InProcessDiscovery", "InProcessServer", "in_process"]

#: A server object of the MCP SDK.
ServerObject = MCPServer | Server[Any]

#: Seconds for which a server stays registered, which nobody renews: longer than any test.
_TTL: Final = 7 * 24 * 3600.0
#: Where a server is said to be that has no address: nothing can be there (RFC 6761, 6.4).
_URL: Final = "http://{id}.invalid/mcp"
#: Seconds that a server may take to end its side of a session.
_END_TIMEOUT: Final = 2.0
#: The fields of a record that a test may give; the others are the server's own.
_FIELDS: Final = tuple(
    sorted(Record.model_fields.keys() - {"endpoint", "capabilities", "protocol", "kind"})
)


@asynccontextmanager
async def in_process(
    *servers: ServerObject,
    mode: ConnectMode = "auto",
    options: Mapping[str, Any] | None = None,
    **fields: Any,
) -> AsyncGenerator[InProcessDiscovery, None]:
    """A :class:`~mcp_discovery.Discovery` of ``servers``, objects of this process::

        async with in_process(server, tags=["products"]) as discovery:
            await discovery.connect(tags=["products"])
            result = await discovery.call("search_products", {"query": "kettle"})

    There is no socket, no port and no other process. Each is registered with ``mode`` and
    ``fields``, as :meth:`InProcessDiscovery.add` takes them and raises for them; more are added
    there. ``options`` are those of ``Discovery``.
    """
    async with (
        EmbeddedStore() as store,
        Catalog(store) as catalog,
        InProcessDiscovery(store, catalog, options or {}) as discovery,
    ):
        for each in servers:
            await discovery.add(each, mode=mode, **fields)
        yield discovery


class InProcessDiscovery(Discovery):
    """A ``Discovery`` whose servers are objects of this process; :func:`in_process` makes it."""

    def __init__(self, store: EmbeddedStore, catalog: Catalog, options: Mapping[str, Any]) -> None:
        super().__init__(CatalogSource(catalog), transport=self._transport_to, **options)
        self._store = store
        self._catalog = catalog
        #: The servers by the ids of their instances, those that were removed left out.
        self.registered: dict[str, InProcessServer] = {}

    async def add(
        self, server: ServerObject, *, mode: ConnectMode = "auto", **fields: Any
    ) -> InProcessServer:
        """Registers ``server`` with what it offers; on return it is found and can be called.

        ``mode`` is how clients connect, as in the SDK's ``Client``: ``legacy`` makes sessions of
        that era. ``fields`` are those of a record: ``tags``, ``zone``, ``weight``, ``metadata``,
        and ``name``, ``version`` and others in the place of what the server says of itself. Servers
        of one name are replicas. ``id`` is the name, with a number where that is taken.

        Raises :class:`~mcp_discovery.errors.InvalidInputError`, in one of its kinds, for what is no
        server object and for fields that no record can have.
        """
        if not isinstance(server, MCPServer | Server):
            raise InvalidInputError(
                f"{server!r} is no server object of the MCP SDK 2; give an MCPServer or a Server "
                "of mcp.server"
            )
        for name in fields:
            require_choice("field", name, _FIELDS)
        added = InProcessServer(server, mode, self._store, self._settle)
        await added._describe({to_camel(name): each for name, each in fields.items()}, self._free)
        self.registered[added.id] = added
        await added.up()
        return added

    def _free(self, name: str, wanted: str | None) -> str:
        ids = (f"{name}-{number}" if number > 1 else name for number in count(1))
        found = wanted or next(each for each in ids if each not in self.registered)
        if found in self.registered:
            raise InvalidInputError(f"there is an instance {found!r} already; give another id")
        return found

    def _transport_to(self, instance: Instance) -> AbstractAsyncContextManager[TransportStreams]:
        return self.registered[instance.id]._connected()

    async def _settle(self, id: str, as_wanted: Callable[[Instance | None], bool]) -> None:
        """Waits until the list, and what is followed of it, shows what was done to ``id``."""
        while True:
            view = self._catalog.view
            entry = view.entries.get(id)
            shown = None if entry is None else entry.instance
            if as_wanted(shown):
                break
            await self._catalog.after(view)
        if shown is None:
            self.registered.pop(id, None)
        while not self._followed.shows(id, shown):
            await self._pool.wait_for_change()


class InProcessServer:
    """A server object with its registration, and what a test does to it.

    Each method returns when ``Discovery`` shows what was done.
    """

    def __init__(
        self,
        server: ServerObject,
        mode: ConnectMode,
        store: EmbeddedStore,
        settle: Callable[[str, Callable[[Instance | None], bool]], Awaitable[None]],
    ) -> None:
        # As the SDK's own Client reaches it.
        self._server = server._lowlevel_server if isinstance(server, MCPServer) else server
        self._mode = mode
        self._store = store
        self._settle = settle
        self._given: dict[str, Any] = {}
        self._registration: Registration | None = None
        self._sessions: set[_Session] = set()
        self._refuses = False
        self._offer: ServerOffer
        self._record: Record

    @property
    def id(self) -> str:
        """The instance's id."""
        return self._record.id

    async def up(self) -> None:
        """It runs, and is listed as healthy, whatever was done to it."""
        self._refuses = False
        self._registration = await self._store.register(
            self._record, self._offer.document, ttl=_TTL, reap_after=_TTL, health=healthy()
        )
        await self._listed(Status.HEALTHY)

    async def degraded(self, reason: str) -> None:
        """It is listed as degraded for ``reason``, and answers as before."""
        await self._report(Status.DEGRADED, reason)

    async def down(self, reason: str) -> None:
        """It crashes as with :meth:`crash`, and is listed as down for ``reason``."""
        self.crash()
        await self._report(Status.DOWN, reason)

    def crash(self) -> None:
        """Its sessions end, with the calls that are under way, and it takes no more of them; the
        list does not know it yet. :meth:`up` starts it again."""
        self._refuses = True
        for session in self._sessions:
            session.crash()

    async def drain(self) -> None:
        """It is listed as draining: calls under way go on, and no other ones come."""
        assert self._registration is not None
        await self._registration.drain()
        await self._listed(Status.DRAINING)

    async def remove(self) -> None:
        """It is not listed any more; calls under way go on, as after a clean exit."""
        assert self._registration is not None
        await self._registration.deregister()
        await self._settle(self.id, lambda shown: shown is None)

    async def refresh(self) -> None:
        """It is listed with what it offers now, as after a notification that a list has changed."""
        assert self._registration is not None
        await self._describe(self._given)
        await self._registration.update(self._record, self._offer.document)
        digest = self._offer.document.digest
        await self._settle(
            self.id,
            lambda shown: shown is not None and shown.record.capabilities.digest == digest,
        )

    async def _report(self, status: Status, reason: str) -> None:
        assert self._registration is not None
        await self._registration.heartbeat(Health(status, reason))
        await self._listed(status)

    async def _listed(self, status: Status) -> None:
        await self._settle(
            self.id, lambda shown: shown is not None and shown.health.status is status
        )

    async def _describe(
        self, given: dict[str, Any], id_of: Callable[[str, str | None], str] | None = None
    ) -> None:
        """Reads what it offers, and makes its record with what was ``given`` for it."""
        offer = ServerOffer(await self._introspection())
        fields = {**offer.said, **given}
        if "name" not in fields:
            raise InvalidInputError("the server tells no name that makes a DNS label; give name=")
        if id_of is not None:
            fields["id"] = given["id"] = id_of(fields["name"], given.get("id"))
        fields["endpoint"] = {
            "transport": "streamable-http",
            "url": _URL.format(id=fields["id"]),
        }
        self._record, _ = offer.record(fields)
        self._offer, self._given = offer, given

    async def _introspection(self) -> Introspection:
        async with Client(self._connected(), mode=self._mode) as client:
            info, discovered = client.server_info, client.session.discover_result
            tools, resources, templates, prompts = [await _read(client, x) for x in BASE_LISTINGS]
            return Introspection(
                era="legacy" if discovered is None else "modern",
                versions=(client.protocol_version,)
                if discovered is None
                else tuple(discovered.supported_versions),
                server_info={} if info is None else _plain(info),
                instructions=client.instructions,
                capabilities=_plain(client.server_capabilities),
                tools=tools,
                resources=resources,
                resource_templates=templates,
                prompts=prompts,
            )

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[TransportStreams, None]:
        """A session with it, over streams in memory."""
        if self._refuses:
            raise ConnectionRefusedError
        server, ended = self._server, anyio.Event()

        async def serve() -> None:
            with session.scope, suppress(anyio.ClosedResourceError):
                await server.run(*streams, server.create_initialization_options())
            streams[1].close()  # so that the client hears of it
            ended.set()

        async with (
            create_client_server_memory_streams() as (client, streams),
            anyio.create_task_group() as tasks,
        ):
            session = _Session(anyio.CancelScope(), streams[1])
            self._sessions.add(session)
            tasks.start_soon(serve)
            try:
                yield client
            finally:
                self._sessions.discard(session)
                await client[1].aclose()
                with anyio.move_on_after(_END_TIMEOUT):
                    await ended.wait()
                session.scope.cancel()


@dataclass(frozen=True, eq=False, slots=True)
class _Session:
    """A session with a server, and what it sends its client."""

    scope: anyio.CancelScope
    writing: ContextSendStream[Any]

    def crash(self) -> None:
        """Ends it as if the server's process had ended."""
        self.writing.close()  # first: the SDK says good-bye otherwise
        self.scope.cancel()


async def _read(client: Client, listing: McpListing) -> tuple[dict[str, Any], ...]:
    """All of one list; empty where the server does not have it."""
    if not listing.is_declared(_plain(client.server_capabilities)):
        return ()
    page_of = getattr(client, f"list_{listing.noun.replace(' ', '_')}")
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await page_of(cursor=cursor)
        found += _plain(page)[listing.items_key]
        if not (cursor := page.next_cursor):
            return tuple(found)


def _plain(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found
