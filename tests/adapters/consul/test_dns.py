"""Agents that want nothing but DNS: names and tags answered by Consul's own DNS server."""

from __future__ import annotations

import asyncio
import secrets
import struct
from typing import Any

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.consul.registration import ConsulRegistration
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.health import Health, Status, healthy
from tests.deploy.consul.agents import POLICIES
from tests.records import document, record
from tests.stores import ConsulServer, until
from tests.stores.server import RequestRefused
from tests.stores.waiting import NotYet, bounded

A, SRV = 1, 33


class _Asked(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done():
            self.answer.set_result(data)


async def ask(port: int, name: str, kind: int) -> list[bytes]:
    """The data of the answer's records of that kind (RFC 1035, section 4)."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    query = secrets.token_bytes(2) + struct.pack(">5H", 0x0100, 1, 0, 0, 0)
    query += labels + b"\0" + struct.pack(">2H", kind, 1)
    transport, asked = await asyncio.get_running_loop().create_datagram_endpoint(
        _Asked, remote_addr=("127.0.0.1", port)
    )
    try:
        transport.sendto(query)
        answer = await bounded(asked.answer, 3)
    finally:
        transport.close()
    count = struct.unpack(">H", answer[6:8])[0]
    at, found = len(query), []
    for _ in range(count):
        while answer[at] and answer[at] < 0xC0:  # labels, up to their end or a pointer
            at += 1 + answer[at]
        at += 1 if answer[at] == 0 else 2
        type_, _, _, length = struct.unpack(">2HIH", answer[at : at + 10])
        if type_ == kind:
            found.append(answer[at + 10 : at + 10 + length])
        at += 10 + length
    return found


async def registered(store: ConsulStore, id: str, host: int, **fields: Any) -> ConsulRegistration:
    endpoint = {"url": f"http://127.0.0.{host}:8001/mcp"}
    given = record(id, endpoint=endpoint, **fields)
    return await store.register(given, document("a"), ttl=30, reap_after=60)


async def test_a_label_that_is_a_name_and_anothers_tag_is_served_for_neither(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    async def served(name: str, *hosts: int) -> None:
        async def is_so() -> bool:
            found = await ask(consul_server.dns_port, f"{name}.{namespace}.service.consul", A)
            if sorted(data[3] for data in found) != sorted(hosts):
                raise NotYet(f"{name}: {found}")
            return True

        await until(is_so, timeout=5, what=f"{hosts} for {name}")

    async def beats(*all_: ConsulRegistration) -> None:
        for each in all_:
            each._heartbeats._verified -= 60
            each._labels.ambiguous._next = 0.0
            await each.heartbeat(healthy())

    stock = await registered(store, "stock-1", 1, name="stock", tags=["eu"])
    await served("stock", 1)
    await served("stock.server", 1)
    thief = await registered(store, "thief", 2, name="other", tags=["stock", "eu"])
    await served("stock.tag", 2)
    await served("stock", 1)  # never the thief
    await served("eu", 1, 2)
    await beats(stock)
    await served("stock")
    await served("stock.server", 1)
    # A replica that comes later has no name for itself either, and those that were listed stay so.
    more = await registered(store, "stock-2", 3, name="stock", tags=[])
    await served("stock.server", 1, 3)
    await served("stock")
    await thief.deregister()
    await beats(stock, more)
    await served("stock", 1, 3)
    # A server that takes a tag's label for its name does not take the tag's traffic.
    taken = await registered(store, "eu-1", 4, name="eu", tags=[])
    await served("eu.server", 4)
    await served("eu", 1)
    await beats(stock, taken)
    await served("eu")
    await served("eu.tag", 1)


async def test_the_longest_name_and_tag_are_answered_in_every_form(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    name, tag = "n" * 62, "t" * 62
    await registered(store, "long-1", 9, name=name, tags=[tag])
    below = f"{namespace}.service.consul"
    for asked in (
        *(
            f"{name}.{below}",
            f"{name}.server.{below}",
            f"_{name}.server.{below}",
            f"{tag}.{below}",
            f"{tag}.tag.{below}",
        ),
        *(f"_{namespace}._{label}.service.consul" for label in (name, tag)),
    ):

        async def answered(asked: str = asked) -> bool:
            return len(await ask(consul_server.dns_port, asked, SRV)) == 1

        await until(answered, timeout=5, what=asked)


async def test_with_a_service_for_each_server_its_name_has_room_in_dns(
    consul_server: ConsulServer, namespace: str
) -> None:
    url = f"{consul_server.store_url}/{namespace}?mode=service-per-server"
    room = 62 - len(f"{namespace}-")
    async with ConsulStore(url) as store:
        with pytest.raises(InvalidRecordError, match=f"room for {room} behind '{namespace}-'"):
            await registered(store, "own-1", 9, name="n" * (room + 1))
        held = await registered(store, "own-1", 9, name="n" * room, tags=["eu"])
        service = f"{namespace}-{'n' * room}"
        for asked in (f"_{service}._tcp", f"eu.{service}", f"_{service}._eu"):

            async def answered(asked: str = asked) -> bool:
                name = f"{asked}.service.consul"
                return len(await ask(consul_server.dns_port, name, SRV)) == 1

            await until(answered, timeout=5, what=asked)
        with pytest.raises(InvalidRecordError, match="shorten it"):
            await held.update(record("own-1", name="n" * (room + 1)), document("a"))


async def test_dns_answers_by_name_and_by_tag_while_healthy(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    port = consul_server.dns_port
    registration = await store.register(
        record(endpoint={"url": "http://127.0.0.7:8001/mcp"}), document("a"), ttl=30, reap_after=60
    )
    names = [
        f"{namespace}.service.consul",
        f"products.{namespace}.service.consul",
        f"product-catalog.{namespace}.service.consul",
    ]

    async def served(expected: list[bytes]) -> bool:
        return [await ask(port, name, A) for name in names] == [expected] * 3

    here = [bytes([127, 0, 0, 7])]
    await until(lambda: served(here), timeout=5, what="an answer for each name")
    service = await ask(port, f"_{namespace}._products.service.consul", SRV)
    assert [struct.unpack(">3H", data[:6])[2] for data in service] == [8001]

    await registration.heartbeat(Health(Status.DEGRADED, "slow"))
    assert await served(here)
    await registration.heartbeat(Health(Status.DOWN, "connection refused"))
    await until(lambda: served([]), timeout=5, what="no answer while down")
    await registration.heartbeat(healthy())
    await until(lambda: served(here), timeout=5, what="an answer again")
    await registration.drain()
    await until(lambda: served([]), timeout=5, what="no answer while draining")


async def test_dns_answers_with_the_default_token() -> None:
    """The only token that DNS has, up to 1.16: see deploy/consul/policies/dns.hcl."""
    async with (
        ConsulServer(acl=True) as server,
        ConsulStore(server.store_url, StoreOptions(token=server.token)) as one,
        ConsulStore(
            f"{server.store_url}?mode=service-per-server", StoreOptions(token=server.token)
        ) as each,
    ):
        url = {"url": "http://127.0.0.7:8001/mcp"}
        await one.register(record(endpoint=url), document("a"), ttl=30, reap_after=60)
        await each.register(record("other", endpoint=url), document("a"), ttl=30, reap_after=60)
        names = ("products.mcp.service.consul", "mcp-product-catalog.service.consul")

        async def served(expected: list[bytes]) -> bool:
            return [await ask(server.dns_port, name, A) for name in names] == [expected] * 2

        assert await served([])
        token = await server.create_token((POLICIES / "dns.hcl").read_text())
        with pytest.raises(RequestRefused, match="404"):
            await server.api("PUT", "/v1/agent/token/dns", body={"Token": token})
        await server.api("PUT", "/v1/agent/token/default", body={"Token": token})
        here = [bytes([127, 0, 0, 7])]
        await until(lambda: served(here), timeout=5, what="answers by the default token")


async def test_no_name_of_a_server_leads_to_an_agent(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    agent = record(
        "travel-1",
        name="travel",
        kind="agent",
        tags=["shop"],
        endpoint={"url": "http://127.0.0.3:9999"},
    )
    await store.register(agent, CapabilityDocument(card={}), ttl=30, reap_after=60)
    await registered(store, "travel-2", 4, name="travel", tags=["shop"])

    async def hosts(name: str) -> set[bytes]:
        full = f"{name}.{namespace}.service.consul"
        return set(await ask(consul_server.dns_port, full, A))

    wanted = {
        "travel": {b"\x7f\0\0\4"},
        "travel.server": {b"\x7f\0\0\4"},
        "shop": {b"\x7f\0\0\4"},
        "shop.tag": {b"\x7f\0\0\4"},
        "travel.agent": {b"\x7f\0\0\3"},
        "_travel.agent": {b"\x7f\0\0\3"},
    }

    async def all_served() -> bool:
        found = {name: await hosts(name) for name in wanted}
        if found != wanted:
            raise NotYet(found)
        return True

    await until(all_served, timeout=10, what="the names of both")
