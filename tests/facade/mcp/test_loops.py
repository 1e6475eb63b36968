"""A facade in its own list, or in another's: it is found, and nothing goes round in circles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcp_discovery.adapters.embedded import EmbeddedStore
from tests.facade.harness import Client, leased, served
from tests.facade.mcp.wire import Legacy, enveloped, told
from tests.programs import running
from tests.stores.waiting import until

TOOLS = ["find_servers", "find_tools", "describe_tool"]


async def test_a_facade_does_not_list_itself() -> None:
    async with served(probe_interval=3600.0) as ask:
        body = {"id": "self", "name": "facade", "url": f"{ask.url}/mcp"}
        assert (await ask("POST", "/servers", body)).status == 201
        entry = await ask.until_status("self", "down")
        assert entry["reason"] == "HTTP 508 from the MCP endpoint: it leads to a facade"


async def test_a_facade_lists_another_and_both_settle() -> None:
    """Over one store, where each look at the other could change what the next look finds."""
    async with EmbeddedStore() as store, served(store) as one, served(store) as two:
        for ask, id, other in ((one, "of-one", two), (two, "of-two", one)):
            body = {"id": id, "name": "facade", "url": f"{other.url}/mcp"}
            assert (await ask("POST", "/servers", body)).status == 201
        digests = set()
        for id in ("of-one", "of-two"):
            entry = await one.until_status(id, "healthy")
            assert entry["capabilities"]["tools"] == TOOLS
            assert entry["capabilities"]["resources"] == ["servers", "server", "document"]
            assert entry["protocol"]["era"] == "modern"
            digests.add(entry["capabilities"]["digest"])
        assert len(digests) == 1
        for number in range(3):
            await one("POST", "/servers", leased(f"s{number}"))
        async with one.events("?name=facade") as events:
            await events.next()  # the snapshot
            try:
                change = await events.next(1.0)  # five times as long as a probe's interval
            except TimeoutError:
                return
            raise AssertionError(f"it still changes: {change}")


async def test_a_sidecar_registers_a_facade(tmp_path: Path) -> None:
    async with served() as ask:
        arguments = ("--name", "facade", "--url", f"{ask.url}/mcp", "--store", ask.url)
        async with running(tmp_path, "sidecar", *arguments) as sidecar:

            async def there() -> list[dict[str, Any]]:
                reply = await ask("GET", "/servers?name=facade")
                found: list[dict[str, Any]] = reply.json["servers"]
                return found

            (entry,) = await until(there, timeout=60, what=f"the facade: {sidecar.log}")
            assert entry["capabilities"]["tools"] == TOOLS
            assert entry["capabilities"]["resources"] == ["servers", "server", "document"]


async def test_its_own_clients_are_not_woken_by_the_list(ask: Client) -> None:
    """A sidecar next to a facade would otherwise look at it anew with each change of the list."""
    params = {"notifications": {"resourcesListChanged": True}}
    body, headers = enveloped(
        "subscriptions/listen",
        params,
        **{"io.modelcontextprotocol/clientInfo": {"name": "mcp-discovery", "version": "1"}},
    )
    async with told(ask, "POST", body, headers) as stream:
        assert (await stream.next())["params"]["notifications"] == {}
    client = await Legacy.begun(ask, name="mcp-discovery")
    await ask("POST", "/servers", leased("a"))
    resources = (await client.result("resources/list"))["resources"]
    assert [each["uri"] for each in resources] == ["mcp-discovery://servers"]
    async with client.stream() as stream:
        try:
            raise AssertionError(await stream.next(0.5))
        except TimeoutError:
            pass
