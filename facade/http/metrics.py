"""Figures for Prometheus. What each means to an operator: docs/operations.md."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter as Numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.web_urldispatcher import AbstractRoute
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.missed import MissedInstances
from mcp_discovery.adapters.observed_store import Tally
from mcp_discovery.adapters.view import View
from mcp_discovery.errors import OutdatedRevisionError
from mcp_discovery.health import Status, utcnow
from mcp_discovery.probe.verdict import is_usable
from mcp_discovery.tls_files import CERTIFICATE_METRICS, certificates_in_use

#: How many instances, or servers, have a series of their own at most: series cost Prometheus.
_ONE_BY_ONE = 200

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_PROBE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LAG_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

#: The status of an instance that left the list without a goodbye and is missed.
_GONE = "gone"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class _Requests(Collector):
    """Counts requests, and times those that are neither streams nor long polls.

    Every request passes here: adding to plain numbers takes a fifth of the time that the library's
    counters take, which are made for many threads.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], _Count] = {}
        self._durations: dict[tuple[str, str, str], _Durations] = {}

    def series(self, method: str, route: str, status: int, *, timed: bool) -> _RequestSeries:
        key = method, route, str(status)
        count = self._counts.setdefault(key, _Count())
        durations = self._durations.setdefault(key, _Durations()) if timed else None
        return _RequestSeries(count, durations)

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "mcp_discovery_requests",
            "Requests answered; the route is a pattern of docs/http-api.md, or other.",
            labels=("method", "route", "status"),
        )
        for labels, count in self._counts.items():
            requests.add_metric(labels, count.number, created=count.created)
        yield requests
        durations = HistogramMetricFamily(
            "mcp_discovery_request_duration_seconds",
            "Time to answer a request that is neither a stream nor a long poll.",
            labels=("method", "route", "status"),
        )
        for labels, known in self._durations.items():
            bounds = (*map(floatToGoString, _REQUEST_BUCKETS), "+Inf")
            buckets = [
                (bound, total, shown) if (shown := known.exemplars.get(at)) else (bound, total)
                for at, (bound, total) in enumerate(
                    zip(bounds, accumulate(known.buckets), strict=True)
                )
            ]
            durations.add_metric(labels, buckets, known.seconds)
            by_name = dict(zip(("method", "route", "status"), labels, strict=True))
            durations.add_sample(f"{durations.name}_created", by_name, known.created)
        yield durations


@dataclass(slots=True)
class _Count:
    """How many requests there were, and since when they are counted (Unix time)."""

    number: int = 0
    created: float = field(default_factory=time.time)


@dataclass(slots=True)
class _Durations:
    """How many requests fell into each bucket, and how many seconds all of them took."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(_REQUEST_BUCKETS) + 1))
    seconds: float = 0.0
    created: float = field(default_factory=time.time)
    #: By the number of its bucket, the latest request there whose trace is recorded.
    exemplars: dict[int, Exemplar] = field(default_factory=dict)


class _RequestSeries(NamedTuple):
    """Where requests of one kind are counted, and timed if they are."""

    requests: _Count
    durations: _Durations | None


class Metrics:
    """One facade's figures.

    ``counts`` are further gauges: name → (help, how to count now); ``tally`` has counted the calls
    to the store; ``version`` is the facade's; ``missed`` are those that left without a goodbye.
    """

    def __init__(
        self,
        catalog: Catalog,
        counts: Mapping[str, tuple[str, Callable[[], int]]],
        *,
        tally: Tally,
        version: str,
        missed: MissedInstances,
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Figures(catalog, counts, tally, version, missed))
        ProcessCollector(registry=self._registry)
        self._requests = _Requests()
        self._registry.register(self._requests)
        self._series: dict[tuple[AbstractRoute, int, type], _RequestSeries] = {}
        self._probes = Histogram(
            "mcp_discovery_probe_duration_seconds",
            "Time that posted servers took to answer this facade's probes well.",
            buckets=_PROBE_BUCKETS,
            registry=self._registry,
        )
        self._failed_probes = Counter(
            "mcp_discovery_probes_failed",
            "Probes of posted servers by this facade that did not find them healthy.",
            registry=self._registry,
        )
        self._unreadable = Counter(
            "mcp_discovery_unreadable",
            "How often a posted server became one whose tools and the like cannot be read.",
            registry=self._registry,
        )
        self._lag = _Lag(catalog, self._registry)

    def add(self, figures: Collector) -> None:
        """Has the figures of another part told, too."""
        self._registry.register(figures)

    def exposition(self, *, exemplars: bool = False) -> bytes:
        """All figures in Prometheus's text format 0.0.4, or in that of OpenMetrics 1.0, which has
        ``exemplars``."""
        self._lag.catch_up()
        return (openmetrics.generate_latest if exemplars else generate_latest)(self._registry)

    def count(
        self,
        request: web.Request,
        response: web.StreamResponse,
        took: float,
        trace: str | None = None,
    ) -> None:
        """Counts a request that took so many seconds until its response was there.

        The route is the pattern, so that ids make no series of their own. ``trace`` is the id of
        its trace, where that is recorded.
        """
        route = request.match_info.route
        kind: type = type(response)
        text = request.rel_url.raw_query_string
        if text and ("wait" in text or "%" in text) and "wait" in request.query:
            kind = _LongPoll
        key = route, response.status, kind
        series = self._series.get(key)
        if series is None:
            resource = route.resource
            path = resource.canonical if resource is not None else "other"
            method = request.method if request.method in _METHODS else "other"
            timed = issubclass(kind, web.Response)
            series = self._requests.series(method, path, response.status, timed=timed)
            # Any other route is this request's own, or one for all methods.
            if resource is not None and route.method == method:
                self._series[key] = series
        series.requests.number += 1
        if (durations := series.durations) is not None:
            durations.seconds += took
            bucket = bisect_left(_REQUEST_BUCKETS, took)
            durations.buckets[bucket] += 1
            if trace is not None:
                durations.exemplars[bucket] = Exemplar({"trace_id": trace}, took, time.time())

    def probed(self, _: str, __: str, facts: Mapping[str, Any]) -> None:
        """Counts a probe; see :data:`mcp_discovery.facade.usage.usage.HEALTH_CHECK`."""
        if facts["latency"] is not None:
            self._probes.observe(facts["latency"])
        if not facts["success"]:
            self._failed_probes.inc()

    def became_unreadable(self, _: str, __: str, ___: Mapping[str, Any]) -> None:
        """Counts a server; see :data:`mcp_discovery.facade.usage.usage.UNREADABLE`."""
        self._unreadable.inc()


class _LongPoll:
    """Stands for the response of a long poll, which is not timed."""


#: The metrics of an application.
METRICS = web.AppKey("metrics", Metrics)


@dataclass(frozen=True, eq=False)
class _Figures(Collector):
    """Figures that are read from the catalog when Prometheus asks."""

    catalog: Catalog
    counts: Mapping[str, tuple[str, Callable[[], int]]]
    tally: Tally
    version: str
    missed: MissedInstances

    def collect(self) -> Iterable[Metric]:
        catalog, view = self.catalog, self.catalog.view
        running = [((self.version,), 1)]
        yield _gauge("build_info", "Always 1; the version that runs.", ("version",), running)
        text = "The clock of its machine, in seconds since 1970."
        yield GaugeMetricFamily("mcp_discovery_time_seconds", text, time.time())
        text = "1 once a first whole list was read, 0 before."
        yield GaugeMetricFamily("mcp_discovery_ready", text, int(catalog.is_ready))
        if catalog.is_ready:
            yield from self._of_list(view)
        for name, text, total in (
            ("watch_restarts", "How often a watch that ran ended.", catalog.watch_restarts),
            ("held", "Instances that were ever held in the list.", catalog.held_total),
            (
                "mass_drops",
                "How often several instances, and more than half of the list, vanished at once.",
                catalog.mass_drops,
            ),
        ):
            yield CounterMetricFamily(f"mcp_discovery_{name}", text, total)
        for name, (text, count) in self.counts.items():
            yield GaugeMetricFamily(f"mcp_discovery_{name}", text, count())
        calls = CounterMetricFamily(
            "mcp_discovery_store_operations",
            "Calls to the store, by how they ended.",
            labels=["operation", "outcome"],
        )
        for (operation, outcome), number in sorted(self.tally.counts.items()):
            calls.add_metric([operation, outcome], number)
        yield calls
        took = SummaryMetricFamily(
            "mcp_discovery_store_operation_duration_seconds",
            "How long calls to the store took, however they ended; watches left out.",
            labels=["operation"],
        )
        for operation, (spent, number) in sorted(self.tally.durations.items()):
            took.add_metric([operation], number, spent)
        yield took
        files = certificates_in_use()
        for name, text, seconds in CERTIFICATE_METRICS:
            values = [(("facade", each.purpose, each.file), seconds(each)) for each in files]
            yield _gauge(name, text, ("role", "purpose", "file"), values)
        trouble = catalog.trouble.fault
        yield _gauge(
            "store_trouble",
            "1 for what keeps the store from confirming the list; no series while it does.",
            ("cause",),
            [((trouble.value,), 1)] if trouble is not None else [],
        )

    def _of_list(self, view: View) -> Iterable[Metric]:
        """What is said of the list; of one that was never read nothing can be said."""
        catalog = self.catalog
        numbers = [((status.value,), view.number("status", status)) for status in Status]
        yield _gauge("instances", "Instances in the list.", ("status",), numbers)
        stale = (utcnow() - view.stale_since).total_seconds() if view.stale_since else 0.0
        for name, text, value in (
            ("stale_seconds", "For how long the list could not be confirmed by the store.", stale),
            (
                "partial",
                "1 while the store's credentials hide a part of the list, 0 otherwise.",
                int(view.partial is not None),
            ),
            ("revision", "The list's revision: how often it changed.", view.revision),
            ("skipped", "Keys in the store that are no instance.", len(catalog.store.skipped)),
            ("servers", "Servers, by name, that have an instance.", len(view.keys("name"))),
            (
                "held_instances",
                "Instances that vanished from the store and are held in the list for now.",
                catalog.held,
            ),
        ):
            yield GaugeMetricFamily(f"mcp_discovery_{name}", text, value)
        yield from self._unwell(view)

    def _unwell(self, view: View) -> Iterable[Metric]:
        """Who is not well, by name: there are no such series while all are.

        An instance that is missed is so, too, under the status ``gone``.
        """
        missed = [(entry, _GONE) for entry in self.missed.entries()]
        unwell = [
            (entry, status.value)
            for status in (Status.DOWN, Status.DEGRADED, Status.QUARANTINED, Status.DRAINING)
            for id in view.having("status", status.value)
            if not is_usable((entry := view.entries[id]).health)
        ]
        shown = [*missed, *unwell][:_ONE_BY_ONE]
        yield _gauge(
            "instance_unwell",
            "Always 1; an instance that is offered to nobody. At most 200, the gone first.",
            ("name", "id", "status"),
            [((entry.record.name, entry.id, status), 1) for entry, status in shown],
        )
        left = Numbers(entry.record.name for entry, _ in unwell)
        # A server all of whose instances are leaving in good order is not unavailable.
        failed = Numbers(
            entry.record.name for entry, status in [*missed, *unwell] if status != Status.DRAINING
        )
        lost = (name for name in sorted(failed) if left[name] == view.number("name", name))
        yield _gauge(
            "server_unavailable",
            "Instances of a server of which none is offered, those that leave left out. At most "
            "200, by name.",
            ("name",),
            [((name,), failed[name]) for name in islice(lost, _ONE_BY_ONE)],
        )


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = GaugeMetricFamily(f"mcp_discovery_{name}", text, labels=labels)
    for each, value in values:
        family.add_metric(each, value)
    return family


class _Lag:
    """How late the list shows what a registrant wrote, read from the catalog's changes."""

    def __init__(self, catalog: Catalog, registry: CollectorRegistry) -> None:
        self._catalog = catalog
        self._revision = 0
        self._seconds = Histogram(
            "mcp_discovery_change_lag_seconds",
            "From a registrant's noting a new status, by its clock, to the list's showing it.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )

    def catch_up(self) -> None:
        """Takes in the changes since the last time, as far as the catalog still has them."""
        view = self._catalog.view
        try:
            events = self._catalog.since(view.epoch, self._revision)
        except OutdatedRevisionError:
            events = []  # the last scrape is longer ago than the catalog remembers
        self._revision = view.revision
        for event in events:
            entry, before = event.entry, event.before
            # An instance that is new may have had its status for long, and one that fell silent, or
            # is missing from the store, has said nothing.
            if entry is None or before is None or entry.held or before.held:
                continue
            now, then = entry.health, before.health
            # What changed while the store was away is as late as it was away for.
            back = self._catalog.back_at
            if back is not None and now.since < back:
                continue
            if not (now.status is then.status or now.unheard or then.unheard):
                self._seconds.observe(max(0.0, (event.at - now.since).total_seconds()))
