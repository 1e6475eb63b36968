"""How the facade and the list are."""

from __future__ import annotations

from tests.facade.harness import Client, leased
from tests.records import tool


async def test_status_is_operational_until_something_is_not(ask: Client) -> None:
    empty = (await ask("GET", "/status")).json
    assert empty["status"] == "operational"
    await ask("POST", "/servers", leased("a"))
    await ask("POST", "/servers", leased("b", health={"status": "down", "reason": "refused"}))
    told = (await ask("GET", "/status")).json
    assert told["status"] == "degraded"
    assert told["summary"] == {
        "total": 2,
        "healthy": 1,
        "degraded": 0,
        "draining": 0,
        "down": 1,
        "quarantined": 0,
    }
    assert [(each["id"], each["status"], each["reason"]) for each in told["servers"]] == [
        ("a", "healthy", "says so itself"),
        ("b", "down", "refused"),
    ]
    assert all(each["lastSeen"].endswith("Z") and each["name"] for each in told["servers"])
    assert told["store"] == "embedded:"
    assert told["skipped"] == {"total": 0, "keys": {}}


async def test_capabilities_count_healthy_providers(ask: Client) -> None:
    skill = {"uri": "skill://find/SKILL.md", "frontmatter": {"name": "find", "description": "How."}}
    offered = {
        "tools": [tool("find")],
        "prompts": [{"name": "find", "description": "Ask."}],
        "skills": [skill],
    }
    await ask("POST", "/servers", leased("a", document=offered))
    await ask("POST", "/servers", leased("b", capabilities=["find", "buy"]))
    await ask("POST", "/servers", leased("c", capabilities=["sell"], health={"status": "down"}))
    told = (await ask("GET", "/capabilities")).json
    assert told["totalCapabilities"] == 4
    counted = [(each["name"], each["kind"], each["providers"]) for each in told["capabilities"]]
    assert counted == [
        ("buy", "tool", 1),
        ("find", "prompt", 1),
        ("find", "skill", 1),
        ("find", "tool", 2),
    ]
    assert [each.get("description") for each in told["capabilities"][1:3]] == ["Ask.", "How."]
    assert "description" not in told["capabilities"][0]


async def test_health_is_of_the_process(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    told = (await ask("GET", "/health")).json
    assert told["status"] == "healthy"
    assert told["registry"] == {"connections": 1, "healthy": 1, "unhealthy": 0}
    assert told["uptime"] >= 0
    assert told["version"]


async def test_metrics_are_prometheus_text(ask: Client) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    await ask("POST", "/servers", leased("a"))
    await ask("GET", "/servers/a")
    await ask("GET", "/nowhere")
    reply = await ask("GET", "/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }
    assert samples["mcp_discovery_instances", ("status", "healthy")] == 1
    assert samples[("mcp_discovery_watch_restarts_total",)] == 0
    counted = ("method", "GET"), ("route", "/servers/{id}"), ("status", "200")
    assert samples["mcp_discovery_requests_total", *counted] == 1
    lost = ("method", "GET"), ("route", "other"), ("status", "404")
    assert samples["mcp_discovery_requests_total", *lost] == 1
