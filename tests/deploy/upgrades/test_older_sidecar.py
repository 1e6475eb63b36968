"""A facade of today beside a sidecar of 0.1.0, whose requests to the store were recorded."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import aiohttp
import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.errors import DuplicateInstanceError
from tests.programs import facade
from tests.records import document, record
from tests.stores import ConsulServer, EtcdServer
from tests.stores.waiting import NotYet, until

RECORDED = json.loads((Path(__file__).parent / "sidecar-0.1.0.json").read_text())


async def replayed(server: ConsulServer | EtcdServer) -> None:
    """Sends to ``server`` what the sidecar of 0.1.0 sent to a store of that kind."""
    scheme, _, address = server.store_url.partition("://")
    base = f"http://{address.partition('/')[0]}"
    async with aiohttp.ClientSession() as http:
        for said in RECORDED[scheme]:
            body = said["text"].encode() if "text" in said else base64.b64decode(said["base64"])
            asked = http.request(said["method"], base + said["path"], data=body)
            async with asked as response:
                assert response.status == 200, (said, await response.text())


@pytest.mark.parametrize("kind", [ConsulServer, EtcdServer])
async def test_an_older_sidecar_is_listed_and_succeeded(
    kind: type[ConsulServer | EtcdServer], tmp_path: Path
) -> None:
    async with (
        kind() as server,
        facade(tmp_path, server.store_url) as asked,
        open_store(server.store_url) as store,
    ):
        await replayed(server)
        entry = await asked.until_status("old-1", "degraded", 10)
        assert entry["reason"] == "slower than 1 s"
        assert entry["url"] == "http://127.0.0.1:8001/mcp?of=old-1"
        offered = await asked.get("/servers/old-1/capabilities")
        assert [tool["name"] for tool in offered["tools"]] == ["search"]
        # One of today registers beside it, and does not take its id while it may be alive …
        await store.register(record("new-1"), document("search"), ttl=60, reap_after=120)
        await asked.until_status("new-1", "healthy", 10)
        with pytest.raises(DuplicateInstanceError):
            await store.register(record("old-1"), document("find"), ttl=10, reap_after=60)
        # … and takes it over once the older one has fallen silent.
        silent = await asked.until_status("old-1", "down", 14)
        assert silent["reason"] == "no heartbeat for 10 s"

        async def taken_over() -> bool:
            try:
                await store.register(record("old-1"), document("find"), ttl=60, reap_after=120)
            except DuplicateInstanceError as error:
                raise NotYet(str(error)) from error
            return True

        await until(taken_over, timeout=10, what="taking the id over")
        await asked.until_status("old-1", "healthy", 10)
        assert set(await asked.servers()) == {"old-1", "new-1"}
