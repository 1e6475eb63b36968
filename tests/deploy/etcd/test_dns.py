"""The names that ``deploy/coredns/Corefile`` serves are those of the facade's healthy list."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.adapters.store import Registration, StoreOptions
from mcp_discovery.errors import RegistrationLostError
from mcp_discovery.health import Health, Status, healthy
from tests.deploy.etcd.configured import ConfiguredEtcd, Papers
from tests.deploy.etcd.coredns import CoreDns, NoAnswer, coredns
from tests.deploy.etcd.roles import PASSWORD, permissions, revoke, script
from tests.programs import ROOT, AskedFacade, facade, running
from tests.records import document, record
from tests.seeds import seeded
from tests.servers.process import sdk
from tests.stores.etcd import EtcdServer
from tests.stores.waiting import until

SECTION = "## The same names from etcd"
LABELS = ("product-catalog", "billing", "products", "inventory", "beta")


@pytest.fixture
async def store(etcd_server: EtcdServer, namespace: str) -> AsyncIterator[EtcdStore]:
    """A store with names in a domain of its own."""
    async with EtcdStore(f"{etcd_server.store_url}/{namespace}/mcp?skydns={namespace}") as opened:
        yield opened


@pytest.fixture
async def names(etcd_server: EtcdServer, namespace: str, tmp_path: Path) -> AsyncIterator[CoreDns]:
    """A name server for the domain of ``store``."""
    async with coredns(tmp_path, etcd_server, domain=namespace) as started:
        yield started


async def test_dns_aid_by_option(etcd_server: EtcdServer, names: CoreDns, namespace: str) -> None:
    """SVCB, which the draft prefers, is nothing that CoreDNS's etcd plugin serves."""
    url = f"{etcd_server.store_url}/{namespace}/mcp?skydns={namespace}&skydns-agents=true"
    async with EtcdStore(url) as store:
        for number, url in enumerate(("http://10.0.0.7:8001/mcp", "http://10.0.0.8:8002/v2")):
            given = record(f"catalog-{number}", endpoint={"url": url})
            await store.register(given, document("a"), ttl=30, reap_after=60)
        agent = f"product-catalog._agents.mcp.{namespace}"
        targets = [f"catalog-{n}.product-catalog.server.mcp.{namespace}" for n in (0, 1)]
        assert await names.ask(agent, "TXT") == [
            f'"v=1 target={target} port={port} alpn=mcp bap=mcp id=catalog-{n} version=1.2.3 '
            f'transport=streamable-http scheme=http path={path}"'
            for n, (target, port, path) in enumerate(
                zip(targets, (8001, 8002), ("/mcp", "/v2"), strict=True)
            )
        ]
        assert await names.ask(targets[1], "A") == ["10.0.0.8"]
        assert await names.ask(agent, "SVCB") == []
        # What was served without the option is served as before.
        assert len(await names.ask(f"product-catalog.server.mcp.{namespace}", "TXT")) == 2


async def test_every_kind_of_record(store: EtcdStore, names: CoreDns, namespace: str) -> None:
    for number, url in enumerate(
        (
            "http://10.0.0.7:8001/mcp",
            "http://10.0.0.8:8002/v2?tenant=a",
            "https://[2001:db8::9]/mcp",
        )
    ):
        given = record(f"catalog-{number}", endpoint={"url": url}, weight=number)
        await store.register(given, document("a"), ttl=30, reap_after=60)
    for label in ("product-catalog", "products", "PRODUCTS"):
        name = f"{label}.mcp.{namespace}"
        assert await names.ask(name, "A") == ["10.0.0.7", "10.0.0.8"]
        assert await names.ask(name, "AAAA") == ["2001:db8::9"]
        assert await names.ask(name, "TXT") == [
            '"id=catalog-0 version=1.2.3 transport=streamable-http scheme=http path=/mcp"',
            '"id=catalog-1 version=1.2.3 transport=streamable-http scheme=http path=/v2?tenant=a"',
            '"id=catalog-2 version=1.2.3 transport=streamable-http scheme=https path=/mcp"',
        ]
    # CoreDNS tells weights as shares of a hundred: 1, 1 and 2.
    assert await names.ask(f"products.mcp.{namespace}", "SRV") == [
        f"10 25 8001 catalog-0.products.mcp.{namespace}.",
        f"10 25 8002 catalog-1.products.mcp.{namespace}.",
        f"10 50 443 catalog-2.products.mcp.{namespace}.",
    ]
    assert await names.ask(f"_mcp._products.{namespace}", "SRV") == await names.ask(
        f"products.mcp.{namespace}", "SRV"
    )
    one = f"catalog-1.products.mcp.{namespace}"
    assert await names.ask(one, "A") == ["10.0.0.8"]
    assert [text.split()[0] for text in await names.ask(one, "TXT")] == ['"id=catalog-1']
    agents = f"product-catalog._agents.mcp.{namespace}"
    assert await names.ask(agents, "TXT") == []
    for name in ("product-catalog.server", "_product-catalog.server", "products.tag"):
        assert await names.ask(f"{name}.mcp.{namespace}", "A") == ["10.0.0.7", "10.0.0.8"]
    assert await names.ask(f"nobody.mcp.{namespace}", "A") == []


async def test_long_texts_are_cut_and_come_whole(
    store: EtcdStore, names: CoreDns, namespace: str
) -> None:
    path = "/" + "x" * 700
    given = record(endpoint={"url": f"http://10.0.0.7:8001{path}"})
    await store.register(given, document("a"), ttl=30, reap_after=60)
    (text,) = await names.ask(f"products.mcp.{namespace}", "TXT")
    parts = text.strip('"').split('" "')
    assert [len(part) for part in parts[:-1]] == [255] * (len(parts) - 1)
    assert "".join(parts).endswith(f" path={path}")


async def test_sixty_four_tags_are_sixty_four_names(
    store: EtcdStore, names: CoreDns, namespace: str
) -> None:
    tags = [f"tag-{number}" for number in range(64)]
    await store.register(record(tags=tags), document("a"), ttl=30, reap_after=60)
    for tag in (*tags[::9], tags[-1], "product-catalog"):
        assert await names.ask(f"{tag}.mcp.{namespace}", "A") == ["127.0.0.1"]
        assert len(await names.ask(f"_mcp._{tag}.{namespace}", "SRV")) == 1


def _said_of_etcd() -> list[tuple[str, list[str]]]:
    """The dig lines of docs/dns.md that ask for the names in etcd, each with what is below it."""
    page = (ROOT / "docs" / "dns.md").read_text()
    blocks = re.findall(r"^```console\n(.*?)^```$", page.split(SECTION)[1], re.M | re.S)
    found: list[tuple[str, list[str]]] = []
    for line in "".join(blocks).splitlines():
        if line.startswith("$ dig @127.0.0.1 "):
            found.append((line.removeprefix("$ dig @127.0.0.1 ").removesuffix(" +short"), []))
        else:
            found[-1][1].append(line)
    return [each for each in found if "example.internal" in each[0]]


async def test_the_page_on_dns_says_what_coredns_answers(
    etcd_server: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "dns.md").read_text()
    rows = re.findall(r"^\| ([a-z-]+-\d) \| (\S+) \| ([^|]+) \| (http\S+) \|$", page, re.M)
    assert len(rows) == 3
    root = f"{namespace}-dns"
    url = f"{etcd_server.store_url}/{namespace}/mcp?skydns=example.internal&skydns-path={root}"
    url += "&skydns-agents=true"
    more = [("path /skydns", f"path /{root}")]
    async with EtcdStore(url) as store, coredns(tmp_path, etcd_server, more=more) as names:
        for id, name, tags, at in rows:
            given = record(id, name=name, tags=tags.split(", "), endpoint={"url": at})
            await store.register(given, document("a"), ttl=30, reap_after=60)
        said = _said_of_etcd()
        assert len(said) == 9
        for question, lines in said:
            name, _, kind = question.partition(" ")
            assert await names.ask(name, kind or "A") == lines, question


class World:
    """Instances that change as a seed says, and what of them DNS should serve."""

    def __init__(self, store: EtcdStore, seed: int) -> None:
        self._store = store
        self._random = seeded(seed)
        self._there: dict[str, tuple[Registration, int]] = {}
        self._next = 0

    async def change(self) -> None:
        """One change, whatever is possible now."""
        if len(self._there) < 3 or (len(self._there) < 12 and self._random.random() < 0.2):
            await self._register()
            return
        id = self._random.choice(sorted(self._there))
        registration, port = self._there[id]
        what = self._random.choice(
            [
                "healthy",
                "healthy",
                "degraded",
                "down",
                "update",
                "update",
                "rename",
                "drain",
                "leave",
            ]
        )
        with suppress(RegistrationLostError):
            match what:
                case "update" | "rename":
                    await registration.update(self._record(id, port), document(what))
                case "drain":
                    await registration.drain()
                case "leave":
                    await registration.deregister()
                    del self._there[id]
                case status:
                    health = healthy() if status == "healthy" else Health(Status(status), "why")
                    await registration.heartbeat(health)

    async def _register(self) -> None:
        self._next += 1
        id, port = f"n-{self._next}", 8000 + self._next
        self._there[id] = (
            await self._store.register(
                self._record(id, port), document("a"), ttl=120, reap_after=240
            ),
            port,
        )

    def _record(self, id: str, port: int) -> Any:
        tags = self._random.sample(LABELS[2:], self._random.randint(0, 3))
        name = self._random.choice(LABELS[:2])
        address = f"10.1.0.{port % 250 + 1}"
        return record(id, name=name, tags=tags, endpoint={"url": f"http://{address}:{port}/{id}"})


async def same(asked: AskedFacade, names: CoreDns, domain: str) -> bool:
    """Whether names and texts are those of the facade's list; else raises NotYet's kin."""
    listed = (await asked.servers("status=healthy")).values()
    kinds = (("{}.mcp.", "SRV"), ("_mcp._{}.", "SRV"), ("{}.mcp.", "TXT"), ("{}.mcp.", "A"))
    answers = iter(
        await names.ask_all(
            [(form.format(label) + domain, kind) for label in LABELS for form, kind in kinds]
        )
    )
    for label in LABELS:
        offered = [e for e in listed if label in (e["name"], *e.get("tags", ()))]
        places = sorted((e["id"], e["url"].split("/")[2]) for e in offered)
        srv, rfc, txt, a = (next(answers) for _ in kinds)
        served = sorted((line.split()[3].split(".")[0], line.split()[2]) for line in srv)
        if served != [(id, place.split(":")[1]) for id, place in places] or rfc != srv:
            raise NoAnswer(f"{label}: SRV {served} and {rfc} for {places}")
        if a != sorted({place.split(":")[0] for _, place in places}):
            raise NoAnswer(f"{label}: A {a} for {places}")
        told = sorted(line.strip('"').split()[0].removeprefix("id=") for line in txt)
        if told != [id for id, _ in places]:
            raise NoAnswer(f"{label}: TXT {told} for {places}")
    return True


async def test_dns_and_the_facade_agree_over_a_thousand_changes(
    store: EtcdStore, names: CoreDns, namespace: str, tmp_path: Path
) -> None:
    """Every name is compared after every few dozen of them."""
    world, pace = World(store, seed=1), seeded(1)
    # Nobody is at the addresses of this world, which a facade would find out in time.
    untried = {"MCP_DISCOVERY_TRY_ADVERTISED": "false"}
    async with facade(tmp_path, store.url.partition("?")[0], **untried) as asked:
        done = served = 0
        while done < 1000:
            for _ in range(pace.randint(20, 120)):
                await world.change()
                done += 1
            await until(lambda: same(asked, names, namespace), timeout=5, what="the same answers")
            served += len(await asked.servers("status=healthy"))
        assert served > 20  # there was something to compare


async def test_a_killed_sidecar_leaves_no_name(
    etcd_server: EtcdServer, names: CoreDns, namespace: str, tmp_path: Path
) -> None:
    url = f"{etcd_server.store_url}/{namespace}/mcp?skydns={namespace}"
    command = ("sidecar", "--store", url, "--id", "dying-1", "--name", "dying", "--ttl", "3s")
    async with sdk() as server, running(tmp_path, *command, "--url", server.url) as sidecar:

        async def served(*expected: str) -> bool:
            return await names.ask(f"dying.mcp.{namespace}", "A") == list(expected)

        await until(lambda: served("127.0.0.1"), timeout=20, what="its name")
        assert [line.split()[2] for line in await names.ask(f"dying.mcp.{namespace}", "SRV")] == [
            str(server.port)
        ]
        await sidecar.stop(signal.SIGKILL)
        began = time.monotonic()
        await until(served, timeout=3 + 2, what="its name gone")
        assert time.monotonic() - began > 0.5  # by the lease, and not for another reason
        assert await names.ask(f"dying.mcp.{namespace}", "TXT") == []


async def test_what_is_posted_to_a_facade_has_names_too(
    etcd_server: EtcdServer, names: CoreDns, namespace: str, tmp_path: Path
) -> None:
    url = f"{etcd_server.store_url}/{namespace}/mcp?skydns={namespace}"
    name = f"posted.mcp.{namespace}"
    async with sdk() as server, facade(tmp_path, url) as asked:
        body = {"id": "posted-1", "name": "posted", "url": server.url}
        async with aiohttp.ClientSession() as http:
            async with http.post(f"{asked.url}/servers", json=body) as answer:
                assert answer.status == 201

            async def served(*expected: str) -> bool:
                return await names.ask(name, "A") == list(expected)

            await until(lambda: served("127.0.0.1"), timeout=10, what="the name")
            await server.kill()
            await http.post(f"{asked.url}/servers/posted-1/heartbeat", json={})  # probe it now
            await until(served, timeout=5, what="the name gone with the server")
            await server.start()
            await http.post(f"{asked.url}/servers/posted-1/heartbeat", json={})
            await until(lambda: served("127.0.0.1"), timeout=5, what="the name again")
            async with http.delete(f"{asked.url}/servers/posted-1") as answer:
                assert answer.status == 204
            await until(served, timeout=5, what="the name gone with the entry")


async def test_with_tls_and_the_least_user(tmp_path: Path) -> None:
    papers = Papers(tmp_path)
    async with ConfiguredEtcd(1, papers, "s3cr3t-of-root") as server:
        await script(server, "roles")
        await script(server, "user", "sidecar", "mcp-sidecar")
        await script(server, "user", "coredns", "mcp-dns")
        given = StoreOptions(
            user="sidecar",
            password=PASSWORD,
            ca=str(papers.ca_file),
            certificate=str(papers.client.cert_file),
            key=str(papers.client.key_file),
        )
        async with (
            EtcdStore(f"{server.store_url}?skydns=example.internal", given) as store,
            coredns(tmp_path, server, user="coredns", password=PASSWORD) as names,
        ):
            await store.register(record(), document("a"), ttl=30, reap_after=60)

            async def served() -> bool:
                return await names.ask("products.mcp.example.internal", "A") == ["127.0.0.1"]

            await until(served, timeout=10, what="an answer over TLS")
            (only,) = await permissions(server, "mcp-dns")
            await revoke(server, "mcp-dns", only)

            async def failed() -> bool:
                with suppress(NoAnswer):
                    await names.ask("products.mcp.example.internal", "A")
                    return False
                return "permission denied" in names.log.read_text()

            await until(failed, timeout=10, what="CoreDNS failing without its permission")
