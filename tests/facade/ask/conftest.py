"""A facade with ``--auth`` and a model, the two servers behind it, and its audit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.access.tokens import bearer, guarded
from tests.facade.harness import Client
from tests.mcp_discovery.ask.fake_models import FakeModelServer, Planned
from tests.mcp_discovery.ask.fake_openai import FakeOpenAI
from tests.servers.process import example

SECTIONS: Mapping[str, Any] = {
    "roles": {
        "operator": "read call register report admin",
        "reader": "read",
        "employee": "stock:read",
        "manager": "stock:read figures:read",
        "admin": "stock:read",
        "registrar": "read register",
    },
    "scopes": {
        "stock:read": ["search_products", "check_stock"],
        "figures:read": ["top_pages", "sales_report"],
    },
}


@pytest.fixture(scope="package")
async def servers() -> AsyncIterator[Mapping[str, str]]:
    """The URLs of the two servers."""
    async with AsyncExitStack() as stack:
        found = {}
        for name, own in (("products", "product_catalog"), ("figures", "analytics")):
            found[name] = (await stack.enter_async_context(example(own))).url
        yield found


class Asked:
    """A facade and the fake of the model that it asks."""

    def __init__(self, client: Client, fake: FakeModelServer) -> None:
        self.client = client
        self.fake = fake

    async def __call__(self, role: str | None, body: Any, path: str = "/api/ask") -> Any:
        """What is answered to ``role``, or to nobody."""
        headers = {} if role is None else bearer(role)
        return await self.client("POST", path, body, headers=headers)

    async def logs(self, **fields: str) -> list[dict[str, Any]]:
        """The audit, from the oldest event on."""
        reply = await self.client("GET", "/audit", params=fields, headers=bearer("operator"))
        found: list[dict[str, Any]] = reply.json["logs"]
        return found[::-1]


Asking = Callable[..., Any]


@pytest.fixture
def asking(tmp_path: Path, servers: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Asking:
    """Starts a facade with a fake that has a script."""

    @asynccontextmanager
    async def start(
        *script: Planned,
        fake: type[FakeModelServer] = FakeOpenAI,
        sections: Mapping[str, Any] = SECTIONS,
        **more: Any,
    ) -> AsyncIterator[Asked]:
        audit = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db", arguments=True)
        async with fake(*script).running() as server:
            server.use(monkeypatch)
            async with guarded(tmp_path, sections, audit=audit, **more) as client:
                for name, url in servers.items():
                    body = {"id": f"{name}-1", "name": name, "url": url}
                    made = await client("POST", "/servers", body, headers=bearer("operator"))
                    assert made.status in (200, 201), made.body
                    await until_healthy(client, f"{name}-1")
                yield Asked(client, server)

    return start


async def until_healthy(client: Client, id: str) -> None:
    """Waits for it."""
    from tests.stores.waiting import until

    async def healthy() -> bool:
        reply = await client("GET", f"/servers/{id}", headers=bearer("operator"))
        return bool(reply.json["status"] == "healthy")

    await until(healthy, timeout=60, what=f"{id} being healthy")
