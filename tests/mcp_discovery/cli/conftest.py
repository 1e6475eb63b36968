"""One cluster for all tests of a module: they read, and leave it as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.mcp_discovery.cli.cluster import Cluster, cluster


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A facade with a talkative server and an odd one."""
    folder: Path = tmp_path_factory.mktemp("cluster")
    async with cluster(folder) as found:
        yield found
