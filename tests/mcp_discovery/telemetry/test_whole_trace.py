"""Whole traces of real processes, received over OTLP, against the pictures in the documentation."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.mcp_discovery.telemetry.collector import ReceivedSpan, Receiver, receiving
from tests.mcp_discovery.telemetry.picture import Node, drawn, seen
from tests.programs import ROOT, AskedFacade, Running, command, facade, running
from tests.stores import ConsulServer

_SERVER = "tests.mcp_discovery.telemetry.traced_server"
_TRACE, _PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass
class World:
    """Consul, a facade with a gateway and audit, and a sidecar before a server over stdio."""

    receiver: Receiver
    facade: AskedFacade
    sidecar: Running
    audit: Path


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("telemetry")
    audit = folder / "audit.jsonl"
    async with receiving() as receiver, ConsulServer() as consul:
        given = {
            "MCP_DISCOVERY_GATEWAY": "1",
            "MCP_DISCOVERY_MCP_CALL_TOOL": "1",
            "MCP_DISCOVERY_AUDIT": str(audit),
            "MCP_DISCOVERY_LOG_LEVEL": "debug",
            "MCP_DISCOVERY_JSON": "1",
        }
        program = sys.executable, "-m", _SERVER
        async with (
            facade(folder, consul.store_url, **given, **receiver.environment) as asked,
            running(
                folder,
                *("sidecar", "--store", consul.store_url, "--id", "counter-1"),
                *("--name", "counter", "--env", "OTEL_EXPORTER_OTLP_ENDPOINT", "--", *program),
                PYTHONPATH=str(ROOT),
                **receiver.environment,
            ) as sidecar,
        ):
            await asked.until_status("counter-1", "healthy", 40)
            yield World(receiver, asked, sidecar, audit)


async def _until_traced(world: World, trace: str, name: str) -> list[ReceivedSpan]:
    """The spans of ``trace``, once each line of the picture ``name`` has one."""
    # What the test itself would have made is not sent.
    root, *_ = wanted = drawn(name)
    if root.service == "client":
        wanted = [each._replace(above=each.above[1:]) for each in wanted[1:]]

    def missing() -> list[Node]:
        found = seen(world.receiver.in_trace(trace))
        return [each for each in wanted if each not in found]

    try:
        await world.receiver.until(lambda: not missing(), f"the picture {name!r} in {trace}")
    except TimeoutError:
        assert not missing(), seen(world.receiver.in_trace(trace))
    return world.receiver.in_trace(trace)


async def test_a_call_through_the_gateway(world: World) -> None:
    ended = await command(
        *("-m", "tests.mcp_discovery.telemetry.traced_agent", world.facade.url),
        program=(sys.executable,),
        timeout=60,
        **world.receiver.environment,
    )
    assert ended.code == 0, ended.err
    spans = await _until_traced(world, ended.out.strip(), "call")
    calls = [each for each in spans if each.name == "tools/call add"]
    # In the trace nothing else has to do with the call: no span is there twice.
    assert [(each.service, each.kind) for each in sorted(calls, key=lambda each: each.service)] in (
        [
            ("mcp-discovery-facade", "client"),
            ("mcp-discovery-sidecar", kind),
            ("mcp-discovery-sidecar", other),
            ("server", "server"),
        ]
        for kind, other in (("server", "client"), ("client", "server"))
    )
    for each in calls:
        assert each.attributes["mcp.method.name"] == "tools/call"
        assert each.attributes["gen_ai.tool.name"] == "add"
        assert each.attributes["gen_ai.operation.name"] == "execute_tool"
        assert not each.error
    [passed] = [each for each in calls if each.service == "mcp-discovery-facade"]
    assert passed.attributes["mcp_discovery.instance"] == "counter-1"
    assert passed.attributes["http.response.status_code"] == 200
    [http] = [each for each in spans if each.name == "POST /gateway/{name}/mcp"]
    assert http.kind == "server"
    assert http.attributes["http.route"] == "/gateway/{name}/mcp"
    [request_id] = http.attributes["http.response.header.x-request-id"]
    event = next(line for line in world.audit.read_text().splitlines() if f'"{request_id}"' in line)
    assert f'"traceId":"{http.trace}"' in event.replace(" ", "")
    assert f'"trace_id":"{http.trace}"' in world.facade.process.log


async def test_a_registration_to_the_store_and_back(world: World) -> None:
    body = {"id": "thing-1", "name": "thing", "url": "http://127.0.0.1:9/mcp"}
    status, said = await _posted(world, "/servers", body, trace=_TRACE)
    assert status in (201, 202), said
    spans = await _until_traced(world, _TRACE, "registration")
    [http_span] = [each for each in spans if each.kind == "server"]
    assert http_span.parent == _PARENT
    for each in spans:
        if each.kind == "client":
            assert each.attributes["server.port"]
            assert "?" not in each.attributes["url.full"]


async def test_only_the_message_carries_the_context(world: World) -> None:
    """A client that knows SEP-414 alone: what answers its message is below its own span."""
    trace = "aaaabbbbccccddddeeeeffff00001111"
    status, said = await _called(world, "find_servers", trace)
    assert status == 200, said
    spans = world.receiver.spans
    await world.receiver.until(lambda: world.receiver.in_trace(trace), "the message's span")
    [span] = world.receiver.in_trace(trace)
    assert (span.name, span.kind) == ("tools/call find_servers", "server")
    assert span.parent == _PARENT
    [link] = span.links
    await world.receiver.until(lambda: [one for one in spans if one.id == link], "the request's")
    assert [one.name for one in spans if one.id == link] == ["POST /mcp"]


async def test_a_call_through_the_facades_own_mcp(world: World) -> None:
    trace = "aaaabbbbccccddddeeeeffff00004444"
    given = {"server": "counter", "name": "add", "arguments": {"number": 1}}
    status, said = await _called(world, "call_tool", trace, given)
    assert status == 200 and '"isError":true' not in said, said
    path = [
        ("mcp-discovery-facade", "tools/call call_tool"),
        ("mcp-discovery-facade", "execute_tool add"),
        ("mcp-discovery-facade", "MCP send tools/call add"),
        ("mcp-discovery-sidecar", "tools/call add"),
        ("mcp-discovery-sidecar", "tools/call add"),
        ("server", "tools/call add"),
    ]
    above = tuple(f"{service} {name}" for service, name in path[:-1])
    leaf = Node(*path[-1], above)
    await world.receiver.until(
        lambda: leaf in seen(world.receiver.in_trace(trace)), f"{leaf} among its spans"
    )


async def test_a_command_is_a_span_with_what_it_asks(world: World) -> None:
    ended = await command(
        "servers", "--facade", world.facade.url, timeout=60, **world.receiver.environment
    )
    assert ended.code == 0, ended.err

    def found() -> set[str]:
        mine = [each for each in world.receiver.spans if each.name == "mcp-discovery servers"]
        return {each.name for root in mine for each in world.receiver.in_trace(root.trace)}

    await world.receiver.until(found, "the command's span")
    [root] = [each for each in world.receiver.spans if each.name == "mcp-discovery servers"]
    assert (root.service, root.kind, root.parent) == ("mcp-discovery", "internal", "")


async def test_an_unknown_tool_is_an_error(world: World) -> None:
    trace = "aaaabbbbccccddddeeeeffff00002222"
    _, said = await _called(world, "nothing", trace)
    assert "error" in said
    await world.receiver.until(lambda: world.receiver.in_trace(trace), "its span")
    [span] = world.receiver.in_trace(trace)
    assert span.error
    assert span.attributes["error.type"] == span.attributes["rpc.response.status_code"] == "-32602"


async def test_probes_and_registrations_are_spans_and_quiet_heartbeats_none(world: World) -> None:
    def own() -> set[str]:
        spans = world.receiver.spans
        return {each.name for each in spans if each.service == "mcp-discovery-sidecar"}

    await world.receiver.until(
        lambda: {"probe", "store register", "read what is offered"} <= own(), "its spans"
    )
    beats = [each for each in world.receiver.spans if each.name == "store heartbeat"]
    # The first is written by the registration; none of the others changes the status.
    assert len(beats) <= 1, beats
    # Watches, renewals and all else that goes on all the time is part of nothing, and has none.
    asked = [each for each in world.receiver.spans if "/v1/" in each.name]
    assert asked
    assert not [each for each in asked if not each.parent]


async def test_figures_are_metrics_by_their_names(world: World) -> None:
    await world.facade.get("/servers")
    metrics = world.receiver.metrics

    def requests() -> dict[tuple[str, str], dict[str, Any]]:
        points = metrics.get("http.server.request.duration", [])
        return {(each["http.request.method"], each["http.route"]): each for each in points}

    key = "GET", "/servers"
    await world.receiver.until(lambda: key in requests(), "the metrics of a facade")
    one = requests()[key]
    assert one[""].count > 0
    assert one[""].count == sum(one[""].bucket_counts)
    assert (one["http.response.status_code"], one["url.scheme"]) == (200, "http")
    assert one["unit"] == "s"
    of_sidecar = "mcp_discovery_sidecar_registered"
    await world.receiver.until(
        lambda: of_sidecar in metrics and metrics[of_sidecar][0][""].as_double == 1,
        "the metrics of a sidecar",
    )
    # One source: what is asked over HTTP is there by the same name, or by that of a convention.
    async with aiohttp.ClientSession() as http, http.get(f"{world.facade.url}/metrics") as response:
        text = await response.text()
    ends = r"(?:_total|_bucket|_sum|_count)?(?:\{.*)? [0-9]"
    shown = re.findall(rf"^(mcp_discovery_\w+?){ends}", text, re.MULTILINE)
    converted = {
        "mcp_discovery_request_duration_seconds",
        "mcp_discovery_mcp_operation_duration_seconds",
    }
    wanted = {each for each in shown if not each.endswith("_created")} - converted
    assert len(wanted) > 20
    await world.receiver.until(lambda: wanted <= metrics.keys(), f"the metrics {sorted(wanted)}")
    assert not converted & metrics.keys()


async def test_a_latency_leads_to_a_trace(world: World) -> None:
    """The exemplars of the histogram, which Prometheus asks for by what it accepts."""
    await world.facade.get("/servers")
    accept = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"}
    url = f"{world.facade.url}/metrics"
    async with aiohttp.ClientSession() as http:
        async with http.get(url, headers=accept) as response:
            assert response.headers["Content-Type"].startswith("application/openmetrics-text")
            text = await response.text()
        async with http.get(url) as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert "trace_id" not in await response.text()
    read: Any = text_string_to_metric_families
    families = {each.name: each for each in read(text)}
    samples = families["mcp_discovery_request_duration_seconds"].samples
    found = {
        each.exemplar.labels["trace_id"]
        for each in samples
        if each.exemplar is not None and each.labels["route"] == "/servers"
    }
    assert found
    receiver = world.receiver
    await receiver.until(lambda: any(map(receiver.in_trace, found)), "the trace of an exemplar")


async def test_lines_of_the_log_are_records_with_their_trace(world: World) -> None:
    trace = "aaaabbbbccccddddeeeeffff00003333"
    status, _ = await _posted(world, "/connections/discover", {}, trace=trace)
    assert status == 200

    def records() -> list[dict[str, Any]]:
        return [each for each in world.receiver.logs if each["trace"] == trace]

    await world.receiver.until(records, "a record of the log")
    assert any("/connections/discover" in each["body"] for each in records())
    assert {each["severity"] for each in records()} == {"DEBUG"}


async def _posted(
    world: World, path: str, body: Any, trace: str | None = None, **headers: str
) -> tuple[int, str]:
    if trace is not None:
        headers["traceparent"] = f"00-{trace}-{_PARENT}-01"
    url = world.facade.url + path
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(url, json=body) as response,
    ):
        return response.status, await response.text()


async def _called(
    world: World, tool: str, trace: str, arguments: dict[str, Any] | None = None
) -> tuple[int, str]:
    """What a modern client gets that calls a tool of the facade, and carries the context in the
    message alone."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "traceparent": f"00-{trace}-{_PARENT}-01",
        "baggage": "user=a",
    }
    params = {"name": tool, "arguments": arguments or {}, "_meta": meta}
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    return await _posted(world, "/mcp", message, **headers)
