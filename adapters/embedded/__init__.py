"""The embedded store: in this process, and with a file also across its restarts."""

from mcp_discovery.adapters.embedded.store import EmbeddedStore

__all__ = ["EmbeddedStore"]
