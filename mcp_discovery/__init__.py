"""mcp-discovery: agents find MCP servers that are alive, by tag and by capability.

``from mcp_discovery import Discovery`` is all that an agent needs. The errors that it raises are
here as well; :mod:`mcp_discovery.errors` draws them as a tree. ``Change``,
``Credentials``, ``Discovery``, ``SyncDiscovery`` and ``Tool`` need the MCP SDK:
``pip install 'mcp-discovery[client]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp_discovery import errors
from mcp_discovery.errors import *  # noqa: F403

if TYPE_CHECKING:
    from mcp_discovery.client import Change, Credentials, Discovery, SyncDiscovery, Tool

__all__ = ["Change", "Credentials", "Discovery", "SyncDiscovery", "Tool"]
__all__ += errors.__all__


def __getattr__(name: str) -> Any:
    # The client imports the MCP SDK; a sidecar, which shares this package, must not pay for it.
    if name in __all__:
        from mcp_discovery import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
