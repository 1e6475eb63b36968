"""The paths under which a platform asks: the plain paths' own operations, once more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mcp_discovery.facade.http.operation import Operation

#: What is put before a path.
PREFIX = "/api/platform"


def aliases(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """The operations on servers and tools under :data:`PREFIX`, with the same handlers."""
    return tuple(
        replace(each, path=PREFIX + each.path, group="platform")
        for each in operations
        if each.path.split("/", 2)[1] in ("servers", "tools")
    )
