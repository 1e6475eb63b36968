"""Servers that change, and what is asked of their past."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mcp_discovery.adapters.store import Registration, Store
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.health import utcnow
from mcp_discovery.instance import HOLDER_HEADER
from mcp_discovery.record import Record
from tests.facade.harness import Client, leased
from tests.stores.waiting import until, until_holds


class Registered:
    """An instance that a simple client keeps registered."""

    def __init__(self, ask: Client, id: str, holder: str, headers: dict[str, str]) -> None:
        self.ask = ask
        self.id = id
        self.headers = headers | {HOLDER_HEADER: holder}

    @classmethod
    async def new(
        cls, ask: Client, id: str, headers: dict[str, str] | None = None, **more: Any
    ) -> Registered:
        """Registers it, as ``shop`` unless told otherwise."""
        body = leased(id, **{"name": "shop", "registeredAt": "2026-01-01T00:00:00Z"} | more)
        reply = await ask("POST", "/servers", body, headers=headers or {})
        assert reply.status == 201, reply.body

        async def known() -> bool:
            asked = f"/servers/{id}/history?of=instance"
            told = await ask("GET", asked, headers=headers or {})
            # Where none is kept, or none may be seen, there is nothing to wait for.
            return told.status != 200 or bool(told.json["changes"])

        await until(known, timeout=20, what=f"the beginning of {id} in the history")
        await a_moment()
        return cls(ask, id, reply.json["holder"], headers or {})

    async def beat(self, status: str, reason: str = "as told") -> None:
        """It says how it is."""
        body = {"status": status, "reason": reason}
        reply = await self.ask("POST", f"/servers/{self.id}/heartbeat", body, headers=self.headers)
        assert reply.status == 200, reply.body
        await a_moment()

    async def offer(self, document: CapabilityDocument, **more: Any) -> None:
        """It offers something else."""
        path = f"/documents/{document.digest}"
        sent = await self.ask("PUT", path, document.canonical, headers=self.headers)
        assert sent.status == 204, sent.body
        offered = {"tools": document.names()["tools"], "digest": document.digest}
        body = leased(self.id, **{"name": "shop", "registeredAt": "2026-01-01T00:00:00Z"} | more)
        body["capabilities"] = offered
        reply = await self.ask("PUT", f"/servers/{self.id}", body, headers=self.headers)
        assert reply.status == 200, reply.body
        await a_moment()

    async def leave(self) -> None:
        """It is deregistered."""
        reply = await self.ask("DELETE", f"/servers/{self.id}", headers=self.headers)
        assert reply.status == 204, reply.body
        await a_moment()


async def registered(store: Store, id: str, **more: Any) -> Registration:
    """An instance that is registered in the store itself."""
    content = {"id": id, "name": "shop", "endpoint": {"url": f"http://127.0.0.1:9/{id}"}}
    return await store.register(
        Record.parse(content | more), tools(buy="Buys"), ttl=600, reap_after=1200
    )


async def a_moment() -> None:
    """Lets the clock move on: what lasts no millisecond is not told."""
    now = utcnow() + timedelta(milliseconds=1)
    await until_holds(lambda: utcnow() > now, timeout=10, what="the next millisecond")


async def changes(
    ask: Client, name: str, query: str = "", headers: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """What became of a server, oldest first."""
    reply = await ask("GET", f"/servers/{name}/history{query}", headers=headers or {})
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json["changes"]
    return found[::-1]


def tools(**descriptions: str) -> CapabilityDocument:
    """A document of tools with these descriptions."""
    return CapabilityDocument(
        tools=tuple(
            {"name": name, "description": text, "inputSchema": {"type": "object"}}
            for name, text in descriptions.items()
        )
    )
