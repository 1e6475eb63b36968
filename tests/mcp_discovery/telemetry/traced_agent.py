"""An agent with telemetry of its own, as a program: ``python -m … FACADE`` finds and calls ``add``.

It goes through the facade's gateway: the list it calls from has the gateway's address. It prints
the id of its trace.
"""

from __future__ import annotations

import asyncio
import sys

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from mcp_discovery import Discovery
from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.client.source import CatalogSource
from mcp_discovery.health import healthy


async def work(facade: str) -> None:
    """Finds the server, and calls it."""
    async with Discovery(facade) as found:
        [instance] = await found.servers(tool="add")
        document = await found._source.document(instance.record.capabilities.digest or "")
    record = instance.record
    url = f"{facade}/gateway/{record.name}/mcp"
    passing = record.endpoint.model_copy(update={"url": url})
    async with EmbeddedStore() as store, Catalog(store) as catalog:
        kept = await store.register(
            record.model_copy(update={"endpoint": passing}), document, ttl=60, reap_after=60
        )
        await kept.heartbeat(healthy())
        await catalog.ready()
        async with Discovery(CatalogSource(catalog), report=False) as calls:
            result = await calls.call("add", {"number": 41})
            assert not result.is_error, result


async def main(facade: str) -> None:
    """The work, in a span of the agent's own."""
    with trace.get_tracer("agent").start_as_current_span("answer a question") as span:
        await work(facade)
        print(trace.format_trace_id(span.get_span_context().trace_id))


if __name__ == "__main__":
    provider = TracerProvider(resource=Resource.create({"service.name": "agent"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    asyncio.run(main(sys.argv[1]))
    provider.shutdown()
