"""Client certificates that run out while a store is in use, renewed before and after."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.credential_files import read_again
from mcp_discovery.errors import StoreUnavailableError
from tests.contract.test_rotation import at_once, registered, replace
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer
from tests.stores.tls import Tls
from tests.stores.waiting import until_holds


@pytest.mark.parametrize("server_type", [ConsulServer, EtcdServer])
async def test_a_client_certificate_runs_out(
    server_type: type[ConsulServer] | type[EtcdServer], tmp_path: Path
) -> None:
    """Renewed before, it is not noticed, though every connection is made anew; renewed after, it is
    taken by the next request."""
    tls, used = Tls(tmp_path), tmp_path / "used"
    used.mkdir()

    def renew(seconds: float) -> float:
        new = tls.lasting(seconds)
        ends = time.time() + seconds
        replace(used / "client.pem", new.cert_file.read_bytes())
        replace(used / "client-key.pem", new.key_file.read_bytes())
        return ends

    async with server_type(tls=tls) as server:
        ends = renew(3)
        certificate, key = str(used / "client.pem"), str(used / "client-key.pem")
        options = StoreOptions(ca=str(tls.ca_file), certificate=certificate, key=key)
        async with open_store(server.store_url, options) as store:
            await registered(store)
            renew(300)
            await until_holds(lambda: time.time() > ends, timeout=10, what="its end")
            await server.restart()
            await at_once(store, await registered(store))
            renew(-1)
            read_again()
            with pytest.raises(StoreUnavailableError, match=r"expired at 20.*Z; renew /"):
                await registered(store)
            renew(300)
            await at_once(store, await registered(store))
