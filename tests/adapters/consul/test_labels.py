"""Tags and Meta of the Consul service: ours, and those that are there for other programs."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import healthy
from tests.contract.watcher import watching
from tests.records import document, record
from tests.stores import ConsulServer, until

TAGS = (
    "traefik.enable=true",
    "traefik.http.routers.shop.rule=Host(`shop.example`) && PathPrefix(`/mcp`)",
    "urlprefix-/shop strip=/shop",
)
META = {"team": "shop", "x_" + "k" * 126: "v" * 512}


@pytest.mark.parametrize("mode", ["", "?mode=service-per-server"])
async def test_what_other_programs_read_is_there_for_good_and_no_part_of_the_record(
    consul_server: ConsulServer, namespace: str, mode: str
) -> None:
    url = f"{consul_server.store_url}/{namespace}{mode}"
    service = f"{namespace}-product-catalog" if mode else namespace

    async def read() -> dict[str, Any]:
        """As Traefik and fabio do: the passing instances of the catalog, with their tags."""
        query = f"/v1/health/service/{service}?passing=true&tag={TAGS[0].replace('=', '%3D')}"
        found = (await consul_server.api("GET", query)).json()
        return dict(found[0]["Service"]) if found else {}

    id = f"extras-{namespace}"
    async with ConsulStore(url, StoreOptions(catalog_tags=TAGS, catalog_meta=META)) as store:
        held = await store.register(record(id), document("a"), ttl=30, reap_after=60)

        async def there() -> bool:
            return bool(await read())

        await until(there, timeout=5, what="the service in the catalog")
        first = await read()
        assert first["Tags"][-3:] == list(TAGS)
        assert first["Tags"][0] == "product-catalog"
        assert first["Meta"].items() >= META.items()
        assert first["Meta"]["version"] == "1.2.3"
        async with watching(store) as watcher:
            await watcher.until(lambda: id in watcher.instances, 5, "the instance")
            assert watcher.instances[id].record.tags == ("products", "inventory")
        await held.update(record(id, version="2.0.0", tags=["other"]), document("b"))

        async def updated() -> bool:
            version: str = (await read())["Meta"]["version"]
            return version == "2.0.0"

        await until(updated, timeout=5, what="the update")
        assert (await read())["Tags"][-3:] == list(TAGS)
        again = await store.register(record(id), document("a"), ttl=30, reap_after=60)
        await again.heartbeat(healthy())
        assert (await read())["Meta"].items() >= META.items()
        await again.deregister()


@pytest.mark.parametrize(
    ("tags", "meta", "says"),
    [
        (["Stock"], {}, "give it as --tag"),
        (["stock.server"], {}, "a name of the server in DNS"),
        (["_stock.server"], {}, "a name of the server in DNS"),
        ([" "], {}, "empty"),
        (["a=\n"], {}, "not printable"),
        (["a=" + "x" * 1024], {}, "1024 bytes"),
        ([], {"url": "x"}, "a key of the record's own"),
        ([], {"a.b": "x"}, "no key for Consul"),
        ([], {"k" * 129: "x"}, "at most 128"),
        ([], {"consul-x": "x"}, "Consul's own"),
        ([], {"a": "\u00e9" * 257}, "512 bytes"),
        ([], {f"k{n}": "x" for n in range(60)}, "more than 58 times"),
        ([], {"api-key": "hunter2"}, "everybody reads the catalog"),
    ],
)
def test_what_consul_does_not_take_is_one_sentence(
    tags: list[str], meta: dict[str, str], says: str
) -> None:
    with pytest.raises(InvalidInputError, match=says):
        ConsulStore("consul://h", StoreOptions(catalog_tags=tuple(tags), catalog_meta=meta))


async def test_consul_takes_as_much_as_is_allowed(
    consul_server: ConsulServer, namespace: str
) -> None:
    meta = {f"k{n}": "x" for n in range(58)}
    options = StoreOptions(catalog_meta=meta)
    async with ConsulStore(f"{consul_server.store_url}/{namespace}", options) as store:
        id = f"much-{namespace}"
        held = await store.register(record(id), document("a"), ttl=30, reap_after=60)
        await held.deregister()
