"""The instances that the benchmarks put into stores: about 1 KB each, some of them wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.health import Health, Status
from mcp_discovery.instance import Holder, Instance, Lease
from mcp_discovery.record import Record

#: How many instances have the tag :data:`WANTED`, however many others there are.
WANTED_COUNT = 20
WANTED = "wanted"
#: How many instances of one server there are, where nothing else is said.
REPLICAS = WANTED_COUNT
_AT = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
_TOOLS = ("search", "fetch", "list", "update", "delete", "describe", "watch", "export")
_WORDS = ("orders", "invoices", "products", "customers", "shipments", "returns", "prices", "stock")
LEASE = Lease(Holder("benchmark", "benchmark", "sidecar"), 3600.0, 86400.0)


def _server(number: int, replicas: int) -> tuple[int, str]:
    """The number of an instance's server, and what it is about."""
    server = number // (REPLICAS if number < WANTED_COUNT else replicas)
    return server, _WORDS[server % len(_WORDS)]


def document(number: int) -> CapabilityDocument:
    """What the server of one instance offers."""
    _, subject = _server(number, REPLICAS)
    return CapabilityDocument(
        tools=tuple(
            {
                "name": f"{verb}_{subject}",
                "description": f"{verb.title()} {subject}: what is asked for, and no more.",
                "inputSchema": {"type": "object", "properties": {"query": {"type": "string"}}},
            }
            for verb in _TOOLS
        )
    )


def record(number: int, replicas: int = REPLICAS) -> Record:
    """The record of one instance; the first :data:`WANTED_COUNT` are wanted.

    What is wanted is the same in every list, so that its answer has the same bytes. Of all other
    servers there are so many ``replicas``.
    """
    wanted = number < WANTED_COUNT
    server, subject = _server(number, replicas)
    name = f"{subject}-{server}"
    return Record.parse(
        {
            "id": f"{name}-{number}",
            "name": name,
            "registryName": f"com.example/{name}",
            "title": f"{subject.title()} of region {server}",
            "description": f"Searches and changes the {subject} of region {server}: everything "
            "that an agent needs to answer a question about them, with their history.",
            "version": f"1.{server % 7}.{server % 11}",
            "websiteUrl": f"https://example.com/{name}",
            "endpoint": {"url": f"http://10.{number >> 16}.{number >> 8 & 255}.{number & 255}/mcp"},
            "tags": [WANTED if wanted else f"group-{server % 97}", subject, "production"],
            "capabilities": {
                "tools": [f"{verb}_{subject}" for verb in _TOOLS],
                "resources": [f"{subject}://{server}/all"],
                "digest": f"{server:064x}",
            },
            "protocol": {
                "versions": ["2025-11-25", "2026-07-28"],
                "era": "modern",
                "serverInfo": {"name": name, "version": "1.0.0"},
            },
            "zone": f"zone-{number % 3}",
            "owner": f"team-{server % 13}",
            "metadata": {"cluster": f"cluster-{number % 7}", "region": str(server)},
            "registeredAt": _AT.isoformat(),
        }
    )


def instance(number: int, replicas: int = REPLICAS) -> Instance:
    """The same as a store would tell it: healthy."""
    holder = replace(LEASE.holder, id=f"{number:032x}")  # each sidecar has an id of its own
    lease = replace(LEASE, holder=holder)
    return Instance(
        record(number, replicas), Health(Status.HEALTHY, "answers MCP", _AT, _AT), lease
    )


def instances(count: int) -> Iterator[Instance]:
    """``count`` of them, one by one."""
    return (instance(number) for number in range(count))
