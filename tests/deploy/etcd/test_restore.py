"""The page's backup and restore, as they stand, with the tools of the etcd that runs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import RegistrationLostError
from mcp_discovery.health import healthy
from tests.deploy.etcd import page
from tests.deploy.etcd.configured import ConfiguredEtcd
from tests.deploy.etcd.documented import documented_etcd
from tests.deploy.etcd.roles import environment
from tests.records import document, record
from tests.stores import binaries
from tests.stores.etcd import encode, restorer
from tests.stores.server import RequestRefused
from tests.stores.waiting import until

pytestmark = pytest.mark.parametrize("release", binaries.matrix(), indirect=True, scope="session")


def run(block: str, server: ConfiguredEtcd, folder: Path) -> None:
    """Runs a block of the page, for a cluster of this one member."""
    block = re.sub(r",etcd-[23]=\S+", "", block)
    for there, here in (
        ("https://10.0.0.11:2380", f"https://{server.host}:{server.port('peer')}"),
        ("/var/lib/etcd", str(server.data / "member")),
        # On 3.5 the page allows for etcdctl, which these tests have of it.
        ("etcdutl ", f"{Path(restorer(server.program)).name} "),
    ):
        block = block.replace(there, here)
    done = subprocess.run(
        ["sh", "-eu", "-c", block],
        cwd=folder,
        env=os.environ | environment(server) | {"ETCDCTL_USER": "root:s3cr3t-of-root"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_a_store_is_restored_by_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    async with documented_etcd(folder) as server:
        options = StoreOptions(
            user="mcp-facade",
            password="s3cr3t-of-facade",
            ca=str(folder / "ca.pem"),
            certificate=str(folder / "client.pem"),
            key=str(folder / "client-key.pem"),
        )
        async with open_store(server.store_url, options) as store, Catalog(store) as catalog:

            async def listed(*ids: str) -> None:
                async def now() -> bool:
                    view = catalog.view
                    return view.stale_since is None and set(view.entries) == set(ids)

                await until(now, timeout=40, what=f"the list being {ids}")

            before = await store.register(record("b-1"), document("a"), ttl=60, reap_after=60)
            run(page.example("# a backup\n"), server, folder)
            since = await store.register(record("b-2"), document("a"), ttl=60, reap_after=60)
            await listed("b-1", "b-2")
            headers = {"Authorization": await server.authenticate("root", "s3cr3t-of-root")}
            key = {"key": encode("/mcp/live/b-2")}
            found = await server.request("POST", "/v3/kv/range", body=key, headers=headers)
            former = int(found.json()["header"]["revision"])

            await server.stop()
            run(page.example("# a restore\n"), server, folder)
            await server.start()

            headers = {"Authorization": await server.authenticate("root", "s3cr3t-of-root")}
            found = await server.request("POST", "/v3/kv/range", body=key, headers=headers)
            assert int(found.json()["header"]["revision"]) > former
            assert not found.json().get("kvs")
            with pytest.raises(RequestRefused, match="has been compacted"):  # so a watch ends, too
                body = key | {"revision": str(former)}
                await server.request("POST", "/v3/kv/range", body=body, headers=headers)

            await before.heartbeat(healthy(), renew=True)
            with pytest.raises(RegistrationLostError):
                await since.heartbeat(healthy(), renew=True)
            await store.register(record("b-2"), document("a"), ttl=60, reap_after=60)
            await listed("b-1", "b-2")
