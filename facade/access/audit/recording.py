"""What is recorded of one request: its caller, its changes, and how they ended."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.access.audit.chain import digest_of
from mcp_discovery.facade.access.audit.decisions import leads_astray
from mcp_discovery.facade.access.audit.event import EventType, LogEntry, Result
from mcp_discovery.facade.access.audit.journal import AuditUnavailableError, Journal
from mcp_discovery.facade.access.caller import Caller, caller_if_known
from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.operation import needs_of
from mcp_discovery.facade.http.problems import ProblemError, problem_of
from mcp_discovery.facade.http.tracing import request_id
from mcp_discovery.record import Record
from mcp_discovery.telemetry.spans import ids

#: The trace id of W3C Trace Context.
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
#: Heartbeats are no changes: they go on while nothing can be recorded, or servers would vanish.
_HEARTBEAT = "/heartbeat"


@dataclass(slots=True)
class _Change:
    """A change of one instance in one request; ``error`` is why it was not made."""

    entry: LogEntry
    ended: dict[str, Any]
    began: float
    error: Exception | None = None


@dataclass(eq=False)
class Recording:
    """What is recorded of ``request``."""

    request: web.Request
    journal: Journal
    #: Whether the arguments of calls are recorded whole, and not only their hash.
    whole_arguments: bool = False
    began: float = field(default_factory=time.monotonic)
    #: Whether the request is over: what it has started goes on without it.
    closed: bool = False
    #: Whether a call was recorded, which tells itself how it ended.
    has_calls: bool = False
    _changes: dict[str, _Change] = field(default_factory=dict)

    @property
    def has_changes(self) -> bool:
        """Whether it was recorded that something changes."""
        return bool(self._changes)

    def has_change(self, id: str | None) -> bool:
        """Whether it was recorded that the instance ``id`` changes."""
        return id in self._changes

    @property
    def route(self) -> str:
        """The pattern of the path."""
        resource = self.request.match_info.route.resource
        return "other" if resource is None else resource.canonical

    @property
    def is_heartbeat(self) -> bool:
        """Whether it is a heartbeat, which is never held up."""
        return self.route.endswith(_HEARTBEAT)

    def facts(self, type: EventType, name: str) -> dict[str, Any]:
        """What every event of the request says: who, by which operation, and under which ids."""
        request = self.request
        operation = {"name": name, "method": request.method, "route": self.route}
        operation["needs"] = needs_of(request)
        found: dict[str, Any] = {
            "eventType": type,
            "actor": actor_of(request),
            "operation": operation,
            "requestId": request_id() or "",
        }
        if (known := ids()) is not None:
            found["traceId"] = known.trace
        elif (trace := _TRACE.fullmatch(request.headers.get("traceparent", ""))) is not None:
            found["traceId"] = trace[1]
        return found

    # -- changes -----------------------------------------------------------------------------

    async def change(
        self,
        name: str,
        record: Record,
        before: Entry | None,
        *,
        owner: str | None = None,
        gone: bool = False,
    ) -> None:
        """Records that an instance is about to change, durable on return.

        Raises :class:`AuditUnavailableError`; then it must not change.
        """
        id = record.id
        after = {} if gone else {"after": digests_of(record)}
        if (known := self._changes.get(id)) is not None:
            known.error = None
            known.ended["digests"] = after
            return
        if self.request.method == "DELETE":
            name, after = "deregister", {}
        facts = self.facts("change", name)
        facts["target"] = target_of(record, before, owner)
        digests = {**after}
        if before is not None:
            digests["before"] = digests_of(before.record)
        facts["digests"] = digests
        await self._begin(id, facts)

    async def query_change(self, name: str, before: bytes | None, after: bytes | None) -> None:
        """Records that the definition of a named query is about to be ``after``, ``None`` for
        none, durable on return; raises as :meth:`change` does."""
        facts = self.facts("change", "remove-query" if after is None else "keep-query")
        facts["target"] = {"kind": "query", "name": name}
        definitions = {"before": before, "after": after}
        facts["digests"] = {
            when: {"definition": hashlib.sha256(each).hexdigest()}
            for when, each in definitions.items()
            if each is not None
        }
        await self._begin(query_key(name), facts)

    async def _begin(self, key: str, facts: dict[str, Any]) -> None:
        entry = LogEntry.new("begun", facts)
        if self.is_heartbeat:
            self.journal.enqueue(entry)
        else:
            try:
                await self.journal.write(entry)
            except AuditUnavailableError as error:
                if error.queued:
                    refused = {"outcome": outcome_of(self.request, error)}
                    self.journal.enqueue(LogEntry.new("ended", refused, entry.event_id))
                raise
        self._changes[key] = _Change(entry, {}, time.monotonic())

    def failed(self, id: str, error: Exception) -> None:
        """The change of ``id`` that was announced was not made, because of ``error``."""
        if (change := self._changes.get(id)) is not None:
            change.error = error

    def status(self, record: Record, owner: str | None, before: str, after: str) -> None:
        """Records that a heartbeat changed an instance's status."""
        facts = self.facts("status", "heartbeat")
        facts["target"] = target_of(record, None, owner)
        facts["details"] = {"before": before, "after": after}
        facts["outcome"] = {"success": True, "result": "done"}
        self.journal.enqueue(LogEntry.new("whole", facts))

    def session(self, name: str, caller: Caller, began_by: str) -> None:
        """Records that ``caller`` signed in or out (``name``), by a token or an issuer."""
        facts = self.facts("session", name)
        facts["actor"] = _actor(caller)
        facts["details"] = {"beganBy": began_by}
        facts["outcome"] = {"success": True, "result": "done"}
        self.journal.enqueue(LogEntry.new("whole", facts))

    async def close(self, outcome: Mapping[str, Any]) -> bool:
        """Ends all changes with the request's ``outcome``, durable on return.

        Returns whether there were any. Raises :class:`AuditUnavailableError`: what was changed is
        changed then, and the end of it is recorded when that is possible.
        """
        self.closed = True
        changes = list(self._changes.values())
        last: LogEntry | None = None
        for each in changes:
            if last is not None:
                self.journal.enqueue(last)
            told = dict(outcome)
            if each.error is not None:
                told = outcome_of(self.request, each.error)
            told["durationMs"] = round((time.monotonic() - each.began) * 1000)
            last = LogEntry.new("ended", {**each.ended, "outcome": told}, each.entry.event_id)
        if last is not None:
            await self._write(last)
        return bool(changes)

    async def whole(self, name: str, outcome: Mapping[str, Any]) -> None:
        """Records an event at once, durable on return; raises :class:`AuditUnavailableError`."""
        facts = self.facts("change", name)
        facts["target"] = {"kind": "server", "id": self.request.match_info.get("id", "")}
        await self._write(LogEntry.new("whole", {**facts, "outcome": dict(outcome)}))

    async def _write(self, entry: LogEntry) -> None:
        if self.is_heartbeat:
            self.journal.enqueue(entry)
            return
        try:
            await self.journal.write(entry, keep=True)
        except AuditUnavailableError as error:
            detail = "the request was carried out, and how it ended is recorded later"
            raise AuditUnavailableError(error.why, detail, queued=True) from error


def query_key(name: str) -> str:
    """What the change of a named query is found by, which is no instance's id."""
    return f"query {name}"


#: What is recorded of the request that the current task answers.
RECORDING: ContextVar[Recording | None] = ContextVar("recording", default=None)


def current_recording() -> Recording | None:
    """The recording of the request that the current task answers, while it does."""
    found = RECORDING.get()
    return None if found is None or found.closed else found


# -- what is said ------------------------------------------------------------------------------


def actor_of(request: web.Request) -> dict[str, Any]:
    """Who asks, as far as that is known."""
    caller = caller_if_known(request)
    if caller is None:
        address = client_of(request).address
        return {"userId": "", "by": "unknown", "roles": [], "address": address}
    return _actor(caller)


def _actor(caller: Caller) -> dict[str, Any]:
    return {
        "userId": caller.subject,
        "by": caller.by,
        "roles": list(caller.roles),
        "address": caller.address,
    }


def target_of(record: Record, before: Entry | None, owner: str | None) -> dict[str, Any]:
    """An instance, with what rights are restricted by."""
    found: dict[str, Any] = {"kind": "server", "name": record.name, "id": record.id}
    if record.endpoint.url is not None:
        found["url"] = record.endpoint.url
    if before is not None and before.record.endpoint.url != record.endpoint.url:
        found["urlBefore"] = before.record.endpoint.url
    found["tags"] = list(record.tags)
    if record.zone:
        found["zone"] = record.zone
    if owner:
        found["owner"] = owner
    return found


def digests_of(record: Record) -> dict[str, Any]:
    """What tells a record, and what its server offers, apart from others."""
    found = {"record": digest_of(record.to_dict())}
    if record.capabilities.digest:
        found["document"] = record.capabilities.digest
    return found


def outcome_of(request: web.Request, found: web.StreamResponse | Exception) -> dict[str, Any]:
    """How a request ended: with a response, or with what was raised."""
    response = problem_of(request, found) if isinstance(found, Exception) else found
    status = response.status
    if status < 400:
        return {"success": True, "result": "done", "status": status}
    result: Result = "refused" if status < 500 or status == 503 else "failed"
    if isinstance(found, Exception) and leads_astray(found):
        result = "refused"
    told: dict[str, Any] = {"success": False, "result": result, "status": status}
    body = getattr(response, "body", None)
    if isinstance(body, bytes):
        told |= _told(body)
    return told


def named_in(error: Exception) -> dict[str, Any]:
    """The server and the instance that a refusal is about, where it says so."""
    facts = error.facts if isinstance(error, ProblemError) else {"id": getattr(error, "id", None)}
    return {key: facts[key] for key in ("name", "id") if isinstance(facts.get(key), str)}


def _told(body: bytes) -> dict[str, Any]:
    """The problem and the sentence in a problem document, or in an error of JSON-RPC."""
    try:
        document = orjson.loads(body)
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    found: dict[str, Any] = {}
    error = document.get("error")
    if isinstance(error, dict):
        found["error"] = error.get("message")
        document = error.get("data") if isinstance(error.get("data"), dict) else {}
    elif isinstance(error, str):
        found["error"] = error
    if isinstance(kind := document.get("type"), str):
        found["problem"] = kind.rpartition(":")[2]
    if isinstance(detail := document.get("detail"), str):
        found["error"] = detail
    return found
