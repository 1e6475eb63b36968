"""docs/operations.md against what is really there: metrics, anchors, links, commands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import aiohttp
import typer.main
from prometheus_client.parser import text_string_to_metric_families

from mcp_discovery.cli.main import command_line
from mcp_discovery.errors import StoreFault
from tests.deploy.monitoring.files import PAGE, ROOT, alerts, expressions, rules
from tests.facade.webhooks.receiving import webhooks_file
from tests.programs import facade, running
from tests.stores import ports

TEXT = PAGE.read_text()
#: Further names under which a histogram's or a counter's figures are stored.
_PARTS = re.compile(r"_(bucket|count|sum|created)$")


def anchors(text: str) -> set[str]:
    """The headings' anchors, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def commands() -> list[list[str]]:
    """Every command line of the page, split as a shell does."""
    lines = re.findall(r"^ *\$ (.+)$", TEXT, flags=re.M)
    return [shlex.split(line, comments=True) for line in lines]


def documented() -> set[str]:
    """The metrics in the page's tables."""
    rows = re.findall(r"^\| (`mcp_discovery_[^|]+)\|", TEXT, flags=re.M)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def base(name: str) -> str:
    """The name that the page uses for a stored series."""
    return _PARTS.sub("", name)


def told(exposition: str) -> set[str]:
    """The names that an exposition has, as the page spells them; each has its help."""
    names = set()
    for family in text_string_to_metric_families(exposition):
        assert family.documentation, family.name
        spelt = f"{family.name}_total" if family.type == "counter" else family.name
        names.add(_PARTS.sub("", spelt))
    return {name for name in names if name.startswith("mcp_discovery_")}


def test_every_cause_of_a_store_that_does_not_serve_is_in_the_table() -> None:
    section = TEXT.partition("### When the store does not serve")[2].partition("\n### ")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", section, flags=re.M) == ["cause", *StoreFault]


async def read(url: str) -> str:
    """The body of an answer."""
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 200
        return await response.text()


async def test_every_metric_is_documented_and_every_documented_one_exists(tmp_path: Path) -> None:
    port = ports.draw()
    health = f"http://127.0.0.1:{port.number}"
    recording = {
        "MCP_DISCOVERY_AUDIT": str(tmp_path / "audit.jsonl"),
        "MCP_DISCOVERY_WEBHOOKS": webhooks_file(tmp_path, chat={"url": "http://127.0.0.1:9/"}),
    }
    async with facade(tmp_path, "embedded:", **recording) as asked:
        given = ("--store", asked.url, "--id", "shop-1", "--health-port", str(port.number))
        command = ("--", sys.executable, "-m", "tests.sidecar.bridge.stdio_server")
        async with running(tmp_path, "sidecar", *given, *command):
            await asked.until_status("shop-1", "healthy", 15)
            sidecar, of_facade = await read(f"{health}/metrics"), await read(f"{asked.url}/metrics")
    port.release()
    # A counter's beginning is told by prometheus_client as a gauge.
    found = told(sidecar) | {name for name in told(of_facade) if f"{name}_total" not in of_facade}
    assert found == documented()
    assert (
        'mcp_discovery_sidecar_store_operations_total{operation="heartbeat",outcome="ok"}'
        in sidecar
    )


def test_rules_and_dashboard_ask_for_documented_metrics_only() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = [rule["expr"] for rule in rules()] + [each for _, each in expressions()]
    for expression in asked:
        for pattern in re.findall(r'__name__=~"([^"]+)"', expression):
            assert any(re.fullmatch(_PARTS.sub("", pattern), name) for name in documented())
        plain = re.sub(r'"[^"]*"', "", expression)
        names = set(re.findall(r"\bmcp_discovery[\w:]+", plain))
        assert {base(name) for name in names} <= documented() | recorded, expression


def test_every_alert_has_its_section() -> None:
    for alert in alerts():
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page == "docs/operations.md"
        assert anchor in anchors(TEXT)
        (section,) = re.findall(rf"^### {alert['alert']}$(.+?)(?=^##)", TEXT, flags=re.M | re.S)
        for part in ("**Means.**", "**Agents notice.**", "**Confirm.**", "**Do.**"):
            assert part in section, alert["alert"]
        assert re.search(r"^\$ ", section, flags=re.M), alert["alert"]
    sections = set(re.findall(r"^### (McpDiscovery\w+)$", TEXT, flags=re.M))
    assert sections == {alert["alert"] for alert in alerts()}


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = target.partition("#")
        if path:
            assert (PAGE.parent / path).exists(), target
        else:
            assert anchor in anchors(TEXT), target


def test_every_command_is_one_that_exists() -> None:
    group = typer.main.get_command(command_line())
    assert len(commands()) > 30
    for words in commands():
        match words:
            case ["mcp-discovery", name, *arguments]:
                command = group.commands[name]  # type: ignore[attr-defined]
                command.make_context(name, arguments)
            case ["curl", *_, url]:
                assert url.startswith(("http://127.0.0.1:4000/", "http://127.0.0.1:4001/")), url
            case ["promtool", *_, file]:
                assert list(ROOT.glob(file)), file
            case _:
                raise AssertionError(f"nobody tries this command: {words}")


async def test_what_the_page_asks_of_a_facade_is_answered(tmp_path: Path) -> None:
    asked_for = {words[-1] for words in commands() if words[0] == "curl"}
    paths = {url.removeprefix("http://127.0.0.1:4000") for url in asked_for if ":4000" in url}
    async with facade(tmp_path, "embedded:") as asked:
        for path in paths:
            assert await read(asked.url + path), path
