"""Keeps the description of one MCP server up to date: by what its probes read along, and by its
notifications."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidDocumentError, InvalidInputError
from mcp_discovery.plural import counted
from mcp_discovery.probe import Introspection, Probe, ProbeError
from mcp_discovery.probe.verdict import cannot_be_read
from mcp_discovery.record import Record
from mcp_discovery.registrant.tasks import alongside, guarded, is_set
from mcp_discovery.telemetry import spans

log = logging.getLogger(__name__)

_LISTS = ("tools", "resources", "resource_templates", "prompts", "skills")

#: More than so many items are described in a thread: it takes some milliseconds for a thousand.
_MANY = 2_000

#: The part of the interval that lies between two readings however often the server says that it
#: changed, and how many seconds that are at most.
_APART = 0.2
_LONGEST_APART = 1.0
#: Seconds until the next attempt after one that failed; each further one doubles them.
_AGAIN = 0.25
#: Where something cannot be read, the longest time until it is tried again, in intervals.
_LONGEST_AGAIN = 4.0
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
    does not want to be asked. ``unreadable`` is called when what it offers cannot be read or listed
    from now on, ``reconsider`` when ``trouble`` has changed. ``known`` is what is registered so
    far; ``name`` is for the log. ``expects_credentials`` says that the record announces
    credentials, which the probes do not carry. Times are in seconds: ``interval`` is the one within
    which a change is registered.
    """

    describe: Callable[[Introspection, str], ServerDescription]
    described: Callable[[ServerDescription], None]
    unfit: Callable[[InvalidInputError], None]
    probe_soon: Callable[[], None]
    quiet_for: Callable[[], float]
    unreadable: Callable[[], None]
    reconsider: Callable[[], None]
    expects_credentials: bool
    known: ServerDescription | None
    interval: float
    timeout: float
    name: str

    def __post_init__(self) -> None:
        self._wanted, self._turn = asyncio.Event(), asyncio.Lock()
        self._read: Introspection | None = None
        self._unread = ""  # which lists cannot be read, and why
        self._failing = ""  # why nothing can be read at all
        self._unlisted = ""  # why what was read cannot be registered
        self._again_at = -math.inf  # monotonic seconds
        self._failures = 0  # to read anything, one after the other
        self._changed: deque[float] = deque(maxlen=_RESTLESS_CHANGES)  # monotonic seconds
        self._restless = False

    async def follow(self, probe: Probe) -> None:
        """Reads the server over ``probe``, at once and then for ever; to be cancelled."""
        self._failures, self._failing = 0, ""  # another connection may go better
        probe.noticed = self._wanted.set
        listening = guarded("listening for notifications", partial(self._listen, probe))
        async with alongside(listening):
            await guarded("introspection", partial(self._poll, probe))

    @property
    def trouble(self) -> str:
        """Why not all that the server offers is known, as a reason says it; empty where it is."""
        return self._unread or self._failing or self._unlisted

    async def read(self, probe: Probe, timeout: float) -> None:
        """Reads what the last probe did not, where it is time to.

        A server whose lists cannot be read lives all the same: what was known of them stays, and
        ``trouble`` says why.
        """
        if self._read is not None and time.monotonic() < self._again_at:
            return
        await self._refresh(probe, timeout)
        self._again_at = time.monotonic() + self._pause(probe)

    async def _poll(self, probe: Probe) -> None:
        apart = min(_APART * self.interval, _LONGEST_APART)
        while True:
            self._wanted.clear()
            await self._refresh(probe, self.timeout)
            if self._failures:
                # Either the server is gone, and the watcher ends this at once, or it is not well.
                self.probe_soon()
            # A change that is notified in this pause is read right after it.
            await asyncio.sleep(apart)
            if self._failures:
                again = _AGAIN * 2.0 ** min(self._failures, 30)
                await is_set(self._wanted, min(self.interval, again))
            else:
                await self._wanted.wait()
            await asyncio.sleep(self._pause(probe))

    async def _refresh(self, probe: Probe, timeout: float) -> None:
        try:
            with spans.span("read what is offered"):
                found = await probe.refresh(timeout)
        except ProbeError as failure:
            log.debug("%s answers, but cannot be read: %s", self.name, failure)
            self._failures += 1
            if self._failures > 1:  # one may be the server's end, which the watcher finds
                before = self.trouble
                self._failing = f"what it offers cannot be read: {failure}"
                self._tell(before)
        else:
            self._failures = 0
            async with self._turn:
                await self._take_in(found, probe)

    def _pause(self, probe: Probe) -> float:
        """Seconds until something may be read ahead of time.

        What was read in vain, however much it was, keeps nobody from noticing that it is well.
        """
        free = probe.allowance.until_free
        vain = self.trouble or self._failures
        return min(free, _LONGEST_AGAIN * self.interval) if vain else free

    async def _listen(self, probe: Probe) -> None:
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

    async def _take_in(self, found: Introspection, probe: Probe) -> None:
        """Passes on what was read, where it changed, and what could not be."""
        troubled, self._failing = self.trouble, ""
        self._unread = cannot_be_read(
            each
            for each in found.unread
            if not (self.expects_credentials and each.wants_credentials)
        )
        if found is not self._read and not self._too_often():
            after = await self._described(self._completed(found), probe.url)
            self._read = found
            self._tell(troubled)
            if after is not None:
                self._pass_on(found, after)
        else:
            self._tell(troubled)
        if troubled and not self.trouble:
            probe.allowance.forgive()

    def _completed(self, found: Introspection) -> Introspection:
        """``found``, with what is registered in the place of lists that were never read."""
        if not found.unread or self.known is None:
            return found
        document = self.known.document
        names = (each.noun.replace(" ", "_") for each in found.unread)
        return replace(
            found, **{name: getattr(found, name) or getattr(document, name) for name in names}
        )

    async def _described(self, found: Introspection, url: str) -> ServerDescription | None:
        """The description of what was read, as far as there is one; ``trouble`` says what is not.

        None where what is registered stays.
        """
        try:
            if sum(len(getattr(found, name)) for name in _LISTS) > _MANY:
                after = await asyncio.to_thread(self.describe, found, url)
            else:
                after = self.describe(found, url)
            self._unlisted = ""
            return after
        except InvalidInputError as error:
            self._unlisted = f"what it offers cannot be listed: {error}"
            if self.known is not None:
                return None
            if isinstance(error, InvalidDocumentError):
                nothing: dict[str, Any] = dict.fromkeys(_LISTS, ()) | {"card": None}
                with suppress(InvalidInputError):  # that of the document is at fault, too
                    return self.describe(replace(found, **nothing), url)
            self.unfit(error)
            return None

    def _tell(self, before: str) -> None:
        """Has the server judged anew where its trouble is another than ``before``."""
        if self.trouble == before:
            return
        if self.trouble and self.known is None:  # else the watcher says it
            log.warning("%s answers, but %s", self.name, self.trouble)
        if self.trouble and not before:
            self.unreadable()
        self.reconsider()

    def _pass_on(self, found: Introspection, after: ServerDescription) -> None:
        before = self.known
        if before is not None and after.same_as(before):
            return
        self.known = after
        self._changed.append(time.monotonic())
        log.log(
            logging.DEBUG if self._restless else logging.INFO,
            "%s %s: %s, %s protocol",
            self.name,
            "was introspected" if before is None else "changed",
            ", ".join(
                counted(len(getattr(found, name)), name.removesuffix("s").replace("_", " "))
                for name in (_LISTS if found.card is None else ("skills",))
            ),
            found.era or "A2A",
        )
        for note in (*found.findings, *after.notes):
            log.warning("%s: %s", self.name, note)
        self.described(after)

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
