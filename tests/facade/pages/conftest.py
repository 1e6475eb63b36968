"""One browser, and one facade with something of everything, for the tests of the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.browser import chromium
from tests.facade.harness import Client, served
from tests.facade.pages.fleet import furnish


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    """A browser for all of these tests; each has a context of its own in it."""
    async with chromium() as found:
        yield found


@pytest.fixture(scope="package")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A facade with servers that live, that are down and that mean harm, and with an audit."""
    database = tmp_path_factory.mktemp("audit") / "audit.db"
    audit = AuditSettings(store=f"sqlite:///{database}")
    async with served(audit=audit, gateway=True, mcp_call_tool=True, posted_ttl=60.0) as ask:
        await furnish(ask)
        yield ask
