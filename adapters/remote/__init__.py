"""The remote store: a facade's store, reached over HTTP."""

from adapters.remote.store import RemoteStore

__all__ = ["RemoteStore"]
