"""A facade on a real socket that can be stopped and started on the same port."""

from __future__ import annotations

import socket

from aiohttp import web

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade.app import create_app
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.state import FACADE


class ServedFacade:
    """``async with ServedFacade() as facade``: a facade over an embedded store of its own."""

    def __init__(self, store: EmbeddedStore | None = None) -> None:
        self._first = store
        self._runner: web.AppRunner | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.store: EmbeddedStore

    @property
    def url(self) -> str:
        """Where the facade listens, and so its store URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def revision(self) -> int:
        """The revision of the facade's list: it moves with every visible change."""
        assert self._runner is not None
        return self._runner.app[FACADE].catalog.view.revision

    async def start(self, store: EmbeddedStore) -> None:
        """Serves ``store`` on the same port as before."""
        self.store = store
        # No server is behind what the contract registers, so that nothing is to be found there.
        app = create_app(store, FacadeOptions(probe_claims=False))
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        """Stops serving and closes the store."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            await self.store.close()

    async def __aenter__(self) -> ServedFacade:
        await self.start(self._first or EmbeddedStore())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
