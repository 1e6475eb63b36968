"""A connection to a facade for the commands that ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapters.remote.api import FacadeApi
from adapters.store import StoreOptions
from mcp_discovery.errors import InvalidInput


@asynccontextmanager
async def asking(facade: str) -> AsyncIterator[FacadeApi]:
    """The facade's endpoints; raises :class:`InvalidInput` when ``facade`` is no HTTP URL."""
    if not facade.startswith(("http://", "https://")):
        raise InvalidInput(f"--facade {facade!r} is not an HTTP URL; write http://127.0.0.1:4000")
    api = FacadeApi(facade, StoreOptions())
    try:
        yield api
    finally:
        await api.close()
