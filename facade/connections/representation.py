"""An entry of the list as a connection: the members of every response."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mcp_discovery.adapters.heartbeats import DRAINING
from mcp_discovery.adapters.view import Entry
from mcp_discovery.document import CapabilityDocument, text_of
from mcp_discovery.facade.connections.conversion import shown_metadata
from mcp_discovery.facade.connections.statuses import (
    INITIALIZING,
    health_word,
    protocol_of,
    status_of,
)
from mcp_discovery.facade.registration.traits import Traits, traits_of
from mcp_discovery.facade.usage.usage import Usage
from mcp_discovery.health import Health, Load, Status, rfc3339
from mcp_discovery.probe.verdict import NOT_DIALLED, NOT_PROBED, UNPROBED
from mcp_discovery.query.filters import capability_names, uptime
from mcp_discovery.record import Endpoint, Record


def figures_of(entry: Entry, usage: Usage) -> Load:
    """How much the instance is used."""
    return usage.instance(entry.id, entry.instance.load)


def listed(entry: Entry, usage: Usage, now: datetime) -> dict[str, Any]:
    """A connection as an item of the list."""
    figures = figures_of(entry, usage)
    health = health_shown(entry, usage, now)
    if figures.error_rate is not None:
        health["errorRate"] = rounded(figures.error_rate)
    return _connection(entry, names_of(entry.record), health, usual_metrics(figures))


def detailed(
    entry: Entry, document: CapabilityDocument, usage: Usage, now: datetime
) -> dict[str, Any]:
    """A connection with every known member."""
    figures = figures_of(entry, usage)
    performed, failed, _, _ = usage.checks(entry.id)
    health = health_shown(entry, usage, now)
    health |= {"checksPerformed": performed, "failedChecks": failed}
    metrics = usual_metrics(figures)
    if figures.requests:
        metrics["totalRequests"] = figures.requests
    if figures.error_rate is not None:
        metrics["errorRate"] = rounded(figures.error_rate)
        metrics["successRate"] = rounded(1 - figures.error_rate)
    if figures.p95 is not None:
        metrics["p95Latency"] = milliseconds(figures.p95)
    return _connection(entry, capabilities_shown(document), health, metrics) | {
        "createdAt": rfc3339(entry.record.registered_at),
        "lastActiveAt": rfc3339(entry.last_seen(now)),
        "lease": entry.instance.lease.to_dict(),
    }


def registered(record: Record, entry: Entry | None, usage: Usage, now: datetime) -> dict[str, Any]:
    """The response to a POST; ``entry`` is the list's entry, where there is one by now.

    Before its first probe, its health is ``initializing``.
    """
    idle = traits_of(record).idle
    status = status_of(entry.health) if entry is not None else "idle" if idle else "active"
    if entry is None or entry.health.reason in _NOT_PROBED_YET:
        health = {"status": INITIALIZING, "lastCheck": rfc3339(now)}
    else:
        health = health_shown(entry, usage, now)
    return {
        "id": record.id,
        "name": record.name,
        "status": status,
        "connection": {
            "id": record.id,
            "type": traits_of(record).type,
            "protocol": protocol_of(record.endpoint.transport),
            "capabilities": names_of(entry.record if entry is not None else record),
            "health": health,
        },
        "createdAt": rfc3339(record.registered_at),
    }


def offered(entry: Entry, usage: Usage, now: datetime) -> dict[str, Any]:
    """A connection as an item of a discovery."""
    load = figures_of(entry, usage).ratio
    return {
        "id": entry.id,
        "name": entry.record.name,
        "capabilities": names_of(entry.record),
        "health": health_shown(entry, usage, now),
        **({} if load is None else {"load": rounded(load)}),
        "endpoint": endpoint_shown(entry.record.endpoint),
        "protocol": protocol_of(entry.record.endpoint.transport),
    }


_NOT_PROBED_YET = frozenset({NOT_PROBED, NOT_DIALLED, UNPROBED, DRAINING})


def health_shown(entry: Entry, usage: Usage, now: datetime) -> dict[str, Any]:
    """``status``, ``lastCheck`` and ``uptime``; ``reason`` where it is not simply healthy."""
    health = entry.health
    checked = usage.checks(entry.id)[2]
    seen = entry.last_seen(now)
    shown: dict[str, Any] = {
        "status": health_word(health),
        "lastCheck": rfc3339(max(checked, seen) if checked is not None else seen),
    }
    if health.status is not Status.DOWN:
        shown["uptime"] = int(uptime(entry.instance, now))
    if health.status is not Status.HEALTHY:
        shown["reason"] = health.reason
    return shown


def usual_metrics(figures: Load) -> dict[str, Any]:
    """The known figures of a list item."""
    metrics: dict[str, Any] = {}
    if figures.rate is not None:
        metrics["requestsPerMinute"] = rounded(figures.rate)
    if figures.latency is not None:
        metrics["averageLatency"] = milliseconds(figures.latency)
    if figures.active is not None:
        metrics["activeConnections"] = figures.active
    return metrics


def diagnostics(figures: Load, health: Health, *, answered: bool) -> dict[str, Any]:
    """What is known of an instance's process: what it reports, as long as it is heard of; one that
    ``answered`` a probe right now runs."""
    figures = Load() if health.unheard else figures
    running = True if answered else figures.running
    shown = {
        "processRunning": running,
        "memoryUsage": None if figures.memory is None else _megabytes(figures.memory),
        "cpuUsage": None if figures.cpu is None else _plain(round(figures.cpu * 100, 1)),
        "activeRequests": figures.active,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _megabytes(size: int) -> str:
    """Millions of bytes, to a tenth below ten."""
    return f"{round(size / 1e6, 1 if size < 10_000_000 else None):g}MB"


def names_of(record: Record) -> list[str]:
    """The names of all its capabilities, once each."""
    return list(dict.fromkeys(capability_names(record)))


def endpoint_shown(endpoint: Endpoint) -> dict[str, Any]:
    """``command`` and ``args``, or ``url`` and ``transport``."""
    if endpoint.transport == "stdio":
        return {"command": endpoint.command, "args": list(endpoint.args)}
    return {"url": endpoint.url, "transport": endpoint.transport}


def capabilities_shown(document: CapabilityDocument) -> list[dict[str, Any]]:
    """Every capability of ``document`` with its description and schema, where it has them."""
    shown = []
    for kind, items in document.by_kind().items():
        for item in items:
            name, description = text_of(item, "name"), text_of(item, "description")
            schema = item.get("inputSchema")
            if name is None:
                continue
            capability: dict[str, Any] = {"name": name, "kind": kind}
            if description is not None:
                capability["description"] = description
            if isinstance(schema, Mapping):
                capability["schema"] = schema
            shown.append(capability)
    return shown


def health_check_shown(traits: Traits) -> dict[str, Any]:
    """The probe settings that were given: ``interval`` in seconds, ``timeout`` in milliseconds,
    ``failAfter``."""
    shown: dict[str, Any] = {} if traits.probed else {"enabled": False}
    if traits.interval is not None:
        shown["interval"] = _plain(traits.interval)
    if traits.timeout is not None:
        shown["timeout"] = milliseconds(traits.timeout)
    if traits.fail_after is not None:
        shown["failAfter"] = traits.fail_after
    return shown


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds, to a tenth."""
    return _plain(round(seconds * 1000, 1))


def rounded(figure: float) -> float:
    """A figure rounded to four decimal places."""
    return _plain(round(figure, 4))


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number


def _connection(
    entry: Entry, capabilities: list[Any], health: dict[str, Any], metrics: dict[str, Any]
) -> dict[str, Any]:
    """The members that every connection has, and those of the optional ones that are not empty."""
    record = entry.record
    traits = traits_of(record)
    optional = {
        "tags": list(record.tags),
        "zone": record.zone,
        "metadata": shown_metadata(record),
        "healthCheck": health_check_shown(traits),
    }
    return {
        "id": record.id,
        "name": record.name,
        "type": traits.type,
        "protocol": protocol_of(record.endpoint.transport),
        "status": status_of(entry.health),
        "capabilities": capabilities,
        "endpoint": endpoint_shown(record.endpoint),
        "health": health,
        "metrics": metrics,
        **{name: value for name, value in optional.items() if value},
    }
