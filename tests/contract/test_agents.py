"""A2A agents in records and documents, the same over every store."""

from __future__ import annotations

from typing import Any

from mcp_discovery.adapters.store import Registration, Store
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.health import Status, healthy
from tests.contract.environments import StoreEnvironment
from tests.contract.watcher import watching
from tests.records import document, record

SKILL = {"id": "book", "name": "Book a trip", "description": "Trains.", "tags": ["travel"]}


def agent(*skills: dict[str, Any], **card: Any) -> CapabilityDocument:
    """The document of an agent with such a card."""
    said = {"name": "Trävel", "supportedInterfaces": [{"url": "http://127.0.0.1:9/rpc"}]}
    return CapabilityDocument(skills=skills, card=said | card)


async def put(store: Store, offered: CapabilityDocument, **fields: Any) -> Registration:
    given = record(
        "travel-1",
        kind="agent",
        name="travel",
        endpoint={"url": "http://127.0.0.1:9"},
        capabilities=offered.names(),
        protocol={"versions": ["1.0"], "bindings": ["JSONRPC", "GRPC"]},
        auth={"type": "other"},
        **fields,
    )
    return await store.register(given, offered, ttl=30, reap_after=60)


async def test_its_kind_in_the_watch_and_its_card_in_the_document(
    environment: StoreEnvironment, store: Store
) -> None:
    offered = agent(SKILL, version="1.0.0")
    async with watching(await environment.open()) as watcher:
        registration = await put(store, offered)
        await watcher.until_status("travel-1", Status.HEALTHY, 2)
        seen = watcher.instances["travel-1"].record
        assert (seen.kind, seen.endpoint.transport) == ("agent", "a2a")
        assert seen.capabilities.skills == ("Book a trip",)
        assert seen.protocol.bindings == ("JSONRPC", "GRPC")
        assert seen.auth.type == "other"
        await registration.heartbeat(healthy())
        changed = agent(version="2.0.0")
        given = seen.model_copy(update={"version": "2.0.0"})
        await registration.update(given, changed)
        seen = (
            await watcher.until_shows("travel-1", lambda one: one.record.version == "2.0.0")
        ).record
        assert (seen.kind, seen.capabilities.digest) == ("agent", changed.digest)
    reader = await environment.open()
    assert (await reader.document(changed.digest)).agent_card() == changed.agent_card()
    # Whoever comes later, or again, reads the same.
    async with watching(reader) as watcher:
        await watcher.until_status("travel-1", Status.HEALTHY, 2)
        assert watcher.instances["travel-1"].record.kind == "agent"
        await registration.drain()
        await watcher.until_status("travel-1", Status.DRAINING, 2)
        await registration.deregister()
        await watcher.until_status("travel-1", None, 2)


async def test_a_server_and_an_agent_of_one_name_stand_beside_each_other(
    environment: StoreEnvironment, store: Store
) -> None:
    async with watching(await environment.open()) as watcher:
        await put(store, agent(SKILL))
        await store.register(
            record("travel-2", name="travel"), document("a"), ttl=30, reap_after=60
        )
        await watcher.until_status("travel-1", Status.HEALTHY, 2)
        await watcher.until_status("travel-2", Status.HEALTHY, 2)
        kinds = {id: one.record.kind for id, one in watcher.instances.items()}
        assert kinds == {"travel-1": "agent", "travel-2": "server"}
