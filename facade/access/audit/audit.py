"""The audit of one facade: a middleware that records, and what it records to."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.extras import require_extra
from mcp_discovery.facade.access.audit.decisions import fields_of, is_refusal
from mcp_discovery.facade.access.audit.journal import (
    AuditLog,
    AuditLogError,
    AuditUnavailableError,
    Journal,
    system_entry,
)
from mcp_discovery.facade.access.audit.lines import LinesLog
from mcp_discovery.facade.access.audit.recording import (
    RECORDING,
    Recording,
    current_recording,
    named_in,
    outcome_of,
    target_of,
)
from mcp_discovery.facade.access.audit.refusals import Refusals
from mcp_discovery.facade.access.audit.settings import AuditSettings
from mcp_discovery.facade.access.caller import caller_if_known
from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.operation import needs_of
from mcp_discovery.facade.http.problems import Handler
from mcp_discovery.instance import Instance
from mcp_discovery.version import installed_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mcp_discovery.facade.access.audit.database import DatabaseLog

log = logging.getLogger(__name__)

#: Seconds between two removals of events that are too old.
_PRUNE_EVERY = 3600.0
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class Audit:
    """Records by ``settings`` what requests change, call, and are refused."""

    def __init__(self, settings: AuditSettings) -> None:
        self.settings = settings
        logs: list[AuditLog] = []
        if settings.file is not None:
            logs.append(LinesLog(settings.file))
        #: The log that can be asked, if there is one.
        self.store: DatabaseLog | None = None
        if settings.store is not None:
            self.store = database_log(settings)
            logs.append(self.store)
        self.journal = Journal(logs, patience=settings.patience)
        self.refusals = Refusals(self.journal)
        #: Held by who verifies the whole log.
        self.verifying = asyncio.Lock()

    @web.middleware
    async def record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Records what the request changes before it does, and how it ended before it is answered.

        It stands before everything that refuses.
        """
        recording = Recording(request, self.journal, self.settings.arguments)
        RECORDING.set(recording)
        try:
            response = await handler(request)
        except DiscoveryError as error:
            with suppress(AuditUnavailableError):  # the change has failed, and that is answered
                await self._ended(recording, error)
            raise
        except web.HTTPException as error:
            await self._ended(recording, error)
            raise
        except Exception as error:
            with suppress(AuditUnavailableError):
                await self._ended(recording, error)
            raise
        finally:
            recording.closed = True
        await self._ended(recording, response)
        return response

    async def _ended(self, recording: Recording, found: web.StreamResponse | Exception) -> None:
        request = recording.request
        needs = needs_of(request)
        status = getattr(found, "status", 500)
        changes = needs in ("register", "admin") and request.method not in _SAFE
        if not (changes or status >= 400 or recording.has_changes):
            return
        outcome = outcome_of(request, found)
        if await recording.close(outcome):
            return
        if recording.has_calls:
            return
        status = outcome["status"]
        if status < 400:
            if changes and not recording.is_heartbeat:
                await recording.whole("none", outcome)
            return
        error = found if isinstance(found, Exception) else None
        if is_refusal(needs, outcome, error):
            self._refused(recording, outcome, error)

    def _refused(
        self, recording: Recording, outcome: Mapping[str, object], error: Exception | None
    ) -> None:
        """Records that something was refused to the caller of a request."""
        match = recording.request.match_info
        target = {name: each for name, each in match.items() if name in ("id", "name", "digest")}
        if error is not None:
            target |= named_in(error)
        self.refused(recording, outcome, {"kind": "server", **target} if target else {}, error)

    def refused_in_part(self, error: Exception, named: Mapping[str, str]) -> None:
        """Records that of what the current request asks for the server that is ``named`` was
        refused, where ``error`` is a refusal."""
        recording = current_recording()
        if recording is None or recording.has_change(named.get("id")):
            return  # what was begun tells itself how it ended
        outcome = outcome_of(recording.request, error)
        if is_refusal(needs_of(recording.request), outcome, error):
            self.refused(recording, outcome, {"kind": "server", **named_in(error), **named}, error)

    def refused(
        self,
        recording: Recording,
        outcome: Mapping[str, object],
        target: Mapping[str, object],
        error: Exception | None = None,
    ) -> None:
        """Records, or counts, a refusal to the caller of a request."""
        request = recording.request
        caller = caller_if_known(request)
        anonymous = caller is None or caller.is_anonymous
        key = caller.key if caller is not None else f"unknown:{client_of(request).address}"
        facts = recording.facts("refusal", needs_of(request))
        if target:
            facts["target"] = target
        if error is not None and (fields := fields_of(error)):
            facts["details"] = {"fields": fields}
        took = round((time.monotonic() - recording.began) * 1000)
        self.refusals.add(key, anonymous, {**facts, "outcome": {**outcome, "durationMs": took}})

    def quarantined(self, instance: Instance, why: str) -> None:
        """Records that an instance of the store breaks a rule, and is offered to nobody."""
        entry = system_entry("quarantined", {"why": why})
        target = target_of(instance.record, None, instance.lease.holder.owner)
        self.journal.enqueue(replace(entry, facts={**entry.facts, "target": target}))

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """From start to clean-up of the application, for as long as anything is recorded.

        A log that is away at the start is no reason not to serve: until it is there, changes are
        refused. Raises :class:`~mcp_discovery.errors.InvalidInputError` where that is for good.
        """
        for each in self.journal.logs:
            try:
                await each.open()
            except AuditLogError as error:
                log.error("audit: %s cannot be opened yet: %s", each.name, error)
        facade = {"host": socket.gethostname(), "pid": os.getpid(), "version": installed_version()}
        self.journal.enqueue(system_entry("recording-began", facade))
        writing = asyncio.create_task(self.journal.run(), name="audit: write")
        beside = [asyncio.create_task(self.refusals.run(), name="audit: refusals")]
        if self.store is not None and self.settings.keep is not None:
            pruning = self._prune(self.store, self.settings.keep)
            beside.append(asyncio.create_task(pruning, name="audit: prune"))
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            self.refusals.flush()
            self.journal.enqueue(system_entry("recording-ended", facade))
            await self.journal.close(writing)

    async def _prune(self, store: DatabaseLog, keep: float) -> None:
        while True:
            try:
                if removed := await store.prune(time.time() - keep):
                    log.info("audit: removed %d entries older than %g s", removed, keep)
            except AuditLogError as error:
                log.warning("audit: old events cannot be removed now: %s", error)
            except Exception:  # the guard that keeps the pruning alive
                log.exception("audit: removing old events failed in a way it must not")
            await asyncio.sleep(_PRUNE_EVERY)


AUDIT = web.AppKey("audit", Audit)


def database_log(settings: AuditSettings) -> DatabaseLog:
    """The store of ``settings``; raises :class:`~mcp_discovery.errors.MissingExtraError`, and
    :class:`~mcp_discovery.errors.InvalidInputError`."""
    assert settings.store is not None
    backend = settings.store.partition(":")[0].partition("+")[0]
    require_extra("postgres" if backend.startswith("postgres") else "audit", "--audit-store")
    from mcp_discovery.facade.access.audit.database import DatabaseLog

    password = settings.password
    if password is None:
        return DatabaseLog(settings.store)
    return DatabaseLog(settings.store, password.current)


class AuditFigures(Collector):
    """The audit's figures for Prometheus."""

    def __init__(self, audit: Audit) -> None:
        self._journal = audit.journal

    def collect(self) -> Iterable[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        journal = self._journal
        for name, text, number in (
            ("audit_entries", "Entries written to the audit.", journal.written),
            (
                "audit_refused",
                "Changes and calls refused as they could not be recorded.",
                journal.refused,
            ),
            (
                "audit_lost",
                "Entries of refusals and ends that did not fit into memory.",
                journal.lost,
            ),
        ):
            yield CounterMetricFamily(f"mcp_discovery_{name}", text, number)
        text = "Entries that wait to be written to the audit."
        yield GaugeMetricFamily("mcp_discovery_audit_waiting", text, len(journal))
        text = "1 while the audit cannot be written, 0 otherwise."
        away = int(journal.trouble is not None)
        yield GaugeMetricFamily("mcp_discovery_audit_away", text, away)
