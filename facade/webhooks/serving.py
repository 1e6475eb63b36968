"""Makes the webhooks of an application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.missed import MissedInstances
from mcp_discovery.facade.access.audit.audit import Audit
from mcp_discovery.facade.access.audit.journal import system_entry
from mcp_discovery.facade.http.metrics import Metrics
from mcp_discovery.facade.http.outbound import Dialer
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.webhooks.deliveries import (
    DatabaseDeliveries,
    Deliveries,
    MemoryDeliveries,
)
from mcp_discovery.facade.webhooks.receivers import follow
from mcp_discovery.facade.webhooks.webhooks import WEBHOOKS, WebhookFigures, Webhooks
from mcp_discovery.probe import ServerTls


def serve_webhooks(
    app: web.Application,
    options: FacadeOptions,
    catalog: Catalog,
    missed: MissedInstances,
    audit: Audit | None,
    tls: ServerTls,
    metrics: Metrics,
) -> None:
    """Has ``app`` tell the receivers in the file of ``options``; raises
    :class:`~mcp_discovery.errors.InvalidInputError`.

    Call it behind the audit's own part: what waits is kept in its database, while that is open.
    """
    assert options.webhooks is not None
    database = None if audit is None else audit.store
    deliveries: Deliveries = (
        MemoryDeliveries() if database is None else DatabaseDeliveries(database)
    )

    def dialer() -> Dialer:
        return Dialer(options.addresses, tls=tls)

    def on_failure(name: str, facts: Mapping[str, Any]) -> None:
        if audit is not None:
            audit.journal.enqueue(system_entry(name, facts))

    file = follow(options.webhooks)
    webhooks = app[WEBHOOKS] = Webhooks(file, catalog, missed, deliveries, dialer, on_failure)
    metrics.add(WebhookFigures(webhooks))
    app.cleanup_ctx.append(webhooks.running)
