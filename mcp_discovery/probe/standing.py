"""From verdicts to a state: a server whose answers waver has one, and it is published once.

What is published wakes every watcher of the store, and leaves a line in a log. So

* a turn for the worse is published at once, and so is one for the better;
* who relapses within a TTL of its return for the third time in a row *wavers*: it is better once it
  was so for a while, which grows with each relapse up to the TTL, and its reason says so;
* while the status stays, another reason is published at most once a TTL, and none of those that
  take turns with the one that is. Reasons that differ in figures alone are the same.
"""

from __future__ import annotations

import math
import re

from mcp_discovery.health import Status
from mcp_discovery.probe.verdict import Verdict

#: Figures in a reason: durations, counts, ports, ids, times of day. The status of an HTTP answer
#: and the code of a JSON-RPC error are none: another one is another reason.
_FIGURES = re.compile(r"(?<![\w.:-])(?<!HTTP )(?<!error )[\w.:-]*\d[\w.:-]*")
#: Who wavers for the first time is better after the time for so many good answers, in intervals.
_ANSWERS = 3
#: Relapses within a TTL of a return after which the next return is still believed at once: who is
#: repaired may fail again, and be restarted.
_FORGIVEN = 2

_BADNESS = tuple(Status).index


def without_figures(text: str) -> str:
    """``text`` without what may differ between two sentences that say the same."""
    return _FIGURES.sub("#", text)


class SteadyReason:
    """The one of several reasons that is published while they take turns.

    Another is published at once where it is new and none was for ``period`` seconds, and else once
    the present one did not come for as long. Times are in seconds of the monotonic clock.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._published: str | None = None
        self._words = ""  # what is published, without its figures
        self._changed = -math.inf
        self._came: dict[str, float] = {}  # words → when they last came

    def take(self, reason: str, now: float) -> str:
        """What is published after ``reason`` was found ``now``."""
        words = without_figures(reason)
        came = {each: at for each, at in self._came.items() if now - at < self._period}
        self._came = came | {words: now}
        if self._published is None:
            self._published, self._words = reason, words
        elif words != self._words:
            new = words not in came and now - self._changed >= self._period
            if new or self._words not in came:
                self._published, self._words, self._changed = reason, words, now
        return self._published

    def forget(self) -> None:
        """Whatever comes next is published."""
        self._published = None
        self._changed = -math.inf
        self._came = {}


class Standing:
    """The published verdict on one server with a TTL of ``ttl`` seconds, which is probed every
    ``interval`` seconds; ``known`` was published before, by whomever."""

    def __init__(self, *, ttl: float, interval: float, known: Verdict | None = None) -> None:
        self._ttl = ttl
        self._least = min(ttl, _ANSWERS * interval)
        self._reason = SteadyReason(ttl)
        self._known = known
        self._taken = False  # whether what is known was published here
        self._improved = -math.inf  # when its status was last published as a better one
        self._better_since: float | None = None  # than published, without a break
        self._better_at = -math.inf  # the last time that it was
        self._relapses = 0
        #: For how long it has to be better; 0 for who does not waver.
        self._patience = 0.0

    def take(self, found: Verdict, now: float) -> Verdict:
        """What is published after ``found`` was found ``now`` (``time.monotonic()``)."""
        before = self._known
        turn = 0 if before is None else _BADNESS(found.status) - _BADNESS(before.status)
        if turn < 0:
            self._better_at = now
            if self._better_since is None:
                self._better_since = now
            if before is not None and now - self._better_since < self._patience:
                return before
            if self._taken:
                self._improved = now
        else:
            self._better_since = None
            if turn > 0 and now - self._improved < self._ttl:
                self._better_at = now
                self._relapses += 1
                if self._relapses > _FORGIVEN:
                    self._patience = min(self._ttl, max(self._least, 2 * self._patience))
            elif now - self._better_at >= self._ttl:
                self._relapses, self._patience = 0, 0.0
        if turn or not self._taken:
            self._reason.forget()
        self._taken = True
        self._known = Verdict(found.status, self._reason.take(self._worded(found), now))
        return self._known

    def _worded(self, found: Verdict) -> str:
        if not self._patience or found.status is Status.HEALTHY:
            return found.reason
        return f"{found.reason}; it wavers: its return counts after {self._patience:g} s"
