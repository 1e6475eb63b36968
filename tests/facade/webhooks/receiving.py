"""A receiver of webhooks on a real socket; what it gets is verified by the published library."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from standardwebhooks import Webhook

from tests.stores.waiting import until_holds


def secret(number: int) -> str:
    """A secret as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(bytes([number]) * 32).decode()


@dataclass
class ReceivingServer:
    """Answers with ``status`` and ``headers``, or never where it ``hangs``."""

    secrets: Sequence[str] = (secret(1),)
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    port: int = 0
    #: What came: the id, and the payload.
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=in-the-url"

    @property
    def types(self) -> list[str]:
        return [payload["type"] for _, payload in self.messages]

    async def _take(self, request: web.Request) -> web.Response:
        headers = dict(request.headers)
        self.requests.append(headers)
        if self.hangs:
            await asyncio.sleep(3600)
        body = await request.read()
        for each in self.secrets:
            payload = Webhook(each).verify(body, headers)
        if self.status < 300:
            self.messages.append((headers["webhook-id"], payload))
        return web.Response(status=self.status, headers=self.headers)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ReceivingServer]:
        app = web.Application()
        app.router.add_post("/hook", self._take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def until(self, *types: str, timeout: float = 20.0) -> None:
        """Waits until messages of these types have come, in this order."""
        wanted = list(types)
        await until_holds(lambda: self.types == wanted, timeout=timeout, what=f"{wanted} coming")


def webhooks_file(folder: Path, secrets: Sequence[str] = (secret(1),), **sections: Any) -> str:
    """A file of receivers, each ``name={"url": …}``, with a secret file beside it."""
    (folder / "secret").write_text("\n".join(secrets))
    receivers = {
        name: {"secret": {"file": "secret"}, **section} for name, section in sections.items()
    }
    file = folder / "webhooks.yaml"
    file.write_text(yaml.safe_dump({"receivers": receivers, "alarm_after": 0.3}))
    return str(file)
