"""Keeps the description of one MCP server up to date: by what its probes read along, and by its
notifications."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.probe import Introspection, McpProbe, ProbeError
from mcp_discovery.record import Record
from mcp_discovery.registrant.tasks import alongside, guarded, is_set

log = logging.getLogger(__name__)

#: The part of the interval that lies between two readings however often the server says that it
#: changed, and how many seconds that are at most.
_APART = 0.2
_LONGEST_APART = 1.0
#: Seconds until the next attempt after one that failed; each further one doubles them.
_AGAIN = 0.25
#: A stream of notifications that ended within fewer seconds was never one, and one that ended
#: within fewer than the second number is cut off for being idle.
_LIVED, _LIVED_LONG = 1.0, 120.0
#: Seconds until a server that offers no notifications is asked for them again, and until one whose
#: stream ended is; each further time doubles them, up to the last.
_NO_STREAM, _NEXT_STREAM, _LONGEST_NO_STREAM = 30.0, 1.0, 3600.0
#: A server that changed so often within ``_RESTLESS_WITHIN`` seconds is restless.
_RESTLESS_CHANGES = 10
#: See ``_RESTLESS_CHANGES``.
_RESTLESS_WITHIN = 60.0
#: The changes of a restless server are registered so many seconds apart: each leaves a document in
#: the store.
_RESTLESS_APART = 15.0


@dataclass(frozen=True, slots=True)
class ServerDescription:
    """What is registered of an MCP server; ``notes`` say what was left out of the record."""

    record: Record
    document: CapabilityDocument
    notes: tuple[str, ...] = ()

    def same_as(self, other: ServerDescription) -> bool:
        """Whether both would leave the same in a store."""
        return self.document.digest == other.document.digest and self.record.same_as(other.record)


@dataclass(eq=False, kw_only=True)
class Introspector:
    """Reads what a server offers, and passes its description on when it changed.

    ``describe`` makes a description of what was read at a URL. ``described`` is called with each
    new description, ``unfit`` when the first one cannot be registered, ``probe_soon`` when
    something hints that the server may be gone; ``quiet_for`` gives for how many seconds the server
    does not want to be asked. ``known`` is what is registered so far; ``name`` is
    for the log. Times are in seconds: ``interval`` is the one within which a change is registered.
    """

    describe: Callable[[Introspection, str], ServerDescription]
    described: Callable[[ServerDescription], None]
    unfit: Callable[[InvalidInputError], None]
    probe_soon: Callable[[], None]
    quiet_for: Callable[[], float]
    known: ServerDescription | None
    interval: float
    timeout: float
    name: str

    def __post_init__(self) -> None:
        self._wanted = asyncio.Event()
        self._read: Introspection | None = None
        self._unlisted = ""  # why what was read cannot be registered
        self._trouble: str | None = None
        self._changed: deque[float] = deque(maxlen=_RESTLESS_CHANGES)  # monotonic seconds
        self._restless = False

    async def follow(self, probe: McpProbe) -> None:
        """Reads the server over ``probe``, at once and then for ever; to be cancelled."""
        probe.noticed = self._wanted.set
        listening = guarded("listening for notifications", partial(self._listen, probe))
        async with alongside(listening):
            await guarded("introspection", partial(self._poll, probe))

    async def read(self, probe: McpProbe, timeout: float) -> str:
        """Reads what the last probe did not; returns why what it offers is not registered, if so.

        A server whose lists cannot be read lives all the same: what was known of them stays.
        """
        if self._read is not None and probe.allowance.until_free:
            return self._unlisted
        try:
            found = await probe.refresh(timeout)
        except ProbeError as failure:
            log.debug("%s answers, but cannot be read: %s", self.name, failure)
            return ""
        if found.unread and self._read is None:
            log.debug("%s answers, but cannot be read: %s", self.name, found.unread[0])
            return ""
        return self._take_in(found, probe.url)

    async def _poll(self, probe: McpProbe) -> None:
        failures = 0
        apart = min(_APART * self.interval, _LONGEST_APART)
        while True:
            self._wanted.clear()
            trouble: str | None = None
            try:
                found = await probe.refresh(self.timeout)
            except ProbeError as failure:
                # Either the server is gone, and the watcher ends this at once, or it is not well.
                self.probe_soon()
                trouble, unknown = str(failure), True
            else:
                trouble, unknown = next(iter(found.unread), None), self._read is None
                if trouble is None or not unknown:
                    self._take_in(found, probe.url)
            failures = 0 if trouble is None else failures + 1
            if trouble is None:
                self._trouble = None
            elif failures > 1 and trouble != self._trouble:
                self._trouble = trouble
                log.warning("%s answers, but cannot be read: %s", self.name, trouble)
            # A change that is notified in this pause is read right after it.
            await asyncio.sleep(apart)
            if trouble is None or not unknown:
                await self._wanted.wait()
            else:
                await is_set(self._wanted, min(self.interval, _AGAIN * 2.0**failures))
            await asyncio.sleep(probe.allowance.until_free)

    async def _listen(self, probe: McpProbe) -> None:
        """Hears what the server says of its lists; each opening of a stream is a request, too."""
        without, apart = _NO_STREAM, _NEXT_STREAM
        while True:
            began = time.monotonic()
            async with aclosing(probe.changes()) as changes:
                async for what in changes:
                    log.debug("%s says that its %s changed", self.name, what)
                    self._wanted.set()
            self.probe_soon()
            lived = time.monotonic() - began
            if lived < _LIVED:
                pause, without = without, min(2 * without, _LONGEST_NO_STREAM)
            else:
                apart = _NEXT_STREAM if lived > _LIVED_LONG else min(2 * apart, _LONGEST_NO_STREAM)
                pause = apart
            await asyncio.sleep(pause)

    def _take_in(self, found: Introspection, url: str) -> str:
        """Passes on what was read, where it changed; returns why it cannot be registered."""
        if found is self._read or self._too_often():
            return self._unlisted
        before = self.known
        self._read, self._unlisted = found, ""
        try:
            after = self.describe(found, url)
        except InvalidInputError as error:
            self._unlisted = f"what it offers is not listed: {error}"
            if before is None:
                self.unfit(error)
            else:
                log.error("%s changed, and the old record stays: %s", self.name, error)
            return self._unlisted
        if before is not None and after.same_as(before):
            return ""
        self.known = after
        self._changed.append(time.monotonic())
        log.log(
            logging.DEBUG if self._restless else logging.INFO,
            "%s %s: %d tools, %d resources, %d resource templates, %d prompts, %s protocol",
            self.name,
            "was introspected" if before is None else "changed",
            len(found.tools),
            len(found.resources),
            len(found.resource_templates),
            len(found.prompts),
            found.era,
        )
        for note in (*found.findings, *after.notes):
            log.warning("%s: %s", self.name, note)
        self.described(after)
        return ""

    def _too_often(self) -> bool:
        """Whether the server changes so often that this change has to wait for a later reading."""
        now = time.monotonic()
        within = _RESTLESS_WITHIN * (_RESTLESS_APART if self._restless else 1)
        restless = len(self._changed) == _RESTLESS_CHANGES and now - self._changed[0] < within
        if restless and not self._restless:
            log.warning(
                "%s has changed what it offers %d times in %.0f s; from now on its changes are "
                "registered %g s apart",
                *(self.name, _RESTLESS_CHANGES, now - self._changed[0], _RESTLESS_APART),
            )
        self._restless = restless
        return restless and now - self._changed[-1] < _RESTLESS_APART
