"""An MCP server over stdio by the SDK, with telemetry as its own author set it up."""

from __future__ import annotations

from mcp.server import MCPServer
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

server = MCPServer("counter", version="1.2.3", instructions="Counts.")


@server.tool()
def add(number: int) -> int:
    """Adds one to a number."""
    return number + 1


if __name__ == "__main__":
    provider = TracerProvider(resource=Resource.create({"service.name": "server"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    server.run("stdio")
