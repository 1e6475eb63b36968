"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapters.catalog import Catalog
from facade.problems import Handler
from mcp_discovery.health import Status, utcnow


class Metrics:
    """One facade's figures; ``counts`` are further gauges: name → (help, how to count now)."""

    def __init__(self, catalog: Catalog, counts: dict[str, tuple[str, Callable[[], int]]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Figures(catalog, counts))
        self._requests = Counter(
            "mcp_discovery_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._counters: dict[tuple[str, str, int], Counter] = {}  # the same, found faster

    def exposition(self) -> bytes:
        """All figures in Prometheus's text format 0.0.4."""
        return generate_latest(self._registry)

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Counts the answer; the route is the pattern, so that ids make no series of their own."""
        response = await handler(request)
        self.counter(request, response.status).inc()
        return response

    def counter(self, request: web.Request, status: int) -> Counter:
        """Counts the requests that are like this one and are answered with ``status``."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "other"
        method = request.method if request.method in _METHODS else "other"
        key = method, route, status
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._requests.labels(method, route, str(status))
        return counter


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class _Figures(Collector):
    """What is read from the catalog when it is asked for."""

    def __init__(self, catalog: Catalog, counts: dict[str, tuple[str, Callable[[], int]]]) -> None:
        self._catalog = catalog
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """Reads the figures."""
        catalog, view = self._catalog, self._catalog.view
        instances = GaugeMetricFamily(
            "mcp_discovery_instances", "Instances in the list.", labels=["status"]
        )
        for status in Status:
            instances.add_metric([status.value], view.count(status))
        yield instances
        stale = (utcnow() - view.stale_since).total_seconds() if view.stale_since else 0.0
        for name, text, value in (
            ("stale_seconds", "For how long the store has been away.", stale),
            ("ready", "Whether a first whole list was seen.", int(catalog.is_ready)),
            ("revision", "The list's revision.", view.revision),
            ("skipped", "Keys in the store that are no instance.", len(catalog.store.skipped)),
        ):
            yield GaugeMetricFamily(f"mcp_discovery_{name}", text, value)
        for name, text, total in (
            ("watch_restarts", "How often the watch had to start again.", catalog.watch_restarts),
            ("held", "Instances held back from a mass drop.", catalog.held_total),
        ):
            yield CounterMetricFamily(f"mcp_discovery_{name}", text, total)
        for name, (text, count) in self._counts.items():
            yield GaugeMetricFamily(f"mcp_discovery_{name}", text, count())
