"""Tokens that may read a part: the list says so, and loses nothing that it had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from mcp_discovery.adapters.consul import ConsulStore, hidden
from mcp_discovery.adapters.consul.hidden import HIDDEN
from mcp_discovery.adapters.store import Snapshot, StoreOptions
from mcp_discovery.errors import StoreDeniedError
from mcp_discovery.health import Status, healthy
from mcp_discovery.instance import Instance
from tests.contract.watcher import Watching, watching
from tests.records import document, record
from tests.stores.binaries import Release
from tests.stores.consul import ConsulAgent, ConsulServer
from tests.stores.waiting import repeat, until

KEYS = 'key_prefix "mcp/" { policy = "read" }'
NODES = 'node_prefix "" { policy = "read" }'
SERVICE = 'service "mcp" { policy = "read" }'
SERVICES = 'service_prefix "mcp-" { policy = "read" }'
EACH = "?mode=service-per-server"


@pytest.fixture(scope="module")
async def three(release: Release) -> AsyncIterator[ConsulServer]:
    """A server and two agents, each with an instance of a server of its own, in both modes."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ConsulServer("n1", acl=True))
        agents = [ConsulAgent(server, "n2"), ConsulAgent(server, "n3")]
        nodes = [server, *[await stack.enter_async_context(each) for each in agents]]
        options = StoreOptions(token=server.token)
        held = []
        for node in nodes:
            for mode in ("", EACH):
                path = "each" if mode else "mcp"
                url = f"{node.store_url}/{path}{mode}"
                store = await stack.enter_async_context(ConsulStore(url, options))
                one = record(f"{path}-{node.name}", name=f"server-{node.name}")
                held.append(await store.register(one, document("a"), ttl=30, reap_after=60))

        async def beat() -> None:
            for each in held:
                await each.heartbeat(healthy())

        beating = asyncio.create_task(repeat(beat, every=2))
        try:
            yield server
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)


async def first_list(server: ConsulServer, rules: str, path: str = "/mcp") -> Snapshot:
    options = StoreOptions(token=await server.create_token(rules))
    store = ConsulStore(f"{server.store_url}{path}", options)
    async with store, aclosing(store.watch()) as news:
        first = await anext(news)
    assert isinstance(first, Snapshot)
    return first


def each(rules: str) -> str:
    """The same rules for services and keys of the mode with one service for each server."""
    return rules.replace("mcp", "each")


@pytest.mark.parametrize(
    ("rules", "path", "listed", "grant"),
    [
        (f"{KEYS} {SERVICE} {NODES}", "/mcp", 3, None),
        (each(f"{KEYS} {SERVICES} {NODES}"), f"/each{EACH}", 3, None),
        (f'{KEYS} {SERVICE} node "n2" {{ policy = "read" }}', "/mcp", 1, 'node_prefix ""'),
        (
            each(f'{KEYS} {SERVICES} node_prefix "n2" {{ policy = "read" }}'),
            f"/each{EACH}",
            1,
            'node_prefix ""',
        ),
        (
            f'{KEYS} {SERVICE} {NODES} key_prefix "mcp/servers/server-n3/" {{ policy = "deny" }}',
            "/mcp",
            2,
            'key_prefix "mcp/servers/"',
        ),
        (
            each(f'{KEYS} {SERVICES} {NODES} service "mcp-server-n1" {{ policy = "deny" }}'),
            f"/each{EACH}",
            2,
            "services 'each-server-n1' (service_prefix \"each-\"",
        ),
    ],
)
async def test_a_part_is_told_from_the_whole(
    three: ConsulServer, rules: str, path: str, listed: int, grant: str | None
) -> None:
    first = await first_list(three, rules, path)
    assert len(first.instances) == listed
    if grant is None:
        assert first.partial is None
    else:
        assert first.partial is not None and grant in first.partial


async def test_a_node_that_is_denied_by_its_name(three: ConsulServer, release: Release) -> None:
    first = await first_list(three, f'{KEYS} {SERVICE} {NODES} node "n3" {{ policy = "deny" }}')
    assert set(first.instances) == {"mcp-n1", "mcp-n2"}
    # Before 1.12 Consul gives no sign of it.
    assert (first.partial is None) is (release == "debian")


async def test_none_at_all_is_refused_with_the_names_of_the_services(three: ConsulServer) -> None:
    with pytest.raises(StoreDeniedError, match=r"service:read on 'each-'"):
        await first_list(three, each(f"{KEYS} {NODES}"), f"/each{EACH}")
    with pytest.raises(StoreDeniedError, match=r"node:read|node_prefix"):
        await first_list(three, f"{KEYS} {SERVICE}")


async def test_what_a_token_may_not_read_is_not_swept(
    three: ConsulServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_discovery.adapters.consul.store.GRACE", 0.0)
    write = 'key_prefix "mcp/" { policy = "write" } service "mcp" { policy = "write" }'
    token = await three.create_token(f'{write} node "n1" {{ policy = "read" }}')
    async with ConsulStore(three.store_url, StoreOptions(token=token)) as store:
        with pytest.raises(StoreDeniedError, match="before anything is swept"):
            await store.sweep()


class Rules:
    """A policy whose rules change, and a token that has it."""

    def __init__(self, server: ConsulServer) -> None:
        self._server = server
        self._policy: dict[str, Any] = {}
        self.token = ""

    async def set(self, rules: str) -> None:
        if self._policy:
            body = {**self._policy, "Rules": rules}
            await self._server.api("PUT", f"/v1/acl/policy/{self._policy['ID']}", body=body)
            return
        made = {"Name": "changing", "Rules": rules}
        self._policy = (await self._server.api("PUT", "/v1/acl/policy", body=made)).json()
        token = {"Policies": [{"ID": self._policy["ID"]}]}
        answer = await self._server.api("PUT", "/v1/acl/token", body=token)
        self.token = str(answer.json()["SecretID"])


def partial_of(watcher: Watching) -> str | None:
    return [each.partial for each in watcher.events if isinstance(each, Snapshot)][-1]


def healths(instances: Mapping[str, Instance]) -> dict[str, tuple[Status, bool]]:
    return {id: (one.health.status, one.health.reason == HIDDEN) for id, one in instances.items()}


@pytest.mark.parametrize("lost", ["node", "key"])
async def test_rights_that_are_lost_remove_no_instance(
    release: Release, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setattr(hidden, "LOOK_EVERY", 1.0)
    narrow = {
        "node": f'{KEYS} {SERVICE} node "n1" {{ policy = "read" }}',
        "key": f'{KEYS} {SERVICE} {NODES} key_prefix "mcp/servers/server-n2" {{ policy = "deny" }}',
    }[lost]
    async with ConsulServer("n1", acl=True) as server, ConsulAgent(server, "n2") as agent:
        options = StoreOptions(token=server.token)
        rules = Rules(server)
        await rules.set(f"{KEYS} {SERVICE} {NODES}")
        async with (
            ConsulStore(server.store_url, options) as here,
            ConsulStore(agent.store_url, options) as there,
            ConsulStore(server.store_url, StoreOptions(token=rules.token)) as reader,
        ):
            held = [
                await store.register(
                    record(f"of-{name}", name=f"server-{name}"),
                    document("a"),
                    ttl=30,
                    reap_after=60,
                )
                for name, store in (("n1", here), ("n2", there))
            ]
            async with watching(reader) as watcher:
                well = {"of-n1": (Status.HEALTHY, False), "of-n2": (Status.HEALTHY, False)}
                await watcher.until(lambda: healths(watcher.instances) == well, 10, "both")
                await rules.set(narrow)
                # Something has to happen for Consul to answer, and to show less than before.
                await server.api("PUT", "/v1/kv/mcp/servers/odd", data="x")
                await held[0].update(record("of-n1", name="server-n1", title="New"), document("b"))
                await held[1].update(record("of-n2", name="server-n2", title="New"), document("b"))
                part = well | {"of-n2": (Status.DEGRADED, True)}
                await watcher.until(lambda: healths(watcher.instances) == part, 40, "one hidden")
                await watcher.until(lambda: partial_of(watcher) is not None, 10, "being marked")
                assert None not in watcher.history("of-n2")
                await rules.set(f"{KEYS} {SERVICE} {NODES}")

                async def whole() -> bool:
                    await held[1].update(
                        record("of-n2", name="server-n2", title="Old"), document("a")
                    )
                    return healths(watcher.instances) == well and partial_of(watcher) is None

                await until(whole, timeout=40, what="the whole list again")
                await held[1].deregister()
                await watcher.until(lambda: "of-n2" not in watcher.instances, 10, "its end")
