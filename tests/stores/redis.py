"""A real Redis of a test: start, readiness, faults."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis.asyncio

from tests.deploy.tools import program
from tests.stores import ports
from tests.stores.process import LocalProcess
from tests.stores.tls import Tls
from tests.stores.waiting import NotYet, until

_READY = 30.0


class Redis:
    """One server on a port of its own, without persistence: what it knew is lost with it."""

    def __init__(
        self, folder: Path, *, password: str | None = None, tls: Tls | None = None
    ) -> None:
        self._port = ports.draw()
        self._password = password
        self._process = LocalProcess(program("redis-server"), folder / "redis.log")
        self._arguments: tuple[str, ...] = (
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(folder),
        )
        if password is not None:
            self._arguments += ("--requirepass", password)
        if tls is not None:
            files = {"ca-cert": tls.ca_file, "cert": tls.server.cert_file}
            files["key"] = tls.server.key_file
            for name, file in files.items():
                self._arguments += (f"--tls-{name}-file", str(file))
            self._arguments += ("--tls-auth-clients", "no")
        self._tls = tls

    @property
    def url(self) -> str:
        """As ``--limits-store`` takes it."""
        scheme = "redis" if self._tls is None else "rediss"
        return f"{scheme}://127.0.0.1:{self._port.number}/0"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._process.close()
        self._port.release()

    async def start(self) -> None:
        """Starts it and waits until it answers."""
        port: str = "--port"
        options: dict[str, Any] = {}
        if self._tls is not None:
            port = "--tls-port"
            options = {"ssl_ca_certs": str(self._tls.ca_file)}
        plain = ("--port", "0") if self._tls is not None else ()
        await self._process.start((*self._arguments, *plain, port, str(self._port.number)))
        client = redis.asyncio.Redis.from_url(self.url, password=self._password, **options)

        async def answers() -> bool:
            try:
                return bool(await client.ping())
            except redis.RedisError as error:
                raise NotYet(str(error)) from error

        try:
            await until(answers, timeout=_READY, what="Redis answering")
        finally:
            await client.aclose()

    async def kill(self) -> None:
        """Ends it at once."""
        await self._process.kill()

    async def pause(self) -> None:
        """Freezes it: connections stay open and nobody answers."""
        await self._process.pause()

    async def resume(self) -> None:
        """Lets it go on."""
        await self._process.resume()
