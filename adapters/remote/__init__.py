"""The remote store: a facade's store, reached over HTTP."""

from mcp_discovery.adapters.remote.store import RemoteStore

__all__ = ["RemoteStore"]
