"""A facade for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.facade.harness import Client, served


@pytest.fixture
async def ask() -> AsyncIterator[Client]:
    """A client of a facade of its own, over an embedded store."""
    async with served() as client:
        yield client
