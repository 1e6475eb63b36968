"""What the chart's schema takes, the command takes, and what it refuses, the command would refuse:
else a value that helm is content with ends a pod again and again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
import typer

from mcp_discovery.cli.options import probe_interval
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.http.client_address import TrustedProxies
from mcp_discovery.facade.http.cors import Cors
from mcp_discovery.record import Record
from mcp_discovery.sidecar.settings import SidecarSettings
from tests.deploy.kubernetes.charts import CHART

SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def record(**given: Any) -> Record:
    """A record with these fields."""
    return Record.parse({"name": "a", "endpoint": {"url": "http://a:1/mcp"}, **given})


CASES: list[tuple[Callable[[Any], dict[str, Any]], Callable[[Any], Any], list[Any]]] = [
    (
        lambda value: {"facade": {"probeInterval": value}},
        probe_interval,
        ["10s", "1", 5, 2.5, "90m", "24h", "1d", "500ms", 0, "0s", "25h", "2d", "abc", "10x", ""],
    ),
    (
        lambda value: {"facade": {"corsOrigins": [value]}},
        lambda value: Cors((value,)),
        ["*", "https://a.example", "http://a.example:8080", "a.example", "https://a.example/x"],
    ),
    (
        lambda value: {"facade": {"corsOrigins": ["https://a.example", value]}},
        lambda value: Cors((value,)),
        ["https://b.example", "https://A.example", "ftp://a.example", "null"],
    ),
    (
        lambda value: {"facade": {"trustedProxies": [value]}},
        lambda value: TrustedProxies((value,)),
        ["10.0.0.0/8", "10.1.2.3", "2001:db8::/32", "::1", "proxy.example", "*", "", "10.0.0.0/x"],
    ),
    (
        lambda value: {"exampleServer": {"tags": [value]}},
        lambda value: SidecarSettings(url="http://a:1/mcp", tags=(value,)),
        ["products", "a", "eu-1", "Products", "a b", "-a", "a" * 62, "a" * 63, ""],
    ),
    (
        lambda value: {"exampleServer": {"versions": [{"suffix": "a", "version": value}]}},
        lambda value: record(version=value),
        ["1.4.0", "1.4.0-rc.1", "1.4.0+x", "1.4", "v1.4.0", "one"],
    ),
    (
        lambda value: {"exampleServer": {"versions": [{"suffix": "a", "weight": value}]}},
        lambda value: record(weight=value),
        [0, 1, 9, -1],
    ),
    (
        lambda value: {"sidecar": {"drainSeconds": value}},
        lambda value: SidecarSettings(url="http://a:1/mcp", drain=float(value)),
        [0, 5, 600, -1],
    ),
]


@pytest.mark.parametrize(
    ("values", "takes", "value"),
    [(values, takes, value) for values, takes, each in CASES for value in each],
    ids=lambda value: None if callable(value) else repr(value)[:12],
)
def test_helm_takes_what_the_command_takes(
    values: Callable[[Any], dict[str, Any]], takes: Callable[[Any], Any], value: Any
) -> None:
    try:
        takes(value)
        taken = True
    except (DiscoveryError, ValueError, typer.BadParameter):
        taken = False
    assert jsonschema_rs.is_valid(SCHEMA, values(value)) is taken
