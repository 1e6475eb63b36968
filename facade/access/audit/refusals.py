"""Refusals, recorded one by one while they are few, and counted when they are many.

A flood of them must not fill a disk: of one caller a few a minute are recorded singly, of all
anonymous ones together some more; what is beyond is counted by caller and kind, and the counts are
recorded once a minute.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_discovery.facade.access.audit.event import LogEntry
from mcp_discovery.facade.access.audit.journal import Journal

#: Seconds for which refusals are counted together.
INTERVAL = 60.0
#: How many refusals are recorded singly in that time: of one caller, and of all anonymous ones.
SINGLY, SINGLY_ANONYMOUS = 20, 60
#: How many callers and kinds are counted apart; all others are counted by their kind alone.
_APART = 50


@dataclass(eq=False)
class Refusals:
    """Takes refusals in, for :class:`Journal`."""

    journal: Journal
    interval: float = INTERVAL
    _singly: Counter[str] = field(default_factory=Counter, init=False)
    _counted: dict[tuple[str, str], _Counted] = field(default_factory=dict, init=False)

    def add(self, key: str, anonymous: bool, facts: Mapping[str, Any]) -> None:
        """Records, or counts, a refusal of the caller ``key``; ``facts`` are the event's."""
        allowed = self._singly[key] < SINGLY
        if anonymous:
            allowed = allowed and self._singly[""] < SINGLY_ANONYMOUS
        if allowed:
            self._singly[key] += 1
            self._singly[""] += anonymous
            self.journal.enqueue(LogEntry.new("whole", facts))
            return
        outcome = facts["outcome"]
        kind = f"{outcome.get('status')} {outcome.get('problem')}"
        place = key, kind
        if place not in self._counted and len(self._counted) >= _APART:
            place, facts = ("", kind), {**facts, "actor": {"userId": "", "by": "several"}}
        counted = self._counted.setdefault(place, _Counted(facts, time.time()))
        counted.number += 1

    def flush(self) -> None:
        """Records what was counted, and begins anew."""
        counted, self._counted = self._counted, {}
        self._singly.clear()
        for each in counted.values():
            facts = {name: each.facts[name] for name in ("eventType", "actor", "operation")}
            outcome = {**each.facts["outcome"], "count": each.number}
            outcome.pop("durationMs", None)
            details = {"since": round(each.since), "until": round(time.time())}
            self.journal.enqueue(
                LogEntry.new("whole", {**facts, "outcome": outcome, "details": details})
            )

    async def run(self) -> None:
        """Records counts once in each interval, until it is cancelled."""
        while True:
            await asyncio.sleep(self.interval)
            self.flush()


@dataclass(slots=True)
class _Counted:
    """Refusals of one kind, since a POSIX time; ``facts`` are of the first of them."""

    facts: Mapping[str, Any]
    since: float
    number: int = 0
