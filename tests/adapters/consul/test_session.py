"""A token that is gone makes no ghost: the servers end the session that holds the record.

Where nothing depends on how short a session may be, the servers here allow short ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.consul.checks import health_check, heartbeat_check
from mcp_discovery.adapters.store import CredentialsEnd, Registration, StoreOptions
from mcp_discovery.errors import DuplicateInstanceError, RegistrationLostError, StoreDeniedError
from mcp_discovery.health import Health, Status, healthy, rfc3339, utcnow
from tests.adapters.consul.test_dns import A, ask
from tests.contract.watcher import watching
from tests.records import document, record
from tests.stores import ConsulAgent, ConsulServer, binaries, until
from tests.stores.binaries import Release
from tests.stores.waiting import NotYet, repeat

DOC = document("search_products")
KEY = "/v1/kv/mcp/servers/product-catalog/catalog-1"
READ = """
    service "mcp" { policy = "read" }
    key_prefix "mcp/" { policy = "read" }
    node_prefix "" { policy = "read" }
    agent_prefix "" { policy = "read" }
"""
#: The sidecar's policy before it had sessions.
WRITE = READ.replace('"mcp" { policy = "read" }', '"mcp" { policy = "write" }').replace(
    '"mcp/" { policy = "read" }', '"mcp/" { policy = "write" }'
)
SESSION = 'session_prefix "" { policy = "write" }'

#: Seconds: twice Consul's least TTL of a session, the readers' patience, and some for the machine.
GONE_WITHIN = 26
#: The same for a TTL of 4 s where the servers allow sessions of a second.
SOON_GONE_WITHIN = 10
SHORT: dict[str, Any] = {"session_ttl_min": "1s"}
#: Where Consul makes a test wait for most of a minute, its releases wait together.
together = pytest.mark.parametrize("release", binaries.matrix()[:1], indirect=True)


@asynccontextmanager
async def consul(
    *, release: Release | None = None, **settings: Any
) -> AsyncIterator[tuple[ConsulServer, ConsulAgent]]:
    program = binaries.find("consul", release)
    async with (
        ConsulServer(acl=True, config=settings, program=program) as server,
        ConsulAgent(server, config=settings) as agent,
    ):
        yield server, agent


async def over_all(scenario: Callable[[Release], Coroutine[Any, Any, None]]) -> None:
    """Plays ``scenario`` over every release at once."""
    async with asyncio.TaskGroup() as group:
        for release in binaries.matrix():
            group.create_task(scenario(release), name=release)


@asynccontextmanager
async def keeping(registration: Registration) -> AsyncIterator[None]:
    """Heartbeats meanwhile."""
    task = asyncio.create_task(repeat(lambda: registration.heartbeat(healthy()), every=0.5))
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def store_of(agent: ConsulAgent, token: str) -> ConsulStore:
    return ConsulStore(agent.store_url, StoreOptions(token=token))


async def revoke(server: ConsulServer, token: str) -> None:
    own = (await server.api("GET", "/v1/acl/token/self", token=token)).json()
    await server.api("DELETE", f"/v1/acl/token/{own['AccessorID']}")


async def entry(server: ConsulServer) -> dict[str, Any]:
    return (await server.api("GET", f"{KEY}?consistent")).json()[0]  # type: ignore[no-any-return]


@together
async def test_an_instance_whose_token_was_revoked_goes_down_and_out_of_dns() -> None:
    """Its holder died with it. The facade here may write, as one that sweeps."""
    await over_all(_revoked)


async def _revoked(release: Release) -> None:
    async with consul(release=release) as (server, agent):
        token = await server.create_token(WRITE + SESSION)
        async with (
            store_of(agent, token) as store,
            ConsulStore(
                server.store_url, StoreOptions(token=await server.create_token(WRITE))
            ) as facade,
            ConsulStore(
                server.store_url, StoreOptions(token=await server.create_token(READ))
            ) as reader,
            watching(facade) as watcher,
            watching(reader) as other,
        ):
            new = record(endpoint={"url": "http://127.0.0.7:8001/mcp"})
            registration = await store.register(new, DOC, ttl=4, reap_after=60)
            await watcher.until_status("catalog-1", Status.HEALTHY, 5)
            await registration.heartbeat(healthy())
            await revoke(server, token)
            began = time.monotonic()
            await watcher.until_status("catalog-1", Status.DOWN, GONE_WITHIN)
            await other.until_status("catalog-1", Status.DOWN, 2)
            health = watcher.instances["catalog-1"].health
            assert health.reason == "no heartbeat for 4 s: its session in Consul has ended"
            assert health.silent

            async def out_of_dns() -> bool:
                return not await ask(agent.dns_port, "product-catalog.mcp.service.consul", A)

            await until(out_of_dns, timeout=30 - (time.monotonic() - began), what="no DNS answer")


async def test_a_new_sidecar_takes_the_id_over_within_ttl() -> None:
    async with consul() as (server, agent):
        token = await server.create_token(WRITE + SESSION)
        good = await server.create_token(WRITE + SESSION)
        async with (
            store_of(agent, token) as store,
            store_of(agent, good) as successor,
            ConsulStore(server.store_url, StoreOptions(token=good)) as reader,
            watching(reader) as watcher,
        ):
            await store.register(record(), DOC, ttl=4, reap_after=60)
            await watcher.until_status("catalog-1", Status.HEALTHY, 5)
            await revoke(server, token)

            async def taken_over() -> Registration:
                try:
                    return await successor.register(record(), DOC, ttl=4, reap_after=60)
                except DuplicateInstanceError as error:
                    raise NotYet(str(error)) from error

            registration = await until(taken_over, timeout=6, what="the id being free")
            async with keeping(registration):
                await asyncio.sleep(1)
                await registration_shows(server, "passing")
                assert watcher.status("catalog-1") is Status.HEALTHY
                assert (await entry(server))["Session"]


async def registration_shows(server: ConsulServer, status: str) -> None:
    """Waits until the servers have that status of both checks of the instance."""

    async def shown() -> bool:
        checks = (await server.api("GET", "/v1/health/checks/mcp")).json()
        found = {each["CheckID"]: each["Status"] for each in checks}
        expected = {heartbeat_check("catalog-1"), health_check("catalog-1")}
        return found.keys() == expected and set(found.values()) == {status}

    await until(shown, timeout=5, what=f"both checks {status}")


async def test_a_sidecar_on_another_node_takes_over_once_the_session_has_ended() -> None:
    async with consul(**SHORT) as (server, agent), ConsulAgent(server) as elsewhere:
        token = await server.create_token(WRITE + SESSION)
        good = await server.create_token(WRITE + SESSION)
        async with store_of(agent, token) as store, store_of(elsewhere, good) as successor:
            await store.register(record(), DOC, ttl=4, reap_after=60)
            await revoke(server, token)

            async def taken_over() -> Registration:
                try:
                    return await successor.register(record(), DOC, ttl=10, reap_after=60)
                except DuplicateInstanceError as error:
                    raise NotYet(str(error)) from error

            await until(taken_over, timeout=SOON_GONE_WITHIN, what="the id being free")
            found = (await server.api("GET", "/v1/health/service/mcp?consistent")).json()
            assert [each["Node"]["Node"] for each in found] == [elsewhere.name]


async def test_a_sweeper_removes_what_no_agent_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """On 1.8 the agent removes a service with the token of its registration, and that is gone."""
    monkeypatch.setattr("mcp_discovery.adapters.consul.store.LEAST_REAP", 0.0)
    monkeypatch.setattr("mcp_discovery.adapters.consul.store.GRACE", 0.0)
    async with consul(**SHORT) as (server, agent):
        token, other = [await server.create_token(WRITE + SESSION) for _ in range(2)]
        async with store_of(agent, token) as store, store_of(agent, other) as sweeper:
            kept = await sweeper.register(record("kept-1"), DOC, ttl=4, reap_after=4)
            async with keeping(kept):
                await store.register(record(), DOC, ttl=4, reap_after=4)
                await revoke(server, token)
                await server.api("PUT", f"/v1/session/destroy/{(await entry(server))['Session']}")

                async def swept() -> bool:
                    await sweeper.sweep()
                    found = (await server.api("GET", "/v1/health/service/mcp?consistent")).json()
                    keys = (await server.api("GET", "/v1/kv/mcp/servers/?keys")).json()
                    ids = [each["Service"]["ID"] for each in found]
                    return ids == ["kept-1"] and len(keys) == 1

                await until(swept, timeout=10, what="service and record being gone")


async def test_heartbeats_write_nothing_and_renew_the_session_now_and_then() -> None:
    async with consul(session_ttl_min="3s") as (server, agent):
        token = await server.create_token(WRITE + SESSION)
        async with store_of(agent, token) as store:
            began = time.monotonic()
            registration = await store.register(record(), DOC, ttl=6, reap_after=60)
            before = await entry(server)
            assert before["Session"]
            sent = 0
            send = store._api.agent._http.send

            async def counted(*args: Any, **options: Any) -> Any:
                nonlocal sent
                sent += "/session/" in args[1]
                return await send(*args, **options)

            store._api.agent._http.send = counted  # type: ignore[method-assign]
            await repeat(lambda: registration.heartbeat(healthy()), every=0.4, seconds=7)
            # After 0.4 of the 6 s that one lasts, or a little later: 2 or 3 times.
            assert 2 <= sent <= (time.monotonic() - began) / 2.4
            assert await entry(server) == before  # longer than a session lasts that is not renewed


async def test_a_session_that_was_ended_is_begun_anew() -> None:
    async with consul() as (server, agent):
        token = await server.create_token(WRITE + SESSION)
        async with (
            store_of(agent, token) as store,
            ConsulStore(server.store_url, StoreOptions(token=token)) as reader,
            watching(reader) as watcher,
        ):
            registration = await store.register(record(), DOC, ttl=6, reap_after=60)
            first = (await entry(server))["Session"]
            async with keeping(registration):
                await server.api("PUT", f"/v1/session/destroy/{first}")

                async def held() -> bool:
                    return (await entry(server)).get("Session") not in (None, "", first)

                await until(held, timeout=5, what="another session")
                await asyncio.sleep(1)
            assert watcher.history("catalog-1") == [None, Status.HEALTHY]


async def test_a_policy_without_sessions_keeps_working(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with consul() as (server, agent):
        token = await server.create_token(WRITE)
        async with store_of(agent, token) as store:
            with caplog.at_level(logging.WARNING):
                for n in range(3):
                    registration = await store.register(
                        record(f"catalog-{n}"), DOC, ttl=4, reap_after=60
                    )
                    await registration.heartbeat(healthy())
            said = [each.message for each in caplog.records if "session:write" in each.message]
            assert len(said) == 1
            assert "stays listed" in said[0] and "session_prefix" in said[0]
            assert (await entry(server))["Flags"] == 0


async def test_permission_for_sessions_comes_and_goes() -> None:
    async with consul() as (server, agent):
        token = await server.create_token(WRITE + SESSION)
        async with (
            store_of(agent, token) as store,
            ConsulStore(server.store_url, StoreOptions(token=server.token)) as reader,
            watching(reader) as watcher,
        ):
            registration = await store.register(record(), DOC, ttl=6, reap_after=60)
            async with keeping(registration):
                await set_rules(server, token, WRITE)

                async def unguarded() -> bool:
                    return bool((await entry(server))["Flags"] == 0)

                await until(unguarded, timeout=10, what="a record that nobody expects to be held")
                await set_rules(server, token, WRITE + SESSION)
                store._api.sessions.not_before = 0.0  # otherwise after a minute

                async def guarded() -> bool:
                    found = await entry(server)
                    return bool(found["Flags"] and found.get("Session"))

                await until(guarded, timeout=10, what="a record that is held")
            assert watcher.history("catalog-1") == [None, Status.HEALTHY]


async def set_rules(server: ConsulServer, token: str, rules: str) -> None:
    """Replaces the rules of the one policy of ``token``."""
    own = (await server.api("GET", "/v1/acl/token/self", token=token)).json()
    policy = (await server.api("GET", f"/v1/acl/policy/{own['Policies'][0]['ID']}")).json()
    await server.api("PUT", f"/v1/acl/policy/{policy['ID']}", body={**policy, "Rules": rules})


@pytest.mark.parametrize("lost", ["service", "key"])
async def test_a_policy_that_loses_a_permission_is_no_ghost_either(lost: str) -> None:
    """Without service:write nobody hears of the instance; key:write is for changes alone."""
    fast: dict[str, Any] = {"acl": {"policy_ttl": "0s", "token_ttl": "0s"}}
    async with consul(**SHORT, **fast) as (server, agent):
        token = await server.create_token(WRITE + SESSION)
        async with (
            store_of(agent, token) as store,
            ConsulStore(server.store_url, StoreOptions(token=server.token)) as reader,
            watching(reader) as watcher,
        ):
            registration = await store.register(record(), DOC, ttl=4, reap_after=60)
            fewer = {"service": '"mcp" { policy = "write" }', "key": '"mcp/" { policy = "write" }'}
            weaker = fewer[lost].replace("write", "read")
            await set_rules(server, token, WRITE.replace(fewer[lost], weaker) + SESSION)

            async def beat() -> None:
                try:
                    await registration.heartbeat(healthy())
                except (StoreDeniedError, RegistrationLostError):
                    assert lost == "service"

            task = asyncio.create_task(repeat(beat, every=0.5))
            try:
                if lost == "service":
                    await watcher.until_status("catalog-1", Status.DOWN, SOON_GONE_WITHIN)
                else:
                    await asyncio.sleep(8)
                    assert watcher.status("catalog-1") is Status.HEALTHY
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def test_a_rotated_token_reaches_the_agent(tmp_path: Path) -> None:
    """The agent keeps the token of the registration: with the old one, revoked, it could tell its
    servers nothing more."""
    async with consul() as (server, agent):
        old, new = [await server.create_token(WRITE + SESSION) for _ in range(2)]
        file = tmp_path / "token"
        file.write_text(old)
        async with ConsulStore(agent.store_url, StoreOptions(token_file=str(file))) as store:
            registration = await store.register(record(), DOC, ttl=6, reap_after=60)
            async with keeping(registration):
                file.write_text(new)

                async def used() -> bool:
                    return store._api.token.secret == new

                await until(used, timeout=6, what="the new token in use")
                await asyncio.sleep(2)
                await revoke(server, old)
                await asyncio.sleep(1)
            await registration.heartbeat(Health(Status.DOWN, "connection refused"))

            async def told() -> bool:
                checks = (await server.api("GET", "/v1/health/checks/mcp?consistent")).json()
                found = {each["CheckID"]: each["Status"] for each in checks}
                return bool(found[health_check("catalog-1")] == "critical")

            await until(told, timeout=3, what="the servers knowing that it is down")


async def test_leaving_leaves_nothing_even_if_the_agents_token_is_gone() -> None:
    async with consul() as (server, agent):
        agents = await server.create_token('node_prefix "" { policy = "write" }')
        await agent.api("PUT", "/v1/agent/token/agent", body={"Token": agents})
        token = await server.create_token(WRITE + SESSION)
        async with store_of(agent, token) as store:
            registration = await store.register(record(), DOC, ttl=6, reap_after=60)
            await registration_shows(server, "passing")
            await revoke(server, agents)
            await registration.deregister()

            async def gone() -> bool:
                return not (await server.api("GET", "/v1/health/checks/mcp?consistent")).json()

            await until(gone, timeout=3, what="no check left")
            sessions = (await server.api("GET", "/v1/session/list?consistent")).json()
            assert sessions == []


@pytest.mark.parametrize(
    ("least", "ttl", "session"),
    [("3s", 4, 3.0), ("3s", 13, 5.0), ("1500ms", 4, 1.5), ("62s", 15, 62.0)],
)
async def test_a_session_is_as_short_as_the_servers_allow(
    least: str, ttl: float, session: float
) -> None:
    async with consul(session_ttl_min=least) as (server, agent):
        token = await server.create_token(WRITE + SESSION)
        async with store_of(agent, token) as store:
            for n in range(2):
                await store.register(record(f"n-{n}"), DOC, ttl=ttl, reap_after=60)
            sessions = (await server.api("GET", "/v1/session/list?consistent")).json()
            assert [each["TTL"] for each in sessions] == [f"{session * 1000:g}ms"] * 2
            assert store._api.sessions.least == (0.0 if ttl == 13 else session)


async def test_servers_that_allow_short_sessions_end_them_within_ttl() -> None:
    async with consul(**SHORT) as (server, agent):
        token = await server.create_token(WRITE + SESSION)
        async with (
            store_of(agent, token) as store,
            ConsulStore(server.store_url, StoreOptions(token=server.token)) as reader,
            watching(reader) as watcher,
        ):
            registration = await store.register(record(), DOC, ttl=4, reap_after=60)
            async with keeping(registration):
                await asyncio.sleep(7)
            assert watcher.history("catalog-1") == [None, Status.HEALTHY]
            await revoke(server, token)
            await watcher.until_status("catalog-1", Status.DOWN, 4 + 2 + 1)


async def test_the_end_of_a_token_is_told_before_it_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By the store, and in a warning, once; not for a token that was rotated into its place."""
    async with consul() as (server, agent):
        policy = {"Name": "sidecar", "Rules": WRITE + SESSION}
        await server.api("PUT", "/v1/acl/policy", body=policy)
        body = {"Policies": [{"Name": "sidecar"}], "ExpirationTTL": "60s"}
        token = (await server.api("PUT", "/v1/acl/token", body=body)).json()
        async with store_of(agent, token["SecretID"]) as store:
            registration = await store.register(record(), DOC, ttl=6, reap_after=60)
            end = store.credentials_end
            assert end is not None and not end.near
            assert 58 < (end.at - utcnow()).total_seconds() < 61
            assert 11 < (end.at - end.near_from).total_seconds() < 13
            near = CredentialsEnd(end.at, utcnow())
            store._api.token.end = near
            for _ in range(3):
                await registration.heartbeat(healthy())
            said = [each.message for each in caplog.records if "expires at" in each.message]
            assert len(said) == 1
            assert rfc3339(end.at) in said[0] and "token file" in said[0]
        async with store_of(agent, await server.create_token(WRITE + SESSION)) as store:
            await store.register(record("other-1"), DOC, ttl=6, reap_after=60)
            assert store.credentials_end is None
            assert store.lacking is None


@together
async def test_an_instance_whose_token_expires_goes_down() -> None:
    await over_all(_expires)


async def _expires(release: Release) -> None:
    async with consul(release=release, **SHORT) as (server, agent):
        policy = {"Name": "sidecar", "Rules": WRITE + SESSION}
        await server.api("PUT", "/v1/acl/policy", body=policy)
        body = {"Policies": [{"Name": "sidecar"}], "ExpirationTTL": "60s"}
        token = (await server.api("PUT", "/v1/acl/token", body=body)).json()
        async with (
            store_of(agent, token["SecretID"]) as store,
            ConsulStore(server.store_url, StoreOptions(token=server.token)) as reader,
            watching(reader) as watcher,
        ):
            registration = await store.register(record(), DOC, ttl=4, reap_after=60)

            async def beat() -> None:
                with contextlib.suppress(StoreDeniedError, RegistrationLostError):
                    await registration.heartbeat(healthy())

            task = asyncio.create_task(repeat(beat, every=0.5))
            try:
                await watcher.until_status("catalog-1", Status.DOWN, 60 + 4 + 4)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
