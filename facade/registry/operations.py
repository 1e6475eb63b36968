"""Everything that the registry answers."""

from __future__ import annotations

from mcp_discovery.facade.registry import api, cards

OPERATIONS = (*api.OPERATIONS, *cards.OPERATIONS)
