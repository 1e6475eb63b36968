"""Keeps the description of the MCP server up to date: by its notifications, and by polling."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from functools import partial

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import utcnow
from mcp_discovery.probe import Introspection, McpProbe, ProbeError
from mcp_discovery.sidecar.advertise import Advertised
from mcp_discovery.sidecar.describe import Description, describe
from mcp_discovery.sidecar.settings import Settings
from mcp_discovery.sidecar.tasks import alongside, happens, kept_alive

log = logging.getLogger(__name__)

#: The part of the interval after which the server is read again, whatever it says: a server may
#: change without a word, and its new tools are due within one interval.
_EVERY = 0.85
#: The same where probes see every change.
_SELDOM_EVERY = 6.0
#: The part of the interval, at most a second, that lies between two readings however often the
#: server says that it changed.
_APART = 0.2
#: Seconds until the next attempt after one that failed; each further one doubles them.
_AGAIN = 0.25
#: A stream of notifications that ended earlier than this was never one.
_LIVED = 1.0
#: Seconds until a server that offers no notifications is asked for them again.
_NO_STREAM = 30.0
#: A server that changed so often …
_OFTEN = 10
#: … in so many seconds …
_WITHIN = 60.0
#: … has its changes registered only so many seconds apart: each leaves a document in the store.
_SELDOM = 15.0


class Introspector:
    """Reads what a server offers, and says so when it changed.

    ``described`` is called with each new description; ``unfit`` when the first one cannot be
    registered; ``look`` when the end of a stream hints that the server may be gone.
    """

    def __init__(
        self,
        settings: Settings,
        advertised: Advertised,
        *,
        described: Callable[[Description], None],
        unfit: Callable[[InvalidInputError], None],
        look: Callable[[], None],
        started_at: datetime | None = None,
    ) -> None:
        self._settings = settings
        self._advertised = advertised
        self._described = described
        self._unfit = unfit
        self._look = look
        self._started_at = started_at
        self._every = _EVERY * settings.interval
        self._seldom_every = _SELDOM_EVERY * settings.interval
        self._apart = min(_APART * settings.interval, 1.0)
        self._wanted = asyncio.Event()
        self._read: Introspection | None = None
        self._description: Description | None = None
        self._trouble: str | None = None
        self._changed: deque[float] = deque(maxlen=_OFTEN)  # when, on the monotonic clock
        self._restless = False

    async def follow(self, probe: McpProbe) -> None:
        """Reads the server over ``probe``, at once and then for ever; to be cancelled."""
        probe.noticed = self._wanted.set
        listening = kept_alive("listening for notifications", partial(self._listen, probe))
        async with alongside(listening):
            await kept_alive("introspection", partial(self._poll, probe))

    async def _poll(self, probe: McpProbe) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            self._wanted.clear()
            pause = self._every
            try:
                found = await probe.introspect(self._settings.introspect_timeout)
            except ProbeError as failure:
                # Either the server is gone, and the watchdog ends this at once, or it is not well.
                self._look()
                failures += 1
                pause = min(pause, _AGAIN * 2.0**failures)
                if failures > 1 and str(failure) != self._trouble:
                    self._trouble = str(failure)
                    log.warning("the MCP server answers, but cannot be read: %s", failure)
            else:
                failures, self._trouble = 0, None
                self._take(found, probe.url)
                if found is self._read and probe.glances:
                    pause = self._seldom_every
            # A change that is told of in this pause is read right after it.
            await asyncio.sleep(self._apart)
            await happens(self._wanted, max(0.0, began + pause - time.monotonic()))

    async def _listen(self, probe: McpProbe) -> None:
        while True:
            began = time.monotonic()
            async with aclosing(probe.changes()) as changes:
                async for what in changes:
                    log.debug("the MCP server says that its %s changed", what)
                    self._wanted.set()
            self._look()
            if time.monotonic() - began < _LIVED:
                await asyncio.sleep(_NO_STREAM)
            else:
                await asyncio.sleep(self._apart)
                # What changed between two streams was told to nobody.
                self._wanted.set()

    def _take(self, found: Introspection, url: str) -> None:
        if found is self._read or self._too_often():
            return
        self._read = found
        before = self._description
        registered_at = before.record.registered_at if before is not None else utcnow()
        try:
            after = describe(
                self._settings,
                found,
                url=url,
                advertised=self._advertised,
                registered_at=registered_at,
                started_at=self._started_at,
            )
            if before is not None and after.same_as(before):
                return
        except InvalidInputError as error:
            if before is None:
                self._unfit(error)
            else:
                log.error("the MCP server changed, and the old record stays: %s", error)
            return
        self._description = after
        self._changed.append(time.monotonic())
        log.log(
            logging.DEBUG if self._restless else logging.INFO,
            "%s: %d tools, %d resources, %d resource templates, %d prompts, %s protocol",
            "introspected" if before is None else "changed",
            len(found.tools),
            len(found.resources),
            len(found.resource_templates),
            len(found.prompts),
            found.era,
        )
        for note in (*found.findings, *after.notes):
            log.warning("%s", note)
        self._described(after)

    def _too_often(self) -> bool:
        """Whether the server changes so often that this change has to wait for a later reading."""
        now = time.monotonic()
        restless = len(self._changed) == _OFTEN and now - self._changed[0] < _WITHIN * (
            _SELDOM if self._restless else 1
        )
        if restless and not self._restless:
            log.warning(
                "the MCP server has changed what it offers %d times in %.0f s; from now on its "
                "changes are registered %g s apart",
                *(_OFTEN, now - self._changed[0], _SELDOM),
            )
        self._restless = restless
        return restless and now - self._changed[-1] < _SELDOM
