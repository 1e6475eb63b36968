"""Alarms: a server without a usable instance, and a list that is stale, each for a while."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.missed import MissedInstances
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.facade.webhooks.messages import Message, new_id
from mcp_discovery.health import Status, rfc3339, utcnow
from mcp_discovery.probe.verdict import is_usable

SERVER_DOWN, LIST_STALE = "server-down", "list-stale"


@dataclass(slots=True)
class _Trouble:
    since: datetime
    begun: float = field(default_factory=time.monotonic)
    raised: bool = False
    about: tuple[Entry, ...] = ()
    reason: str = ""


@dataclass(eq=False)
class Alarms:
    """What is wrong with one list. Of a server that leaves without a goodbye an alarm stays until
    it is back, or is missed no more."""

    catalog: LiveList
    missed: MissedInstances
    _troubles: dict[tuple[str, str], _Trouble] = field(default_factory=dict, init=False)

    async def look(self, names: Iterable[str]) -> AsyncIterator[Message]:
        """Looks at the servers ``names``, of which something changed, and at the list itself; the
        messages say which alarms are over."""
        view = self.catalog.view
        gone: dict[str, list[Entry]] | None = None
        async for name in sliced(names):
            entries = [view.entries[id] for id in view.having("name", name)]
            if not entries and gone is None:
                gone = self._gone()
            missed = [] if gone is None else gone.get(name, [])
            for message in self._see((SERVER_DOWN, name), *_down(entries, missed)):
                yield message
        for message in self._see((LIST_STALE, ""), view.stale_since, (), view.problem or ""):
            yield message

    def due(self, after: float) -> Iterator[Message]:
        """The alarms about what is wrong for ``after`` seconds by now."""
        now = time.monotonic()
        for key, trouble in self._troubles.items():
            if not trouble.raised and now - trouble.begun >= after:
                trouble.raised = True
                yield _message("alarm.raised", key, trouble)

    def _gone(self) -> dict[str, list[Entry]]:
        found: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in self.missed.entries():
            found[entry.record.name].append(entry)
        return found

    def _see(
        self,
        key: tuple[str, str],
        since: datetime | None,
        about: tuple[Entry, ...],
        reason: str,
    ) -> Iterator[Message]:
        if since is None:
            trouble = self._troubles.pop(key, None)
            if trouble is not None and trouble.raised:
                yield _message("alarm.cleared", key, trouble)
            return
        trouble = self._troubles.setdefault(key, _Trouble(since))
        trouble.about, trouble.reason = about or trouble.about, reason


def _down(
    entries: list[Entry], gone: list[Entry]
) -> tuple[datetime | None, tuple[Entry, ...], str]:
    """Since when no instance of a server is usable, which they are, and why the last one is not;
    ``None`` where one is, or where all that are left are draining. ``gone`` are the missed ones."""
    troubled = [each for each in entries if each.health.status is not Status.DRAINING]
    if any(is_usable(each.health) for each in entries) or (entries and not troubled):
        return None, (), ""
    troubled = troubled or gone
    if not troubled:
        return None, (), ""
    last = max(troubled, key=lambda each: each.health.since)
    return last.health.since, tuple(troubled), last.health.reason


def names_in(view: View) -> list[str]:
    """The names of all servers in ``view``."""
    return list(view.keys("name"))


def _message(type: str, key: tuple[str, str], trouble: _Trouble) -> Message:
    alarm, name = key
    data: dict[str, Any] = {"alarm": alarm, "since": rfc3339(trouble.since)}
    if name:
        data["name"] = name
        data["instances"] = [each.id for each in trouble.about[:50]]
    data["reason"] = trouble.reason[:1000]
    return Message(new_id(), type, utcnow(), data, trouble.about)
