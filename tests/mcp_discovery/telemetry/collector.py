"""A small OTLP/HTTP receiver for tests, on loopback: it decodes what comes with OpenTelemetry's own
messages and keeps it. It is no collector: it passes nothing on."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.stores.waiting import until_holds


@dataclass(frozen=True)
class ReceivedSpan:
    """One span, with the name of the service that made it; ids in hexadecimal digits."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    error: bool
    links: tuple[str, ...]


@dataclass
class Receiver:
    """What came."""

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    logs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that sends here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BLRP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }

    def in_trace(self, trace: str) -> list[ReceivedSpan]:
        """The spans of one trace."""
        return [each for each in self.spans if each.trace == trace]

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Waits for ``condition``."""
        await until_holds(condition, timeout=30, what=what)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    found = Receiver()

    async def body(request: web.Request) -> bytes:
        data = await request.read()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data

    async def traces(request: web.Request) -> web.Response:
        for resource in ExportTraceServiceRequest.FromString(await body(request)).resource_spans:
            service = str(_attributes(resource.resource.attributes)["service.name"])
            for scope in resource.scope_spans:
                found.spans.extend(_span(service, each) for each in scope.spans)
        return web.Response(content_type="application/x-protobuf")

    async def metrics(request: web.Request) -> web.Response:
        sent = ExportMetricsServiceRequest.FromString(await body(request))
        for resource in sent.resource_metrics:
            for scope in resource.scope_metrics:
                for each in scope.metrics:
                    kind = each.WhichOneof("data") or ""
                    found.metrics[each.name] = [
                        {**_attributes(point.attributes), "": point, "unit": each.unit}
                        for point in getattr(each, kind).data_points
                    ]
        return web.Response(content_type="application/x-protobuf")

    async def logs(request: web.Request) -> web.Response:
        for resource in ExportLogsServiceRequest.FromString(await body(request)).resource_logs:
            for scope in resource.scope_logs:
                found.logs.extend(
                    {
                        "body": each.body.string_value,
                        "severity": each.severity_text,
                        "number": each.severity_number,
                        "trace": each.trace_id.hex(),
                    }
                    for each in scope.log_records
                )
        return web.Response(content_type="application/x-protobuf")

    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_post("/v1/traces", traces)
    app.router.add_post("/v1/metrics", metrics)
    app.router.add_post("/v1/logs", logs)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield found
    finally:
        await runner.cleanup()


_KINDS = ("", "internal", "server", "client", "producer", "consumer")


def _span(service: str, span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        service=service,
        name=span.name,
        kind=_KINDS[span.kind],
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        error=span.status.code == 2,
        links=tuple(each.span_id.hex() for each in span.links),
    )


def _attributes(given: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in given}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None
