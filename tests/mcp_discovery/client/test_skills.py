"""Skills through the library: found over a facade, their files checked against what is listed."""

from __future__ import annotations

from dataclasses import replace

from mcp_discovery import Discovery
from mcp_discovery.adapters.embedded import EmbeddedStore
from tests.facade.harness import leased, served
from tests.servers.process import odd
from tests.stores.waiting import until


async def test_found_and_read_and_checked() -> None:
    async with odd("--skills", "2") as server, EmbeddedStore() as store, served(store) as ask:
        for id in ("a", "b"):
            body = {"id": id, "name": "desk", "url": server.url}
            assert (await ask("POST", "/servers", body)).status == 201
        await ask("POST", "/servers", leased("c", name="other", capabilities=["find"]))

        async def read() -> bool:
            return len((await ask("GET", "/servers?skill=skill-1")).json["servers"]) == 2

        await until(read, timeout=10, what="the skills of both replicas")
        async with Discovery(ask.url) as d:
            first, second = await d.skills()
            assert (first.name, first.server, first.description) == (
                "skill-0",
                "desk",
                "Skill 0 counts",
            )
            assert [each.name for each in await d.skills(skill="skill-1")] == ["skill-0", "skill-1"]
            assert await d.skills(name="other") == []
            async with d.session(first.server) as client:
                (content,) = (await client.read_resource(first.uri)).contents
            data = content.text.encode()  # type: ignore[union-attr]
            assert first.is_listed(first.uri, data)
            assert not first.is_listed(first.uri, data + b" ")
            assert not first.is_listed(second.uri, data)
            dynamic = replace(first, entry={**first.entry, "resources": "dynamic"})
            assert not dynamic.is_listed(first.uri, data)
