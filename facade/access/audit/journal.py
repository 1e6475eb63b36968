"""The journal: entries become durable in groups, and nothing is lost in silence.

While a log cannot be written (a full disk, a database that restarts), what has to be durable waits
for a bounded time and is refused then; all else waits in memory, up to a limit. What did not fit is
counted, and the count is recorded as soon as that is possible.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.access.audit.event import LogEntry
from mcp_discovery.facade.http.problems import ProblemError

log = logging.getLogger(__name__)

#: How many entries are written at once at most.
_GROUP = 500
#: For how many seconds what nobody waits for lies there, to be written with what comes meanwhile.
_LINGER = 0.05
#: How many entries wait in memory at most.
_MOST = 20_000
#: Seconds until a log that cannot be written is tried again, at first and at most.
_RETRY, _LONGEST_RETRY = 0.05, 1.0
#: Seconds at most that are left to what waits when the facade ends.
_LAST = 5.0


class AuditLogError(DiscoveryError):
    """A log cannot be written or read now; ``str()`` says why."""


class AuditUnavailableError(ProblemError):
    """What has to be recorded first cannot be recorded now."""

    def __init__(
        self, why: str, what: str = "changes and calls are refused", *, queued: bool = False
    ) -> None:
        """``queued``: it waits, and is recorded when that is possible."""
        detail = f"{what}, because the audit cannot be written now: {why}; try again soon"
        super().__init__(503, "audit-unavailable", detail)
        self.why = why
        self.queued = queued


class AuditLog(Protocol):
    """A place where entries are kept: a file of lines, or a database."""

    @property
    def name(self) -> str:
        """What it is called in messages, without secrets."""

    async def open(self) -> None:
        """Opens it; raises :class:`AuditLogError`, and
        :class:`~mcp_discovery.errors.InvalidInputError` where trying again cannot help."""

    async def write(self, entries: Sequence[LogEntry], *, again: bool) -> None:
        """Writes all of ``entries``, durable on return, or raises :class:`AuditLogError`.

        ``again``: some of them may be there already, from an attempt that seemed to fail.
        """

    async def close(self) -> None:
        """Closes it."""


class Journal:
    """Writes entries to ``logs``, to each of them in the same order.

    ``patience`` is for how many seconds something waits that has to be durable.
    """

    def __init__(self, logs: Sequence[AuditLog], *, patience: float) -> None:
        self.logs = logs
        self._patience = patience
        self._queue: deque[tuple[LogEntry, asyncio.Future[None] | None]] = deque()
        self._news = asyncio.Event()
        self._closing = False
        #: Why entries cannot be written now, and since when, in monotonic seconds.
        self.trouble: str | None = None
        self._away_since = 0.0
        #: How many entries were written, how many changes and calls were refused, how many entries
        #: of refusals and ends did not fit into memory.
        self.written = self.refused = self.lost = 0
        self._told = 0, 0
        self._taken = 0
        self._lingering = False
        self._wrote = asyncio.Event()

    def __len__(self) -> int:
        """How many entries wait."""
        return len(self._queue)

    async def write(self, entry: LogEntry, *, keep: bool = False) -> None:
        """Returns when ``entry`` is durable.

        Raises :class:`AuditUnavailableError`; then it is not, and is written later where the error
        says so. With ``keep`` it waits for that even if the log has been away for long.
        """
        late = self.trouble is not None and time.monotonic() - self._away_since > self._patience
        if late or len(self._queue) >= _MOST:
            self.refused += not keep
            if keep:
                self.enqueue(entry)
            raise AuditUnavailableError(self.trouble or "too much waits", queued=keep)
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._append(entry, durable)
        try:
            async with asyncio.timeout(self._patience):
                await asyncio.shield(durable)
        except TimeoutError as error:
            self.refused += not keep
            why = self.trouble or f"it takes more than {self._patience:g} s"
            raise AuditUnavailableError(why, queued=True) from error

    def enqueue(self, entry: LogEntry) -> None:
        """Has ``entry`` written soon, with others."""
        if len(self._queue) >= _MOST:
            self.lost += 1
            return
        self._append(entry, None)

    def _append(self, entry: LogEntry, durable: asyncio.Future[None] | None) -> None:
        self._queue.append((entry, durable))
        self._taken += 1
        if durable is not None:
            self._news.set()
        elif not self._lingering:
            self._lingering = True
            asyncio.get_running_loop().call_later(_LINGER, self._linger_no_more)

    def _linger_no_more(self) -> None:
        self._lingering = False
        self._news.set()

    async def caught_up(self, seconds: float) -> None:
        """Waits, for so long at most, until all is written that came before."""
        taken = self._taken
        self._news.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.written < taken and self.trouble is None:
                    await self._wrote.wait()

    async def run(self) -> None:
        """Writes what comes, until it is cancelled or :meth:`close` is called."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._queue:
                group = [self._queue.popleft() for _ in range(min(_GROUP, len(self._queue)))]
                entries = [entry for entry, _ in group]
                for each in self.logs:
                    await self._write(each, entries)
                self.written += len(entries)
                self._wrote.set()
                self._wrote = asyncio.Event()
                for _, durable in group:
                    if durable is not None and not durable.done():
                        durable.set_result(None)
                if self.trouble is not None:
                    self._recovered()
            if self._closing:
                return

    async def close(self, writing: asyncio.Task[None]) -> None:
        """Writes what waits, for a bounded time, and ends ``writing``, which runs :meth:`run`."""
        self._closing = True
        self._news.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_LAST, self._patience)):
                await asyncio.shield(writing)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        if self._queue or self.trouble is not None:
            what = "audit: the facade ends with %d entries not written: %s"
            log.error(what, len(self._queue), self.trouble)
        for each in self.logs:
            await each.close()

    async def _write(self, to: AuditLog, entries: Sequence[LogEntry]) -> None:
        pause, again = _RETRY, False
        while True:
            try:
                await to.write(entries, again=again)
                return
            except AuditLogError as error:
                self._failed(to, str(error))
            except Exception as error:  # the guard that keeps the writing alive
                log.exception("writing to %s failed in a way it must not", to.name)
                self._failed(to, f"{type(error).__name__}")
            await asyncio.sleep(pause)
            pause, again = min(2 * pause, _LONGEST_RETRY), True

    def _failed(self, to: AuditLog, why: str) -> None:
        if self.trouble is None:
            self._away_since = time.monotonic()
            log.error("audit: %s cannot be written: %s", to.name, why)
        self.trouble = why

    def _recovered(self) -> None:
        away = time.monotonic() - self._away_since
        refused, lost = self.refused - self._told[0], self.lost - self._told[1]
        self._told = self.refused, self.lost
        why, self.trouble = self.trouble, None
        log.warning(
            "audit: writing again after %.1f s; %d changes and calls were refused, %d entries lost",
            *(away, refused, lost),
        )
        details = {"why": why, "awayMs": round(away * 1000), "refused": refused, "lost": lost}
        self.enqueue(system_entry("recording-resumed", details))


def system_entry(name: str, details: Mapping[str, Any]) -> LogEntry:
    """An entry of the recording itself."""
    facts = {"eventType": "system", "operation": {"name": name}, "details": dict(details)}
    return LogEntry.new("whole", facts | {"outcome": {"success": True, "result": "done"}})
