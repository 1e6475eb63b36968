"""Where the events of a test are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_discovery.credential_files import Secret
from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.stores.postgres import Postgres


@pytest.fixture
def settings(tmp_path: Path) -> AuditSettings:
    """SQLite in a file."""
    return AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")


@pytest.fixture(scope="module")
async def postgres() -> AsyncIterator[Postgres]:
    """One PostgreSQL for the tests of a module."""
    async with Postgres() as server:
        yield server


@pytest.fixture
async def in_postgres(postgres: Postgres) -> AsyncIterator[AuditSettings]:
    """An empty store in PostgreSQL."""
    yield AuditSettings(
        store=postgres.url, password=Secret("password", Postgres.password, in_header=False)
    )
    history = (f"history_{each}" for each in ("periods", "spans", "lead", "documents", "schema"))
    for table in ("audit_log", "audit_head", "audit_schema", *history):
        await postgres.execute(f"DROP TABLE IF EXISTS {table}")


@pytest.fixture(params=["sqlite", "postgres"])
def stored(
    request: pytest.FixtureRequest, settings: AuditSettings, in_postgres: AuditSettings
) -> AuditSettings:
    """An empty store of either kind."""
    return settings if request.param == "sqlite" else in_postgres
