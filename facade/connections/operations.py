"""Everything that the connections API answers."""

from __future__ import annotations

from mcp_discovery.facade.connections import (
    discovery as discovering,
)
from mcp_discovery.facade.connections import (
    handlers as serving,
)
from mcp_discovery.facade.connections import (
    health_checks as checking,
)
from mcp_discovery.facade.connections import (
    registration as changing,
)
from mcp_discovery.facade.connections import (
    registry_export as exporting,
)
from mcp_discovery.facade.connections import (
    registry_import as importing,
)
from mcp_discovery.facade.connections import (
    statistics as figures,
)

OPERATIONS = tuple(
    operation
    for module in (serving, changing, discovering, checking, figures, exporting, importing)
    for operation in module.OPERATIONS
)
