"""Credentials that the store does not ask for, as a sidecar, a facade and the doctor tell them."""

from __future__ import annotations

from pathlib import Path

from tests.programs import command, facade, running
from tests.servers.process import odd
from tests.stores.etcd import EtcdServer
from tests.stores.waiting import until


async def test_sidecar_facade_and_doctor_say_it(
    etcd_server: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    store = f"{etcd_server.store_url}/{namespace}"
    given = {
        "MCP_DISCOVERY_STORE_USER": "mcp-facade",
        "MCP_DISCOVERY_STORE_PASSWORD": "wr0ng",
    }
    async with (
        odd("--tools", "1") as server,
        facade(tmp_path, store, **given) as asked,
        running(
            tmp_path, "sidecar", "--store", store, "--url", server.url, "--id", "one", **given
        ) as sidecar,
    ):
        await asked.until_status("one", "healthy", 20)

        async def both() -> bool:
            logs = [each.log for each in (asked.process, sidecar)]
            return all("etcd's users are off" in log for log in logs)

        await until(both, timeout=5, what="both having said it")
        told = await command("doctor", "--store", store, "--read-only", timeout=60, **given)
        assert "etcd's users are off" in told.out
        assert told.code == 1
