"""A proxy in front of a real Consul that spoils single answers: faults Consul cannot be made to
produce on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from tests.stores import ConsulServer

_KEPT = (
    "X-Consul-Index",
    "X-Consul-KnownLeader",
    "X-Consul-Query-Backend",
    "X-Consul-Reason",
    "Content-Type",
)


@dataclass
class Spoiled:
    """An answer of Consul's; a fault changes it, or raises to cut the connection."""

    path: str
    query: dict[str, str]
    status: int
    headers: dict[str, str]
    body: bytes


class Cut(Exception):
    """Raised by a fault: the connection ends without an answer."""


class FaultyConsul:
    """``url`` is the proxy's store URL; set ``fault`` to spoil answers while it is set."""

    def __init__(self, server: ConsulServer, namespace: str) -> None:
        self._server = server
        self._namespace = namespace
        self._port = 0
        self.fault: Callable[[Spoiled], None] | None = None

    @property
    def url(self) -> str:
        return f"consul://127.0.0.1:{self._port}/{self._namespace}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as self._session:
            app = web.Application(client_max_size=2**24)
            app.router.add_route("*", "/{path:.*}", self._forward)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._port = runner.addresses[0][1]
            try:
                yield
            finally:
                await runner.cleanup()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        async with self._session.request(
            request.method,
            self._server.http_url + request.raw_path,
            data=await request.read(),
        ) as answer:
            headers = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
            spoiled = Spoiled(
                request.path, dict(request.query), answer.status, headers, await answer.read()
            )
        if self.fault is not None:
            try:
                self.fault(spoiled)
            except Cut:
                assert request.transport is not None
                request.transport.close()
        return web.Response(status=spoiled.status, headers=spoiled.headers, body=spoiled.body)
