"""A facade tries the addresses of servers that sidecars keep, and its list shows what it found."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import new_holder
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.facade.servers import listed_addresses
from mcp_discovery.health import ANSWERS, Status
from tests.facade.harness import Client, leased, served
from tests.records import record
from tests.servers.odd import Options
from tests.servers.process import sdk
from tests.servers.recording import RecordingServer, recording
from tests.sidecar.harness import sidecar, watching
from tests.stores.waiting import until

ELSEWHERE: dict[str, Any] = {"name": "shop", "try_advertised": False}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers are tried as soon as they are seen."""
    monkeypatch.setattr(listed_addresses, "_FIRST", (0.0, 0.1))
    monkeypatch.setattr(listed_addresses, "_LOOK", 0.05)
    monkeypatch.setattr(listed_addresses, "_RETRY", 0.2)


def url_of(server: RecordingServer) -> str:
    """Where the server answers."""
    return f"http://127.0.0.1:{server.port}/mcp"


async def the_one(ask: Client) -> dict[str, Any]:
    """The one server in the list, whatever its status."""
    listed: list[dict[str, Any]] = (await ask("GET", "/servers?status=all")).json["servers"]
    return listed[0] if listed else {}


async def until_reason(ask: Client, says: str, status: str = "degraded") -> dict[str, Any]:
    """Waits until the one server has ``status`` with a reason that ``says`` so."""

    async def so() -> dict[str, Any] | None:
        one = await the_one(ask)
        return one if one.get("status") == status and says in one["reason"] else None

    found = await until(so, timeout=20, what=f"{status}: {says}")
    assert found is not None
    return found


async def test_another_server_there_is_degraded_here_and_nowhere_else() -> None:
    async with (
        EmbeddedStore() as store,
        watching(store) as seen,
        recording() as server,
        sdk() as other,
        sidecar(store, url_of(server), advertise_url=other.url, **ELSEWHERE),
        served(store, try_advertised=True) as ask,
        served(store) as unconcerned,
    ):
        one = await until_reason(ask, "its advertised address leads to another server")
        assert (await ask("GET", "/servers")).json["servers"] == []
        assert (await unconcerned("GET", f"/servers/{one['id']}")).json["status"] == "healthy"
        kept = await seen.until_status(Status.HEALTHY, within=5)
        assert kept.health.reason == ANSWERS
        assert (await ask("GET", "/metrics")).body.count(b"mcp_discovery_astray 1.0") == 1


async def test_it_recovers_as_soon_as_the_address_is_good() -> None:
    async with (
        EmbeddedStore() as store,
        recording() as server,
        recording(fail=421) as front,
        sidecar(store, url_of(server), advertise_url=url_of(front), **ELSEWHERE),
        served(store, try_advertised=True) as ask,
    ):
        one = await until_reason(ask, "HTTP 421 from the MCP endpoint: it does not accept the host")
        async with ask.events() as events:
            assert (await events.next()).data["servers"][0]["status"] == "degraded"
            front.options = Options()
            assert (await events.next()).data["server"]["id"] == one["id"]
        await until_reason(ask, ANSWERS, "healthy")


async def test_refused_from_here() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/mcp"
        async with (
            EmbeddedStore() as store,
            recording() as server,
            sidecar(store, url_of(server), advertise_url=nobody, **ELSEWHERE),
            served(store, try_advertised=True) as ask,
        ):
            await until_reason(ask, "not at its advertised address: connection refused")


async def test_what_asks_for_credentials_or_is_good_stays_as_it_is() -> None:
    cases: list[dict[str, Any]] = [{"token": "sesame"}, {}, {"era": "legacy"}]
    for options in cases:
        async with (
            EmbeddedStore() as store,
            recording(**options) as server,
            sidecar(store, url_of(server), server_token="sesame", name="shop") as _,
            served(store, try_advertised=True) as ask,
        ):
            await until_tried(server)
            one = await the_one(ask)
            assert (one["status"], one["reason"]) == ("healthy", ANSWERS)
            marked = [each for each in server.headers if "X-Discovery-Probe" in each]
            assert len(marked) <= 4
            assert all("Authorization" not in each for each in marked)


async def until_tried(server: RecordingServer) -> None:
    """Waits until a facade has asked the server."""

    async def asked() -> bool:
        return any("X-Discovery-Probe" in each for each in server.headers)

    await until(asked, timeout=20, what="a trial")


async def test_its_own_policy_is_kept() -> None:
    async with (
        EmbeddedStore() as store,
        recording() as server,
        recording(fail=500) as other,
        sidecar(store, url_of(server), advertise_url=url_of(other), **ELSEWHERE),
        served(store, try_advertised=True, probe_private=False) as ask,
    ):
        await until_reason(ask, ANSWERS, "healthy")
        await asyncio.sleep(1)
        assert other.targets == []
        assert (await the_one(ask))["status"] == "healthy"


async def test_what_others_keep_is_not_tried() -> None:
    async with recording() as server, served(try_advertised=True) as ask:
        body = leased("p1", url=url_of(server), lease={"ttl": 60, "host": "elsewhere"})
        assert (await ask("POST", "/servers", body)).status == 201
        await asyncio.sleep(1)
        assert server.targets == []  # loopback of the client's machine


async def test_what_anybody_may_have_registered_is_tried_in_any_case() -> None:
    """With a lease and without a caller who is known: it only claims to be there."""
    async with (
        sdk() as server,
        EmbeddedStore() as store,
        served(store, probe_claims=True) as ask,
    ):
        kept = record("kept", endpoint={"url": server.url})
        await store.register(kept, CapabilityDocument(), ttl=60, reap_after=60)
        assert (await ask("POST", "/servers", leased("true", url=server.url))).status == 201
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{free.getsockname()[1]}/mcp"
            assert (await ask("POST", "/servers", leased("false", url=nobody))).status == 201
            false = await ask.until_status("false", "degraded")
            lease = {"ttl": 60, "by": "facade", "probed": True}
            posing = leased("posing", url=nobody, lease=lease)
            assert (await ask("POST", "/servers", posing)).status == 201
            await ask.until_status("posing", "degraded")
        assert "refused" in false["reason"]

        async def found() -> bool:
            lease = (await ask("GET", "/servers/true")).json["lease"]
            return lease["claims"] is True and lease.get("probed") is True

        await until(found, timeout=20, what="the server being found")
        assert "probed" not in (await ask("GET", "/servers/false")).json["lease"]
        assert (
            (await ask("GET", "/servers/kept"))
            .json["lease"]
            .keys()
            .isdisjoint(("claims", "probed"))
        )
        posted = await ask("POST", "/servers", leased("b", lease={"ttl": 60, "probed": True}))
        assert posted.status == 201
        assert "probed" not in (await ask("GET", "/servers/b")).json["lease"]


@pytest.mark.slow
async def test_a_facade_that_reaches_nobody_doubts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed_addresses, "_ENOUGH", 4)
    document = CapabilityDocument()
    async with EmbeddedStore() as store, served(store, try_advertised=True) as ask:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{free.getsockname()[1]}/mcp"
            for number in range(8):
                one = record(id=f"x-{number}", endpoint={"url": nobody})
                await store.register(
                    one, document, ttl=60, reap_after=60, holder=new_holder("sidecar")
                )

            async def all_healthy() -> bool:
                listed = (await ask("GET", "/servers")).json["servers"]
                return len(listed) == 8 and time.monotonic() > earliest

            earliest = time.monotonic() + 2
            await until(all_healthy, timeout=20, what="none being marked any more")


async def test_a_failed_call_is_a_reason_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed_addresses, "_APART", 0.1)
    async with (
        EmbeddedStore() as store,
        recording() as server,
        recording() as front,
        sidecar(store, url_of(server), advertise_url=url_of(front), **ELSEWHERE),
        served(store, try_advertised=True, gateway=True) as ask,
    ):
        await until_tried(front)
        await until_reason(ask, ANSWERS, "healthy")
        front.options = Options(fail=502)
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        await ask("POST", "/gateway/shop/mcp", call)
        await until_reason(ask, "not at its advertised address: HTTP 502")
