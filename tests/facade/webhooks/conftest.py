"""A receiver for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.facade.webhooks.receiving import ReceivingServer


@pytest.fixture
async def hook() -> AsyncIterator[ReceivingServer]:
    """A receiver that takes everything."""
    async with ReceivingServer().serving() as server:
        yield server
