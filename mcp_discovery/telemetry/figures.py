"""The figures of ``/metrics`` as OTLP has them: one source, read from Prometheus's text.

A figure that OpenTelemetry's conventions know has their name there, all others their own. A
conversion by https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.parser import text_string_to_metric_families

from mcp_discovery.telemetry.sdk import beside_process
from mcp_discovery.version import installed_version

log = logging.getLogger(__name__)

_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
#: Seconds between two exports, unless OTEL_METRIC_EXPORT_INTERVAL (milliseconds) says otherwise.
_INTERVAL: Final = 60.0


class Convention(NamedTuple):
    """What OpenTelemetry calls a figure, its unit and its labels; ``more`` are further ones."""

    name: str
    unit: str
    labels: Mapping[str, str] = {}
    more: Mapping[str, str] = {}


_ROUTE: Final = {
    "route": "http.route",
    "method": "http.request.method",
    "status": "http.response.status_code",
}
_CALL: Final = {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool"}
#: The families of ``/metrics`` that conventions know.
CONVENTIONS: Final[Mapping[str, Convention]] = {
    "mcp_discovery_request_duration_seconds": Convention(
        "http.server.request.duration", "s", _ROUTE
    ),
    "mcp_discovery_mcp_operation_duration_seconds": Convention(
        "mcp.server.operation.duration",
        "s",
        {"method": "mcp.method.name", "tool": "gen_ai.tool.name", "error": "error.type"},
    ),
    "mcp_discovery_sidecar_tool_call_duration_seconds": Convention(
        "mcp.server.operation.duration", "s", {"tool": "gen_ai.tool.name"}, _CALL
    ),
    "process_cpu_seconds": Convention("process.cpu.time", "s"),
    "process_resident_memory_bytes": Convention("process.memory.usage", "By"),
    "process_virtual_memory_bytes": Convention("process.memory.virtual", "By"),
    "process_open_fds": Convention("process.unix.file_descriptor.count", "{file_descriptor}"),
}
#: Labels whose values are numbers there.
_NUMBERS: Final = frozenset(("http.response.status_code",))
_UNITS: Final = {"seconds": "s", "bytes": "By", "ratio": "1"}


class FigureSender:
    """Sends ``figures`` through ``exporters``; ``scheme`` is that of the requests among them."""

    def __init__(
        self,
        figures: Callable[[], str | bytes],
        scheme: str,
        exporters: Iterable[Any],
        resource: Any,
    ) -> None:
        self._figures = figures
        self._scheme = scheme
        self._exporters = tuple(exporters)
        self._resource = resource
        self._began = time.time_ns()

    async def run(self) -> None:
        """Sends them again and again."""
        while True:
            await asyncio.sleep(_interval())
            await self.send()

    async def send(self) -> None:
        """Sends them once: read in the event loop, which owns them, and sent beside it."""
        try:
            text = self._figures()
            await beside_process(lambda: self._export(text))
        except Exception:  # the guard that keeps the loop alive
            log.exception("the figures cannot be sent as metrics")

    def _export(self, text: str | bytes) -> None:
        text = text.decode() if isinstance(text, bytes) else text
        data = metrics_data(text, self._scheme, self._resource, self._began)
        for each in self._exporters:
            each.export(data)


def _interval() -> float:
    try:
        return max(1.0, float(os.environ["OTEL_METRIC_EXPORT_INTERVAL"]) / 1000)
    except (KeyError, ValueError):
        return _INTERVAL


def metrics_data(text: str, scheme: str, resource: Any, began: int) -> MetricsData:
    """The figures in ``text``; ``began`` is since when they are counted, in nanoseconds of Unix
    time, where they do not say so."""
    scope = InstrumentationScope("mcp-discovery", installed_version())
    found = list(_metrics(text, scheme, began))
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, found, "")], "")])


def _metrics(text: str, scheme: str, began: int) -> Iterator[Metric]:
    now = time.time_ns()
    for family in text_string_to_metric_families(text):
        if family.name.endswith("_created") or not family.samples:
            continue
        known = CONVENTIONS.get(family.name)
        name, unit = (known.name, known.unit) if known is not None else _own(family.name)
        more = {} if known is None else dict(known.more)
        if name.startswith("http.server."):
            more["url.scheme"] = scheme
        attributes = partial(_attributes, {} if known is None else known.labels, more)
        if family.type in ("histogram", "summary"):
            points = [
                HistogramDataPoint(attributes(labels), began, now, *rest, None, None)  # type: ignore[arg-type]
                for labels, rest in _distributions(family.samples)
            ]
            data: Any = Histogram(points, _CUMULATIVE)
        else:
            numbers = [
                NumberDataPoint(attributes(each.labels), began, now, float(each.value))
                for each in family.samples
                if not each.name.endswith("_created")
            ]
            data = Gauge(numbers) if family.type != "counter" else Sum(numbers, _CUMULATIVE, True)
        yield Metric(name, family.documentation, unit, data)


def _attributes(
    names: Mapping[str, str], more: Mapping[str, str], labels: Mapping[str, str]
) -> dict[str, str | int]:
    """``labels`` under their ``names`` here, and ``more``; one that is empty is none."""
    found: dict[str, str | int] = dict(more)
    for label, value in labels.items():
        name = names.get(label, label)
        if value:
            found[name] = int(value) if name in _NUMBERS and value.isdecimal() else value
    return found


def _own(name: str) -> tuple[str, str]:
    """A figure's own name and its unit, which a store of metrics puts behind the name again."""
    unit = _UNITS.get(name.rpartition("_")[2], "")
    return name, unit


def _distributions(
    samples: Iterable[Any],
) -> Iterator[tuple[Mapping[str, str], tuple[int, float, list[int], list[float]]]]:
    """For each set of labels: the count, the sum, how many fell into each bucket, and the bounds
    between them. A summary has one bucket."""
    series: dict[tuple[tuple[str, str], ...], dict[str, Any]] = defaultdict(
        lambda: {"count": 0, "sum": 0.0, "buckets": []}
    )
    for each in samples:
        labels = {name: value for name, value in each.labels.items() if name != "le"}
        one = series[tuple(sorted(labels.items()))]
        if each.name.endswith("_bucket"):
            one["buckets"].append((float(each.labels["le"]), int(each.value)))
        elif each.name.endswith("_count"):
            one["count"] = int(each.value)
        elif each.name.endswith("_sum"):
            one["sum"] = each.value
    for labels_of, one in series.items():
        buckets = sorted(one["buckets"]) or [(float("inf"), one["count"])]
        below, counts = 0, []
        for _, total in buckets:
            counts.append(total - below)
            below = total
        bounds = [bound for bound, _ in buckets if bound != float("inf")]
        yield dict(labels_of), (one["count"], one["sum"], counts, bounds)
