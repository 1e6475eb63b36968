"""What a bridge measures of the requests that pass through it, and of the processes behind it."""

from __future__ import annotations

import asyncio
import heapq
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from mcp_discovery.health import MOST_TOOLS, Load, ToolUse, most_used
from mcp_discovery.mcp_messages import SESSION, VERSION, JsonRpcError
from mcp_discovery.sidecar.metrics import Family, Histogram, Labels, Sample, family
from mcp_discovery.sidecar.process_figures import ProcessFigures
from mcp_discovery.telemetry.conventions import mcp_failure, mcp_request, mcp_result
from mcp_discovery.usage_window import Window

#: How many tools have figures of their own; the calls of all others are counted under one name.
MOST_LABELS: Final = 256
#: The name of the tools that have no figures of their own. No tool has it: it has a blank.
OTHERS: Final = "other tools"
#: What a client asks whether or not it wants anything, and so does whoever watches the server; and
#: what lasts for as long as the client likes. Neither is work of the server.
_NO_WORK: Final = frozenset(("initialize", "server/discover", "ping", "subscriptions/listen"))
#: How many requests a server is taken to answer at once where nobody says how many.
CAPACITY: Final = 20
_OWN: Final = "Mcp-Discovery-Sidecar"
#: How many seconds the slots of a tool's window span; there may be many such windows.
_TOOL_SLOT: Final = 60.0
#: By how much the mean of requests in flight must differ from what was reported, to report it anew.
_STEADY: Final = 0.75


class _Counts:
    """How requests ended, since the bridge began."""

    def __init__(self, slot: float) -> None:
        self.window = Window(time.monotonic(), slot)
        self.durations = Histogram()
        self.errors = self.cancelled = 0

    def add(self, now: float, seconds: float, *, failed: bool) -> None:
        self.errors += failed
        self.durations.add(seconds)
        self.window.add(now, seconds, not failed)

    def outcomes(self, labels: Labels) -> Iterator[Sample]:
        """One sample for each way in which a request may end."""
        yield {**labels, "outcome": "ok"}, self.durations.count - self.errors
        yield {**labels, "outcome": "error"}, self.errors
        yield {**labels, "outcome": "cancelled"}, self.cancelled


class CountedRequest:
    """One request, from its arrival to its answer; for ``with``.

    ``failed`` is to be set where the answer is an error; an exception sets it. A request that is
    cancelled, since its client has left for instance, has neither succeeded nor failed.
    """

    __slots__ = ("_began", "_counts", "_figures", "failed")

    def __init__(self, figures: BridgeFigures, counts: tuple[_Counts, ...]) -> None:
        self.failed = False
        self._figures = figures
        self._counts = counts
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = self._figures._moved(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        now = self._figures._moved(-1)
        cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        for each in self._counts:
            if cancelled:
                each.cancelled += 1
            else:
                each.add(now, now - self._began, failed=self.failed or kind is not None)


class BridgeFigures:
    """The figures of one bridge. Memory is bounded, whatever the number of requests and of tools:
    25 KB, and 7 KB for each tool that is in use, of which :data:`MOST_LABELS` are told apart.

    ``processes`` gives the ids of the server's processes (their descendants are found),
    ``restarts`` how many there were after the first.
    """

    def __init__(
        self,
        processes: Callable[[], Iterable[int]] = tuple,
        restarts: Callable[[], int] = int,
    ) -> None:
        #: How many requests the server takes at once.
        self.capacity = CAPACITY
        #: How many sessions there are, where that is known.
        self.sessions: Callable[[], int] | None = None
        #: The header by which the requests of the sidecar itself are known.
        self.own: Mapping[str, str] = {_OWN: secrets.token_hex(16)}
        self.use = ProcessFigures(processes)
        self._restarts = restarts
        self._all = _Counts(10.0)
        self._tools: dict[str, _Counts] = {}
        self._offered: frozenset[str] | None = None
        #: Requests in flight.
        self.active = 0
        self._area = 0.0  # of requests in flight over the time since the last report
        self._moved_at = self._reported_at = time.monotonic()
        self._reported = 0

    def offer(self, tools: Iterable[str]) -> None:
        """Takes the names of the tools that there are: no others have figures of their own, as
        clients may call what they like."""
        self._offered = frozenset(tools)
        self._tools = {
            name: counts
            for name, counts in self._tools.items()
            if name in self._offered or name == OTHERS
        }

    def request(self, method: str, tool: str | None = None) -> CountedRequest:
        """Counts a request of a client while its ``with`` block runs; ``tool`` is what a
        ``tools/call`` names."""
        if method in _NO_WORK:
            return _Uncounted(self, ())
        return CountedRequest(self, (self._all,) if tool is None else (self._all, self._of(tool)))

    async def counted(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        work: Awaitable[Mapping[str, Any]],
    ) -> Mapping[str, Any]:
        """The result that ``work`` gives of a request, which is counted, unless its ``headers`` say
        that the sidecar itself made it, and has a span. A tool's own error is one, too."""
        if headers.get(_OWN) == self.own[_OWN]:
            return await work
        tool = (params or {}).get("name") if method == "tools/call" else None
        session, protocol = headers.get(SESSION), headers.get(VERSION)
        with (
            mcp_request(
                "server", method, params, session=session, protocol=protocol, parent=headers
            ) as span,
            self.request(method, tool if isinstance(tool, str) else None) as counted,
        ):
            try:
                result = await work
            except JsonRpcError as fault:
                mcp_failure(span, fault.code, fault.message)
                raise
            counted.failed = result.get("isError") is True
            mcp_result(span, result)
            return result

    def load(self) -> Load:
        """What is to be reported to the store."""
        now = time.monotonic()
        figures = self._all.window.figures(now)
        most = heapq.nlargest(MOST_TOOLS, self._named(), key=lambda each: each[1].window.total)
        tools = (
            ToolUse(name, counts.window.total, _rounded(counts.window.figures(now).latency))
            for name, counts in most
        )
        return replace(
            self.use.load() or Load(),
            active=self._steady(now),
            capacity=self.capacity,
            rate=_rounded(figures.rate),
            latency=_rounded(figures.latency),
            p95=_rounded(figures.p95),
            error_rate=_rounded(figures.error_rate),
            requests=figures.requests,
            tools=most_used(tools),
        )

    def families(self) -> Iterator[Family]:
        """The figures for Prometheus."""
        text = "Requests of clients that the bridge has answered, by how they ended."
        yield from family("requests_total", "counter", text, *self._all.outcomes({}))
        text = "Time from a client's request to its answer."
        yield from family(
            "request_duration_seconds", "histogram", text, *self._all.durations.samples({})
        )
        text = "Requests of clients that wait for their answer."
        yield from family("active_requests", "gauge", text, ({}, self.active))
        if self.sessions is not None:
            text = "Sessions of legacy clients."
            yield from family("sessions", "gauge", text, ({}, self.sessions()))
        text = "How often the server's process was started again."
        yield from family("child_restarts_total", "counter", text, ({}, self._restarts()))
        named = [({"tool": name}, counts) for name, counts in sorted(self._tools.items())]
        text = "Calls of tools, by how they ended."
        calls = (each for labels, counts in named for each in counts.outcomes(labels))
        yield from family("tool_calls_total", "counter", text, *calls)
        text = "Time that calls of tools took."
        took = (each for labels, counts in named for each in counts.durations.totals(labels))
        yield from family("tool_call_duration_seconds", "summary", text, *took)

    def _named(self) -> Iterator[tuple[str, _Counts]]:
        return ((name, counts) for name, counts in self._tools.items() if name != OTHERS)

    def _of(self, tool: str) -> _Counts:
        if self._offered is not None and tool not in self._offered:
            tool = OTHERS
        if (counts := self._tools.get(tool)) is None:
            if len(self._tools) >= MOST_LABELS:
                tool = OTHERS
            counts = self._tools.setdefault(tool, _Counts(_TOOL_SLOT))
        return counts

    def _moved(self, by: int) -> float:
        now = time.monotonic()
        self._area += self.active * (now - self._moved_at)
        self._moved_at = now
        self.active += by
        return now

    def _steady(self, now: float) -> int:
        """The mean of requests in flight since the last report, if it is another than before: many
        short ones would be a few at one moment and none at the next."""
        self._moved(0)
        took = now - self._reported_at
        mean = self._area / took if took > 0 else float(self.active)
        self._area, self._reported_at = 0.0, now
        if abs(mean - self._reported) > _STEADY:
            self._reported = round(mean)
        return self._reported


class _Uncounted(CountedRequest):
    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 4)
