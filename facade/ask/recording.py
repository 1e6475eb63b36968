"""What the audit keeps of a question: ``api_request`` before it is asked, and ``api_response`` or
``api_error`` at its end. The calls that a model makes are recorded as all calls are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mcp_discovery.disconnects import ClientGoneError
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.access.audit.event import EventType, LogEntry
from mcp_discovery.facade.access.audit.recording import Recording, current_recording

#: How much of a question is kept, in characters.
_KEPT = 100


class RecordedQuestion:
    """One question that is recorded, where anything is."""

    def __init__(self, recording: Recording | None, more: dict[str, Any]) -> None:
        self._recording = recording
        self._more = more
        self._began = time.monotonic()
        self._error: BaseException | None = None

    @classmethod
    async def begin(
        cls, question: str, scopes: Sequence[str], user: str | None
    ) -> RecordedQuestion:
        """Records that ``question`` is about to be asked, durable on return; ``user`` is for whom,
        where that is not the caller.

        Raises :class:`~mcp_discovery.facade.access.audit.journal.AuditUnavailableError`.
        """
        recording = current_recording()
        on_behalf: dict[str, Any] = {} if user is None else {"onBehalfOf": user}
        found = cls(recording, on_behalf)
        if recording is not None:
            recording.has_calls = True  # it tells itself how it ended
            asked = {"request": {"question": question[:_KEPT]}, "scope": list(scopes)}
            entry = found._entry(recording, "api_request", {**asked, "outcome": _DONE})
            await recording.journal.write(entry)
        return found

    def failed(self, error: BaseException) -> None:
        """Why there is no answer."""
        self._error = error

    @contextmanager
    def ended(self) -> Iterator[None]:
        """Records how it ended when the block does."""
        try:
            yield
        except BaseException as error:
            self.failed(error)
            raise
        finally:
            if self._recording is not None:
                self._record(self._recording)

    def _record(self, recording: Recording) -> None:
        took = {"durationMs": round((time.monotonic() - self._began) * 1000)}
        kind: EventType = "api_response" if self._error is None else "api_error"
        match self._error:
            case None:
                outcome: dict[str, Any] = {**_DONE}
            case DiscoveryError() as error if not isinstance(error, ClientGoneError):
                outcome = {"success": False, "result": "failed", "error": str(error)}
            case Exception() as error if not isinstance(error, ClientGoneError):
                outcome = {"success": False, "result": "failed", "error": type(error).__name__}
            case _:
                outcome = {"success": None, "result": "unknown", "error": "the client went away"}
        recording.journal.enqueue(self._entry(recording, kind, {"outcome": {**outcome, **took}}))

    def _entry(self, recording: Recording, kind: EventType, more: dict[str, Any]) -> LogEntry:
        facts = recording.facts(kind, "ask")
        return LogEntry.new("whole", {**facts, **self._more, **more})


_DONE = {"success": True, "result": "done"}
