"""Puts one facade together: an aiohttp application over one store."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator

from aiohttp import web

from adapters.catalog import Catalog
from adapters.store import Store
from facade import exchange, registering, servers, status
from facade.documents import Documents
from facade.events import Streams
from facade.locks import IdLocks
from facade.metrics import Metrics
from facade.operation import routes
from facade.options import FacadeOptions
from facade.posted import Posted
from facade.problems import MAX_BODY_BYTES, problems
from facade.registrations import LeasedRegistrations
from facade.state import FACADE, Facade
from mcp_discovery.errors import StoreError

log = logging.getLogger(__name__)

#: Everything that a facade answers.
OPERATIONS = tuple(
    operation
    for module in (servers, registering, exchange, status)
    for operation in module.OPERATIONS
)

#: How often, in seconds, registrations whose TTL is over are let go.
_LAPSED_EVERY = 5.0


def create_app(store: Store, options: FacadeOptions | None = None) -> web.Application:
    """The facade over ``store``, which stays the caller's to close.

    While the application runs it watches the store, probes what was posted to it and sweeps the
    store's orphans; all of that ends with it.
    """
    options = options or FacadeOptions()
    catalog = Catalog(store, hold=options.hold, ring=options.ring)
    documents = Documents(catalog)
    leased = LeasedRegistrations(store)
    locks = IdLocks()
    posted = Posted(catalog, documents, locks, options)
    streams = Streams(catalog, ping=options.ping, write_timeout=options.write_timeout)
    metrics = Metrics(
        catalog,
        {
            "event_readers": ("Readers of server-sent events.", lambda: len(streams)),
            "registrations": ("Registrations held for others.", lambda: len(leased)),
            "posted": ("Entries that this facade probes.", lambda: len(posted)),
        },
    )
    app = web.Application(middlewares=[metrics.count, problems], client_max_size=MAX_BODY_BYTES)
    app[FACADE] = Facade(catalog, documents, leased, posted, streams, metrics, locks, options)
    app.add_routes(routes(OPERATIONS))
    app.cleanup_ctx.append(_alive)
    app.on_shutdown.append(_end_streams)
    return app


async def _alive(app: web.Application) -> AsyncIterator[None]:
    """The facade's own tasks, from start to clean-up."""
    facade = app[FACADE]
    async with facade.catalog, facade.posted:
        tasks = [
            asyncio.create_task(facade.leased.forget_lapsed(_LAPSED_EVERY), name="lapsed"),
            asyncio.create_task(facade.streams.drop_gone(), name="gone readers"),
            asyncio.create_task(
                _sweep(facade.catalog.store, facade.options.sweep_interval), name="sweep"
            ),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _end_streams(app: web.Application) -> None:
    app[FACADE].streams.close()


async def _sweep(store: Store, interval: float) -> None:
    """Removes the store's orphans now and then, out of step with other facades."""
    while True:
        await asyncio.sleep(interval * random.uniform(0.75, 1.25))
        try:
            removed = await store.sweep()
        except StoreError as error:
            log.debug("sweeping: %s", error)
        except Exception:  # the guard that keeps the sweeper alive
            log.exception("sweeping failed in a way it must not")
        else:
            if removed:
                log.info("%s: swept %d orphaned keys", store.url, removed)
