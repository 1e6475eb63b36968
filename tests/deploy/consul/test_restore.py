"""The page's backup and restore, run over agents that the page set up."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.store import Registration, StoreOptions
from mcp_discovery.errors import RegistrationLostError
from mcp_discovery.health import healthy
from tests.deploy.consul.agents import consul
from tests.deploy.consul.conftest import Site
from tests.deploy.consul.test_page import PAGE
from tests.records import document, record
from tests.stores.waiting import until

COMMANDS = re.findall(r"^\$ consul (snapshot .*)$", PAGE, re.MULTILINE)


async def test_a_store_is_restored_by_the_page(site: Site, tmp_path: Path) -> None:
    save, *restore = COMMANDS
    options = StoreOptions(token=site.tokens["sidecar"])
    reading = StoreOptions(token=site.tokens["facade"])
    async with (
        open_store(site.client.store_url, options) as store,
        open_store(site.client.store_url, reading) as read,
        Catalog(read) as catalog,
    ):
        held: dict[str, Registration] = {}

        async def register(id: str) -> None:
            held[id] = await store.register(record(id), document("a"), ttl=60, reap_after=60)

        async def listed() -> bool:
            for id, registration in list(held.items()):
                try:  # as a registrant does, with all that it keeps
                    await registration.heartbeat(healthy(), renew=True)
                except RegistrationLostError:
                    await register(id)
            return catalog.view.stale_since is None and set(catalog.view.entries) == set(held)

        await register("before-1")
        await consul(*shlex.split(save), folder=tmp_path, environment=site.server.environment)
        await register("since-1")
        await until(listed, timeout=20, what="both being listed")
        for command in restore:
            await consul(
                *shlex.split(command), folder=tmp_path, environment=site.server.environment
            )
        await site.client.terminate()
        await site.client.start()
        await until(listed, timeout=60, what="both being listed again")
        for registration in held.values():
            await registration.deregister()
