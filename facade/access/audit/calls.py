"""Calls of tools, recorded before they are made; the end of each when it is over."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from mcp_discovery.errors import UnknownToolError
from mcp_discovery.facade.access.audit.audit import AUDIT
from mcp_discovery.facade.access.audit.chain import canonical, digest_of
from mcp_discovery.facade.access.audit.event import LogEntry
from mcp_discovery.facade.access.audit.journal import AuditUnavailableError
from mcp_discovery.facade.access.audit.recording import (
    Recording,
    current_recording,
    outcome_of,
    target_of,
)
from mcp_discovery.facade.access.calling import PartialAccess
from mcp_discovery.facade.gateway.messages import NOT_SEEN, Arguments, Messages
from mcp_discovery.instance import Instance
from mcp_discovery.mcp_messages import JsonRpcError
from mcp_discovery.secrets import without_secrets

#: The largest arguments that are recorded whole, and what is read of an answer at most, in bytes.
_LARGEST_ARGUMENTS, _MOST_READ = 16 * 2**10, 64 * 2**10


@dataclass(eq=False)
class RecordedCall:
    """One call that was recorded, and is on its way. ``id`` is that of its JSON-RPC request."""

    recording: Recording
    entry: LogEntry
    id: Any = None
    began: float = field(default_factory=time.monotonic)
    _target: dict[str, Any] = field(default_factory=dict)
    _over: bool = False

    def reaches(self, instance: Instance) -> None:
        """Says which instance the call goes to."""
        target = target_of(instance.record, None, instance.lease.holder.owner)
        self._target = {**target, "kind": "tool"}

    def end(self, outcome: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> None:
        """Has the end of the call recorded soon; only the first end counts."""
        if self._over:
            return
        self._over = True
        took = round((time.monotonic() - self.began) * 1000)
        facts: dict[str, Any] = {**(more or {}), "outcome": {**outcome, "durationMs": took}}
        if self._target:
            facts["target"] = self._target
        self.recording.journal.enqueue(LogEntry.new("ended", facts, self.entry.event_id))

    def end_with(self, found: Mapping[str, Any] | BaseException) -> None:
        """The same, with the tool's result, or with what was raised."""
        match found:
            case JsonRpcError():
                self.end(_of_error(found.code, found.message))
            case UnknownToolError():  # there is none, or none that the caller may call
                refused = {"result": "refused", "problem": "unknown-tool", "error": str(found)}
                self.end({"success": False} | refused)
            case Exception():
                self.end(outcome_of(self.recording.request, found))
            case BaseException():
                self.end({"success": None, "result": "unknown", "error": "the client went away"})
            case _:
                self.end(_of_result(found))


#: The call that the current task makes.
CALL: ContextVar[RecordedCall | None] = ContextVar("recorded call", default=None)


async def begin_call(
    server: str, tool: str, arguments: Arguments, *, id: Any = None
) -> RecordedCall | None:
    """Records that ``tool`` is about to be called, durable on return; ``None`` where nothing is
    recorded.

    Raises :class:`AuditUnavailableError`; then it must not be called.
    """
    recording = current_recording()
    if recording is None:
        return None
    facts = recording.facts("call", "call")
    facts["target"] = {"kind": "tool", "name": server, "tool": tool}
    if arguments is not NOT_SEEN:
        facts["arguments"] = told_arguments(arguments, whole=recording.whole_arguments)
    entry = LogEntry.new("begun", facts)
    try:
        await recording.journal.write(entry)
    except AuditUnavailableError as error:
        if error.queued:
            RecordedCall(recording, entry).end_with(error)
        raise
    recording.has_calls = True
    return RecordedCall(recording, entry, id)


def refuse_call(server: str, tool: str, why: str) -> None:
    """Records that a call of ``tool`` was refused before it began, where anything is recorded."""
    if (recording := current_recording()) is not None:
        recording.has_calls = True  # they tell themselves how they ended
        outcome = {"success": False, "result": "refused", "error": why}
        target = {"kind": "tool", "name": server, "tool": tool}
        recording.request.app[AUDIT].refused(recording, outcome, target)


def told_arguments(arguments: object, *, whole: bool) -> dict[str, Any]:
    """What is recorded of a call's arguments: their hash, and with ``whole`` themselves."""
    try:
        told: dict[str, Any] = {"sha256": digest_of(arguments or {})}
        if whole:
            shown = without_secrets(arguments or {})
            fits = len(canonical(shown)) <= _LARGEST_ARGUMENTS
            told |= {"json": orjson.dumps(shown).decode()} if fits else {"tooLarge": True}
    except (TypeError, orjson.JSONEncodeError):  # a number or a text that JSON cannot have
        return {"sha256": None}
    return told


def _of_error(code: object, message: object) -> dict[str, Any]:
    problem = f"json-rpc {code}"
    return {"success": False, "result": "failed", "problem": problem, "error": message}


def _of_result(result: Mapping[str, Any]) -> dict[str, Any]:
    if not result.get("isError"):
        return {"success": True, "result": "done"}
    content = result.get("content")
    texts = [each.get("text") for each in content or () if isinstance(each, dict)]
    said = next((each for each in texts if isinstance(each, str)), None)
    return {"success": False, "result": "failed", "problem": "tool-error", "error": said or ""}


# -- what the gateway passes on ----------------------------------------------------------------


class PassedCalls:
    """The calls in one request to the gateway, one or a batch.

    They are recorded when they are about to be passed on, and not before. A body of which it is
    not known what servers read in it is told by the SHA-256 of its bytes, when it has passed.
    """

    def __init__(self, request: web.Request, server: str, messages: Messages) -> None:
        self._request = request
        self._server = server
        self._messages = messages
        self._calls: list[RecordedCall] = []
        self._begun = False
        self._answer = b""
        self._sent: hashlib._Hash | None = None
        self._sent_bytes = 0

    @classmethod
    def of(cls, request: web.Request, server: str, messages: Messages) -> PassedCalls | None:
        """The calls in ``messages``; ``None`` where there are none, or nothing is recorded."""
        if current_recording() is None or not messages.calls:
            return None
        return cls(request, server, messages)

    async def begin(self, instance: Instance, body: bytes) -> None:
        """Records that they are about to be passed on to ``instance``; only once, whichever
        instances are tried. ``body`` is what is buffered of it.

        Raises :class:`AuditUnavailableError`; then they must not be.
        """
        if not self._begun:
            self._begun = True
            listed = self._messages.calls
            begun = (begin_call(self._server, tool, told, id=id) for id, tool, told in listed)
            found = await asyncio.gather(*begun, return_exceptions=True)
            self._calls = [each for each in found if isinstance(each, RecordedCall)]
            for each in found:
                if isinstance(each, BaseException):
                    raise each
            if not self._messages.whole or any(told is NOT_SEEN for _, _, told in listed):
                self._sent = hashlib.sha256()
                self.send(body)
        for call in self._calls:
            call.reaches(instance)

    async def recorded(self, forwarding: Awaitable[web.StreamResponse]) -> web.StreamResponse:
        """What ``forwarding`` returns; the calls that it began end with it."""
        try:
            response = await forwarding
        except BaseException as error:
            for each in self._calls:
                each.end_with(error)
            raise
        self._end(response)
        return response

    def refused(self, instance: Instance, response: web.Response, access: PartialAccess) -> None:
        """Records which of them ``access`` does not allow, and ``response`` was the answer to."""
        recording = current_recording()
        if recording is None:
            return
        recording.has_calls = True  # they tell themselves how it ended
        audit = self._request.app[AUDIT]
        target = {**target_of(instance.record, None, instance.lease.holder.owner), "kind": "tool"}
        results = _results_of(response)
        for id, tool, _ in self._messages.calls:
            if response.status < 400 and tool and access.allows("tools", tool):
                continue  # it was not sent because of another
            told = {**outcome_of(self._request, response), "success": False, "result": "refused"}
            if isinstance(error := results.get(str(id), {}).get("error"), dict):
                told |= _of_error(error.get("code"), error.get("message")) | {"result": "refused"}
            audit.refused(recording, told, {**target, "tool": tool})

    def send(self, part: bytes) -> None:
        """Takes a part of a body that is not buffered, as it passes."""
        if self._sent is not None:
            self._sent.update(part)
            self._sent_bytes += len(part)

    def read(self, part: bytes) -> None:
        """Takes a part of the answer, as it passes."""
        if len(self._answer) <= _MOST_READ:
            self._answer += part

    def _end(self, response: web.StreamResponse) -> None:
        """Records how they ended, by what is known of the answer."""
        if not self._calls:
            return
        results = dict(_results_in(self._answer)) if len(self._answer) <= _MOST_READ else {}
        transport = self._request.transport
        broken = transport is None or transport.is_closing()
        for each in self._calls:
            told = outcome_of(self._request, response)
            message = results.get(str(each.id), {})
            if isinstance(error := message.get("error"), dict) and response.status < 400:
                told |= _of_error(error.get("code"), error.get("message"))
            elif isinstance(result := message.get("result"), dict):
                told |= _of_result(result)
            elif broken:
                told |= {"success": None, "result": "unknown", "error": "the answer broke off"}
            if self._sent is not None:
                sent = {"bodySha256": self._sent.hexdigest(), "bodyBytes": self._sent_bytes}
                each.end(told, {"arguments": sent})
            else:
                each.end(told)


def _results_of(response: web.StreamResponse) -> dict[str, Mapping[str, Any]]:
    """The responses that the facade gave itself, by their ids."""
    body = getattr(response, "body", None)
    return dict(_results_in(body)) if isinstance(body, bytes) else {}


def _results_in(answer: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The responses in an answer, by their ids: of one JSON, or of server-sent events."""
    texts = [answer]
    if not answer.lstrip().startswith((b"{", b"[")):
        lines = answer.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        texts = [each[5:] for each in lines if each.startswith(b"data:")]
    for text in texts:
        try:
            found = orjson.loads(text)
        except ValueError:
            continue
        for each in found if isinstance(found, list) else [found]:
            if isinstance(each, dict) and ("result" in each or "error" in each):
                yield str(each.get("id")), each
