"""Skills in records and documents, the same over every store."""

from __future__ import annotations

from typing import Any

from mcp_discovery.adapters.store import Registration, Store
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.health import Status
from tests.contract.environments import StoreEnvironment
from tests.contract.watcher import watching
from tests.records import record, tool


def offered(*skills: dict[str, Any]) -> CapabilityDocument:
    return CapabilityDocument(tools=(tool("refund"),), skills=skills)


def skill(path: str, digest: str, **front: str) -> dict[str, Any]:
    """A skill of one file, as ``skills/list`` gives it."""
    uri = f"skill://{path}/SKILL.md"
    return {
        "uri": uri,
        "frontmatter": {"name": path.split("/")[-1], "description": "Réfunds", **front},
        "resources": [{"uri": uri, "digest": f"sha256:{digest * 64}", "size": 2314}],
    }


async def put(store: Store, document: CapabilityDocument, **fields: Any) -> Registration:
    named = record(capabilities=document.names(), **fields)
    return await store.register(named, document, ttl=30, reap_after=60)


async def test_names_in_the_watch_and_digests_in_the_document(
    environment: StoreEnvironment, store: Store
) -> None:
    document = offered(
        skill("acme/billing/refunds", "a", license="Apache-2.0"),
        skill("acme/support/refunds", "b"),
        {"uri": "skill://daily/SKILL.md", "frontmatter": {"name": "daily"}, "resources": "dynamic"},
    )
    async with watching(await environment.open()) as watcher:
        await put(store, document)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        shown = watcher.instances["catalog-1"].record.capabilities
        assert (shown.skills, shown.tools) == (("refunds", "daily"), ("refund",))
        assert shown.digest == document.digest
    read = await (await environment.open()).document(document.digest)
    assert read == document
    assert read.canonical == document.canonical


async def test_one_file_that_changes_is_another_document(
    environment: StoreEnvironment, store: Store
) -> None:
    before, after = offered(skill("refunds", "a")), offered(skill("refunds", "b"))
    assert before.digest != after.digest
    async with watching(await environment.open()) as watcher:
        registration = await put(store, before)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        await registration.update(record(capabilities=after.names()), after)
        seen = await watcher.until_shows(
            "catalog-1", lambda one: one.record.capabilities.digest == after.digest
        )
        assert seen.record.capabilities.skills == ("refunds",)
        await registration.update(record(capabilities=offered().names()), offered())
        seen = await watcher.until_shows(
            "catalog-1", lambda one: one.record.capabilities.digest == offered().digest
        )
        assert seen.record.capabilities.skills == ()
    assert await (await environment.open()).document(after.digest) == after
