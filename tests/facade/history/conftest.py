"""Where the histories of a test are kept."""

from __future__ import annotations

import pytest

from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.access.audit.conftest import in_postgres, postgres, settings, stored

__all__ = ["in_postgres", "postgres", "settings", "stored"]


@pytest.fixture(params=["memory", "sqlite"])
def kept(request: pytest.FixtureRequest, settings: AuditSettings) -> AuditSettings | None:
    """The settings of an audit, or none: the history is in memory then."""
    return None if request.param == "memory" else settings
