"""One MCP session with one instance: opened when it is needed, by a task that owns it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

from mcp import Client
from mcp.client.caching import CacheConfig
from mcp.shared.exceptions import MCPError
from mcp_types import DiscoverResult, Implementation, LoggingMessageNotificationParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mcp_discovery.client.attempt import (
    ATTEMPT,
    Attempt,
    AttemptError,
    Exchanges,
    describe,
)
from mcp_discovery.client.settings import ClientSettings
from mcp_discovery.client.tool import ResponseCache, ServerTools
from mcp_discovery.client.transports import SharedHttp, transport_for
from mcp_discovery.instance import Instance
from mcp_discovery.urls import urls_of
from mcp_discovery.version import installed_version

log = logging.getLogger(__name__)

#: Seconds that a session may take to end cleanly.
_CLOSE_TIMEOUT = 2.0


class McpSession:
    """The session with ``instance``, as the list has it now. One event loop's.

    The task that enters the SDK's client also leaves it, and does nothing else: a server that dies
    takes that one task with it and harms no other. ``on_end`` is called when it has ended, however.
    """

    def __init__(
        self,
        instance: Instance,
        settings: ClientSettings,
        http: SharedHttp,
        on_end: Callable[[], None],
    ) -> None:
        self.instance = instance
        #: Whether a handshake or a call has succeeded, which proves the server's protocol.
        self.proven = False
        #: The tools that the list of servers has for it, from which ``tools/list`` is answered.
        self.tools: ServerTools | None = None
        #: Stands for the present session: another one is another object.
        self.opened: asyncio.Future[Client] | None = None
        #: What is under way over the present transport.
        self.exchanges = Exchanges()
        self._settings = settings
        self._http = http
        self._on_end = on_end
        self._owner: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._renewing = asyncio.Lock()
        self._known: DiscoverResult | None = None
        endpoint = instance.record.endpoint
        self._urls = urls_of(endpoint.url, endpoint.transport) if endpoint.url else ()
        self._mode = _mode_of(instance)

    @property
    def guessed(self) -> bool:
        """Whether its protocol was taken from the record, and not negotiated."""
        return self._mode != "auto"

    @property
    def _is_ending(self) -> bool:
        return self._ended.is_set() or (self._owner is not None and self._owner.done())

    @property
    def is_open(self) -> bool:
        """Whether there is a session."""
        opened = self.opened
        return opened is not None and opened.done() and opened.exception() is None

    @property
    def legacy(self) -> bool:
        """Whether its sessions have a state that a call may depend on."""
        if self.opened is not None and self.is_open:
            return self.opened.result().protocol_version not in MODERN_PROTOCOL_VERSIONS
        return self._mode == "legacy"

    async def open(self) -> Client:
        """The session's client, opened if it is not yet; raises :class:`AttemptError`."""
        if self.opened is not None and self.is_open and not self._is_ending:
            return self.opened.result()
        while self._is_ending and self._owner is not None and not self._owner.done():
            await asyncio.wait([self._owner])
        if self._owner is None or self._owner.done():
            loop = asyncio.get_running_loop()
            self.opened, self._ended = loop.create_future(), asyncio.Event()
            # The session outlives the call that opens it, and is not made on its behalf.
            context = contextvars.copy_context()
            context.run(ATTEMPT.set, Attempt())
            self._owner = loop.create_task(
                self._own(self.opened, self._ended),
                name=f"mcp session of {self.instance.id}",
                context=context,
            )
        opened = self.opened
        assert opened is not None
        await asyncio.wait([opened])  # which a cancelled caller leaves as it is
        try:
            return opened.result()
        except AttemptError as error:
            # Each waiter raises an exception of its own.
            raise AttemptError(error.why, sent=False, status=error.status) from error.__cause__

    async def _own(self, opened: asyncio.Future[Client], ended: asyncio.Event) -> None:
        problem: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._settings.connect_timeout):
                    client = await stack.enter_async_context(self._client())
                    if self.tools is not None and self.tools.result is not None:
                        await client.list_tools()  # from the cache: no request is made
                self._known = client.session.discover_result or self._known
                if client.session.initialize_result is not None:
                    self.proven = True
                opened.set_result(client)
                await ended.wait()
        except TimeoutError:
            problem = TimeoutError(f"no session within {self._settings.connect_timeout:g} s")
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            problem = error  # raised by the SDK, whose session failed
        except Exception as error:  # noqa: BLE001  # a guard: this session ends, and says why
            problem = error
        finally:
            if not opened.done():
                attempt = ATTEMPT.get() or Attempt()
                why = describe(attempt.fault or problem) if problem else "the session was closed"
                failure = AttemptError(f"cannot connect ({why})", sent=False, status=attempt.status)
                failure.__cause__ = problem
                opened.set_exception(failure)
                opened.exception()  # marked as retrieved: asyncio warns of it where no task waits
            elif problem is not None:
                log.info("%s: the session ended: %s", self.instance.id, describe(problem))
            self._on_end()

    def _client(self) -> Client:
        settings = self._settings
        url = self._urls[0] if self._urls else ""
        self.exchanges = Exchanges()
        return Client(
            transport_for(self.instance, url, settings, self._http, self.exchanges),
            mode=self._mode,
            prior_discover=self._known if self._mode in MODERN_PROTOCOL_VERSIONS else None,
            client_info=settings.client_info
            or Implementation(name="mcp-discovery-client", version=installed_version()),
            logging_callback=self._log if settings.on_log else None,
            log_level=settings.log_level,
            elicitation_callback=settings.on_elicit,
            sampling_callback=settings.on_sample,
            list_roots_callback=settings.list_roots,
            cache=CacheConfig(
                store=ResponseCache(lambda: self.tools),
                partition=self.instance.id,
                target_id=self.instance.id,
            ),
        )

    async def _log(self, params: LoggingMessageNotificationParams) -> None:
        assert self._settings.on_log is not None
        await self._settings.on_log(self.instance, params)

    async def ping(self) -> None:
        """Makes the server answer; raises :class:`AttemptError` and the SDK's errors."""
        client = await self.open()
        if client.protocol_version in MODERN_PROTOCOL_VERSIONS:
            self._known = await client.session.discover()
        else:
            await client.session.send_ping()

    async def refresh_tools(self) -> None:
        """Makes the open session read the tools that are listed now."""
        if self.is_open:
            with suppress(AttemptError, MCPError, ValidationError):  # the next call finds out
                client = await self.open()
                await client.list_tools()

    def try_elsewhere(self) -> bool:
        """Switches to the next URL that the record may mean; returns whether there is one."""
        if len(self._urls) < 2:
            return False
        self._urls = self._urls[1:]
        return True

    async def renew(self, refused: asyncio.Future[Client] | None) -> None:
        """Closes the session ``refused``, one of :attr:`opened`, unless another call already has;
        the next one negotiates the protocol, and may try another URL."""
        async with self._renewing:
            if self.opened is refused:
                await self.close()
                self.try_elsewhere()
                self._mode, self._known = "auto", None

    async def close(self) -> None:
        """Ends the session, cleanly if that does not take long."""
        owner = self._owner
        if owner is None:
            return
        self._ended.set()
        if self.opened is not None and not self.opened.done():
            owner.cancel()
        await asyncio.wait([owner], timeout=_CLOSE_TIMEOUT)
        if not owner.done():
            owner.cancel()
            await asyncio.wait([owner])
        with suppress(asyncio.CancelledError):
            if (error := owner.exception()) is not None:
                log.warning("%s: the session ended badly: %s", self.instance.id, describe(error))
        if self._owner is owner:
            self._owner = self.opened = None


def _mode_of(instance: Instance) -> str:
    """The SDK's mode for the protocol that the sidecar found, which saves the SDK's own probe."""
    protocol = instance.record.protocol
    if protocol.era == "legacy":
        return "legacy"
    modern = [version for version in protocol.versions if version in MODERN_PROTOCOL_VERSIONS]
    return max(modern) if protocol.era == "modern" and modern else "auto"
