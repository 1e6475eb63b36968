"""The store's credentials as the doctor tries them: as a sidecar of one server, or as a facade."""

from __future__ import annotations

from typing import Any

from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.cli.doctor.case import Case
from mcp_discovery.cli.doctor.store import check_store
from tests.deploy.etcd.roles import DOMAIN, PASSWORD, Permission, permissions, revoke, script
from tests.stores.etcd import EtcdServer


async def found(store: str, user: str, **given: Any) -> list[str]:
    """The findings as ``state: message``."""
    credentials = StoreOptions(user=user, password=PASSWORD)
    case = Case(facade="http://127.0.0.1:9", store=store, credentials=credentials, **given)
    return [f"{each.state}: {each.message}" async for each in check_store(case)]


async def test_users_of_least_privilege_are_well_and_what_they_lack_is_named() -> None:
    async with EtcdServer(auth=True) as server:
        await script(server, "roles")
        await script(server, "server", "shop", "red")
        for role in ("mcp-sidecar", "mcp-facade", "mcp-sidecar-shop"):
            await script(server, "user", role, role)
        plain, named = server.store_url, f"{server.store_url}?skydns={DOMAIN}"
        not_read = "unchecked: its list was not read: that takes a facade's rights"

        for store in (plain, named):
            first, second = await found(store, "mcp-sidecar")
            assert first.startswith(not_read)
            assert second == (
                "ok: it can be written to: a registration of doctor was made and removed again"
            )
        _, second = await found(named, "mcp-sidecar-shop", name="shop", tags=("red",))
        assert second.startswith("ok: it can be written to: a registration of shop")
        first, second = await found(plain, "mcp-facade", role="facade")
        assert first == f"ok: {plain} can be read: 0 instances"
        assert second.startswith(
            "unchecked: 0 definitions of named queries can be read, and none be kept"
        )
        assert "the user 'mcp-facade' lacks WRITE on /mcp/queries/*" in second
        await script(server, "user", "mcp-facade", "mcp-queries")
        _, second = await found(plain, "mcp-facade", role="facade")
        assert second.startswith("ok: 0 definitions of named queries can be read, and more be kept")

        _, second = await found(plain, "mcp-sidecar-shop")
        assert second.startswith("wrong: a sidecar of doctor cannot keep it registered: ")
        for lacking in ("ids/doctor-", "live/doctor-", "servers/doctor/doctor-"):
            assert f"READWRITE on /mcp/{lacking}" in second
        assert "documents" not in second
        _, second = await found(named, "mcp-sidecar-shop", name="shop", tags=("red", "blue"))
        assert "READ on /mcp/servers/blue/*" in second
        assert "/tag/red/" not in second
        (only,) = await found(plain, "mcp-sidecar", role="facade")
        assert "the user 'mcp-sidecar' lacks READ on /mcp/live/ to /mcp/servers0" in only
        _, second = await found(f"{plain}/elsewhere", "mcp-sidecar", read_only=True)
        assert "is /elsewhere/ not the prefix that it was granted?" in second

        # What was taken away is named, also where nothing would be registered.
        (live,) = [p for p in await permissions(server, "mcp-sidecar") if "/live/" in p.first]
        assert live == Permission("READWRITE", "/mcp/live/", "/mcp/live0")
        await revoke(server, "mcp-sidecar", live)
        for read_only in (False, True):
            _, second = await found(plain, "mcp-sidecar", name="shop", read_only=read_only)
            assert second.startswith(
                "wrong: a sidecar of shop cannot keep it registered: permission denied: the user "
                "'mcp-sidecar' lacks READWRITE on /mcp/live/shop-"
            )
        (only,) = await found(plain, "nobody")
        assert only.startswith("wrong: it refuses these credentials: ")


async def test_what_is_wrong_with_the_store_itself_is_said_before_its_rights() -> None:
    async with EtcdServer() as server:
        secure = server.store_url.replace("etcd:", "etcd+https:")
        (only,) = await found(secure, "anybody")
        assert only.startswith(f"wrong: {secure}: it ")
        assert only.endswith("write etcd://")
        first, second, third = await found(server.store_url, "anybody")
        assert first.startswith("ok: ")
        assert "etcd's users are off" in second
        assert third.startswith("ok: it can be written to")
