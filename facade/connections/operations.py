"""Everything that the connections API answers."""

from __future__ import annotations

from facade.connections import (
    changing,
    checking,
    discovering,
    exporting,
    figures,
    importing,
    serving,
)

OPERATIONS = tuple(
    operation
    for module in (serving, changing, discovering, checking, figures, exporting, importing)
    for operation in module.OPERATIONS
)
