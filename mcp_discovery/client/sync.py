"""``SyncDiscovery``: the same for scripts, without ``await``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp_types import CallToolResult

from mcp_discovery.client.discovery import Discovery
from mcp_discovery.client.skills import Skill
from mcp_discovery.client.source import ServerChange
from mcp_discovery.client.tool import Tool
from mcp_discovery.instance import Instance

_Result = TypeVar("_Result")


class SyncDiscovery:
    """A :class:`~mcp_discovery.client.Discovery` in an event loop of its own, in a thread::

        with SyncDiscovery("http://facade:4000") as d:
            d.connect(["products"])
            print(d.call("search_products", {"query": "kettle"}))

    Takes and raises what ``Discovery`` does; ``on_progress`` is a plain function, called in that
    thread. Any thread may use it.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        # Made here, so that invalid options are raised here.
        self._discovery = Discovery(url, **options)
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._watches: set[AsyncGenerator[ServerChange, None]] = set()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio"))
            entered: AbstractContextManager[Any] = portal.wrap_async_context_manager(
                self._discovery
            )
            stack.enter_context(entered)
            self._portal, self._stack = portal, stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for watch in list(self._watches):
            self._do(watch.aclose)
        self._portal = None
        self._stack.__exit__(kind, error, trace)

    def _do(self, work: Callable[..., Awaitable[_Result]], *given: Any, **named: Any) -> _Result:
        if self._portal is None:
            raise RuntimeError("use it as: with SyncDiscovery(url) as d")
        return self._portal.call(partial(work, *given, **named))

    def connect(self, tags: str | Iterable[str] | None = None, **filters: Any) -> list[Instance]:
        """As :meth:`Discovery.connect`."""
        return self._do(self._discovery.connect, tags, **filters)

    def servers(self, tags: str | Iterable[str] | None = None, **filters: Any) -> list[Instance]:
        """As :meth:`Discovery.servers`."""
        return self._do(self._discovery.servers, tags, **filters)

    def skills(self, tags: str | Iterable[str] | None = None, **filters: Any) -> list[Skill]:
        """As :meth:`Discovery.skills`."""
        return self._do(self._discovery.skills, tags, **filters)

    def tools(self, **options: Any) -> list[Any]:
        """As :meth:`Discovery.tools`."""
        return self._do(self._discovery.tools, **options)

    def find(self, text: str, **options: Any) -> list[Tool]:
        """As :meth:`Discovery.find`."""
        return self._do(self._discovery.find, text, **options)

    def call(
        self,
        tool: str | Tool,
        arguments: Mapping[str, Any] | None = None,
        *,
        on_progress: Callable[[float, float | None, str | None], None] | None = None,
        **options: Any,
    ) -> CallToolResult:
        """As :meth:`Discovery.call`."""

        async def forward(progress: float, total: float | None, message: str | None) -> None:
            assert on_progress is not None
            on_progress(progress, total, message)

        progress = forward if on_progress is not None else None
        return self._do(self._discovery.call, tool, arguments, on_progress=progress, **options)

    def dispatch(self, tool_call: object, **options: Any) -> dict[str, Any]:
        """As :meth:`Discovery.dispatch`."""
        return self._do(self._discovery.dispatch, tool_call, **options)

    def watch(
        self, tags: str | Iterable[str] | None = None, **filters: Any
    ) -> Iterator[ServerChange]:
        """As :meth:`Discovery.watch`."""
        found = self._discovery.watch(tags, **filters)
        self._watches.add(found)
        try:
            with suppress(StopAsyncIteration):
                while True:
                    yield self._do(found.__anext__)
        finally:
            self._watches.discard(found)
            if self._portal is not None:
                self._do(found.aclose)
