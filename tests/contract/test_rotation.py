"""Credentials that are rotated in their files while a store is in use."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import Registration, Snapshot, Store, StoreOptions
from mcp_discovery.errors import StoreDeniedError, StoreUnavailableError
from mcp_discovery.health import healthy
from tests.records import document, record
from tests.stores import binaries
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer
from tests.stores.tls import Tls
from tests.stores.waiting import until

pytestmark = pytest.mark.parametrize("release", binaries.matrix(), indirect=True, scope="session")

RULES = """
    service_prefix "mcp" { policy = "write" }
    key_prefix "mcp/" { policy = "write" }
    node_prefix "" { policy = "read" }
    agent_prefix "" { policy = "read" }
"""


def replace(file: Path, content: bytes) -> None:
    """Puts a new file in the place of ``file``, as mounted secrets are rotated."""
    new = file.with_name(f"{file.name}.new")
    new.write_bytes(content)
    new.rename(file)


async def registered(store: Store) -> Registration:
    return await store.register(record(), document("a"), ttl=30, reap_after=60)


async def at_once(store: Store, registration: Registration) -> None:
    """Each kind of request succeeds at the first attempt."""
    await registration.heartbeat(healthy(), renew=True)
    assert await store.document(document("a").digest) == document("a")
    async with aclosing(store.watch()) as events:
        first = await anext(events)
        assert isinstance(first, Snapshot)
        assert set(first.instances) == {registration.id}


async def test_a_consul_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    async with ConsulServer(acl=True) as server:
        first = await server.create_token(RULES)
        file.write_text(f"{first}\n")
        options = StoreOptions(token_file=str(file))
        async with open_store(server.store_url, options) as store:
            registration = await registered(store)
            token = (await server.api("GET", "/v1/acl/token/self", token=first)).json()
            await server.api("DELETE", f"/v1/acl/token/{token['AccessorID']}")

            async def revoked() -> bool:
                try:
                    await registration.heartbeat(healthy(), renew=True)
                except StoreDeniedError:
                    return True
                return False

            await until(revoked, timeout=30, what="Consul knowing that the token is revoked")
            replace(file, (await server.create_token(RULES)).encode())
            await at_once(store, registration)


async def test_the_password_of_an_etcd_user(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cr3t-1")
    async with EtcdServer(auth=True) as server:
        await server.add_user("discovery", "s3cr3t-1", prefix="/mcp/")
        options = StoreOptions(user="discovery", password_file=str(file))
        async with open_store(server.store_url, options) as store:
            registration = await registered(store)
            changed = {"name": "discovery", "password": "s3cr3t-2"}
            await server.call("auth/user/changepw", changed)
            with pytest.raises(StoreDeniedError):
                await registration.heartbeat(healthy(), renew=True)
                await store.document(document("a").digest)
            replace(file, b"s3cr3t-2")
            await at_once(store, registration)


@pytest.mark.parametrize("server_type", [ConsulServer, EtcdServer])
async def test_a_ca_and_a_client_certificate(
    server_type: type[ConsulServer] | type[EtcdServer], tmp_path: Path
) -> None:
    right, wrong = Tls(tmp_path / "right"), Tls(tmp_path / "wrong")
    used = tmp_path / "used"
    used.mkdir()
    names = ("ca.pem", "client.pem", "client-key.pem")

    def use(tls: Tls, *only: str) -> None:
        for name in only or names:
            replace(used / name, (tls.folder / name).read_bytes())

    use(wrong)
    options = StoreOptions(
        ca=str(used / "ca.pem"),
        certificate=str(used / "client.pem"),
        key=str(used / "client-key.pem"),
    )
    async with (
        server_type(tls=right) as server,
        open_store(server.store_url, options) as store,
    ):
        with pytest.raises(StoreUnavailableError, match="not trusted"):
            await store.document("0" * 64)
        use(right, "ca.pem")
        with pytest.raises(StoreUnavailableError, match="client certificate"):
            await registered(store)
        use(right)
        registration = await registered(store)
        await at_once(store, registration)
