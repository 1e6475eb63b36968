"""doctor over real stores, real servers and real DNS: what it finds, and what it says of it."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import Snapshot
from tests.facade.harness import leased
from tests.mcp_discovery.cli.cluster import Cluster, on_terminal
from tests.programs import AskedFacade, command, facade
from tests.records import document, record
from tests.servers.process import odd
from tests.servers.recording import recording
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer
from tests.stores.tls import Certificate, Tls

NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Report:
    """What the doctor said: ``state check: message`` for each line, and how it ended."""

    code: int
    lines: list[str]

    def has(self, start: str, part: str = "") -> bool:
        return any(each.startswith(start) and part in each for each in self.lines)


async def doctor(*arguments: str, **environment: str) -> Report:
    ended = await command("doctor", "--json", *arguments, timeout=60, **environment)
    assert "Traceback" not in ended.err, ended
    found = [json.loads(line) for line in ended.out.splitlines()]
    assert all(each.get("advice") for each in found if each["state"] == "wrong")
    lines = [f"{each['state']} {each['check']}: {each['message']}" for each in found]
    assert ended.code == (1 if any(line.startswith("wrong") for line in lines) else 0), ended
    return Report(ended.code, lines)


async def instances(store: str) -> list[str]:
    async with open_store(store) as opened:
        news = opened.watch()
        first = await anext(news)
        await news.aclose()
        assert isinstance(first, Snapshot)
        return list(first.instances)


@asynccontextmanager
async def served(store: str, folder: Path) -> AsyncIterator[AskedFacade]:
    """A facade over ``store`` with one server in it."""
    async with facade(folder, store) as asked, odd("--tools", "2") as server:
        file = folder / "one.json"
        file.write_text(
            json.dumps({"id": "one", "name": "one", "url": server.url, "tags": ["red"]})
        )
        assert (await command("register", str(file), "--facade", asked.url)).code == 0
        await asked.until_status("one", "healthy", 15)
        yield asked


async def test_all_is_well_over_consul(
    consul_server: ConsulServer, namespace: str, tmp_path: Path
) -> None:
    store = f"{consul_server.store_url}/{namespace}"
    async with served(store, tmp_path) as asked:
        report = await doctor(
            *("--facade", asked.url, "--store", store, "--server", "one"),
            *("--dns", f"127.0.0.1:{consul_server.dns_port}"),
        )
        assert report.code == 0, report
        for start, part in (
            ("ok facade", "its list is up to date"),
            ("ok servers", "each of 1 names is one server's"),
            ("ok store", "can be read: 1 instance"),
            ("ok store", "a registration of doctor was made and removed again"),
            ("ok clock", "the facade"),
            ("ok clock", f"the store at http://127.0.0.1:{consul_server.http_port}"),
            ("ok dns", f"red.{namespace}.service.consul has A records: 127.0.0.1"),
            ("ok dns", "has SRV records: "),
            ("ok server", "one is healthy"),
            ("ok server", "speaks MCP"),
            ("ok server", "its tools are those that are listed: 2"),
        ):
            assert report.has(start, part), (start, part, report)
        assert not report.has("unchecked")
        assert await instances(store) == ["one"]

        report = await doctor(
            *("--facade", asked.url, "--dns", f"127.0.0.1:{consul_server.dns_port}"),
            *("--dns-domain", f"no{namespace}.service.consul", "--tag", "red"),
        )
        assert report.has("wrong dns", "(no such name), though the facade lists 1 healthy")


async def test_with_a_service_for_each_server_dns_is_asked_for_one_of_them(
    tmp_path: Path,
) -> None:
    async with ConsulServer() as consul:
        store = f"{consul.store_url}?mode=service-per-server"
        dns = ("--dns", f"127.0.0.1:{consul.dns_port}")
        async with served(store, tmp_path) as asked:
            report = await doctor("--facade", asked.url, "--store", store, *dns)
        name = "red.mcp-one.service.consul"
        assert report.has("ok dns", f"{name} has A records: 127.0.0.1"), report
        assert report.has("ok dns", f"{name} has SRV records"), report


async def test_names_that_are_not_one_servers(
    consul_server: ConsulServer, namespace: str, tmp_path: Path
) -> None:
    """As they were registered by releases that did not know better."""
    store = f"{consul_server.store_url}/{namespace}"
    long = "n" * 63
    async with open_store(store) as opened, facade(tmp_path, store) as asked:
        servers: dict[str, dict[str, object]] = {
            "cpp": {"name": "docs", "registryName": "a.example/docs"},
            "cs": {"name": "docs", "registryName": "b.example/docs"},
            "tagged": {"name": "other", "tags": ["docs"]},
            "odd-1": {"name": "odd", "version": "1.0.0"},
            "odd-2": {"name": "odd", "version": "1.0.0"},
            "long": {"name": long},
        }
        for id, fields in servers.items():
            given = record(f"{id}-{namespace}", **({"tags": []} | fields))
            offered = document("t", id) if given.name == "odd" else document("t")
            await opened.register(given, offered, ttl=60, reap_after=60)
        await asked.until_status(f"long-{namespace}", "healthy", 15)
        report = await doctor(
            *("--facade", asked.url, "--dns", f"127.0.0.1:{consul_server.dns_port}"),
            *("--dns-domain", f"{namespace}.service.consul", "--tag", "docs"),
        )
        for start, part in (
            ("ok dns", f"docs.tag.{namespace}.service.consul has A records"),
            ("wrong servers: 2 servers share the name docs", "'a.example/docs' in registries"),
            ("wrong servers: docs is the name of", f"a tag of tagged-{namespace}"),
            (f"wrong servers: {long}", "has 63 letters"),
            ("unchecked servers: whether odd-1", "both are odd 1.0.0"),
        ):
            assert report.has(start, part), (start, part, report)


async def test_an_etcd_store(etcd_server: EtcdServer, namespace: str) -> None:
    store = f"{etcd_server.store_url}/{namespace}"
    report = await doctor("--facade", NOWHERE, "--store", store)
    assert report.has("ok store", "a registration of doctor was made and removed again")
    assert report.has("ok clock", "the store at")
    assert await instances(store) == []


async def test_one_failing_check_does_not_stop_the_others() -> None:
    report = await doctor(
        *("--facade", NOWHERE, "--store", "consul://127.0.0.1:9", "--dns", "127.0.0.1:9"),
        *("--server", "one", "--timeout", "2s"),
    )
    assert report.code == 1
    assert report.has("wrong facade", "connection refused")
    assert report.has("wrong store", "connection refused")
    assert report.has("wrong dns", "127.0.0.1:9")
    assert report.has("unchecked clock", "that of the facade is not known")
    assert report.has("unchecked server", "the facade cannot be asked")
    assert not report.has("ok")


async def test_names_that_do_not_resolve() -> None:
    report = await doctor("--facade", "http://facade.invalid:4000", "--timeout", "2s")
    assert report.has("wrong names", "facade.invalid does not resolve here")
    report = await doctor("--facade", "http://localhost:9")
    assert report.has("ok names", "localhost is ")


async def test_what_is_no_facade(here: Cluster) -> None:
    report = await doctor("--facade", here.interactive_server.base_url)
    assert report.has("wrong facade")
    assert report.has("unchecked clock", "what answers at")
    assert not report.has("ok facade")
    assert not report.has("ok clock")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--store", "redis://x"), "unknown scheme"),
        (("--store", "consul://x", "--store-ca", "/no/such/file"), "/no/such/file"),
    ],
)
async def test_a_store_that_cannot_be_opened(arguments: tuple[str, ...], says: str) -> None:
    assert (await doctor("--facade", NOWHERE, *arguments)).has("wrong store", says)


async def test_an_embedded_store_is_its_facades(here: Cluster) -> None:
    report = await doctor("--facade", here.facade.url, "--store", "embedded:")
    assert (report.code, report.has("unchecked store", "lives in its facade")) == (0, True)
    report = await doctor("--facade", here.facade.url, "--store", here.facade.url)
    assert report.has("ok store", "made and removed again")
    assert len(await here.facade.servers()) == 3


async def test_credentials_that_may_read_but_not_write() -> None:
    async with ConsulServer(acl=True) as consul:
        reading = await consul.create_token(
            'key_prefix "" { policy = "read" } service_prefix "" { policy = "read" } '
            'node_prefix "" { policy = "read" } agent_prefix "" { policy = "read" }'
        )
        store = ("--facade", NOWHERE, "--store", consul.store_url)
        report = await doctor(*store, MCP_DISCOVERY_STORE_TOKEN=reading)
        assert report.has("ok store", "can be read")
        lacks = "lacks key:write on 'mcp/documents/', key:write on 'mcp/servers/doctor/doctor-"
        assert report.has("wrong store: a sidecar of doctor cannot keep it registered", lacks)
        report = await doctor(*store, "--as", "facade", MCP_DISCOVERY_STORE_TOKEN=reading)
        assert report.has("ok store", "can be read")
        assert not report.has("wrong store")
        wrong = "3c9f4d0e-0000-4000-8000-000000000000"
        report = await doctor(*store, MCP_DISCOVERY_STORE_TOKEN=wrong)
        assert report.has("wrong store", "refuses")
        assert not any(wrong in line or reading in line for line in report.lines)


async def test_a_token_that_expires_and_one_that_may_have_no_session() -> None:
    async with ConsulServer(acl=True) as consul:
        rules = (
            'key_prefix "mcp/" { policy = "write" } service "mcp" { policy = "write" } '
            'node_prefix "" { policy = "read" } agent_prefix "" { policy = "read" }'
        )
        await consul.api("PUT", "/v1/acl/policy", body={"Name": "old", "Rules": rules})
        body = {"Policies": [{"Name": "old"}], "ExpirationTTL": "24h"}
        token = (await consul.api("PUT", "/v1/acl/token", body=body)).json()["SecretID"]
        store = ("--facade", NOWHERE, "--store", consul.store_url)
        report = await doctor(*store, MCP_DISCOVERY_STORE_TOKEN=token)
        assert report.has("ok store", "its token expires at 20")
        assert report.has("ok store", "made and removed again")
        assert report.has("wrong store", "the token lacks session:write")
        assert not any(token in line for line in report.lines)


async def test_a_server_end_to_end(here: Cluster, tmp_path: Path) -> None:
    asked = ("--facade", here.facade.url, "--server")
    report = await doctor(*asked, "nobody")
    assert report.has("wrong server", "nobody is not listed")

    async with facade(tmp_path, "embedded:") as own, odd("--tools", "2") as server:
        file = tmp_path / "two.json"
        file.write_text(json.dumps({"id": "two", "name": "two", "url": server.url}))
        assert (await command("register", str(file), "--facade", own.url)).code == 0
        await own.until_status("two", "healthy", 15)
        two = ("--facade", own.url, "--server", "two", "--timeout", "2s")

        await server.control(tools=3)
        report = await doctor(*two)
        assert report.has("wrong server", "not those that are listed (not listed: tool-2)")
        await server.control(tools=2, token="s3cr3t")
        report = await doctor(*two)
        assert report.has("wrong server", "does not answer as MCP")
        assert report.has("unchecked server", "could not be checked: tools as listed")
        report = await doctor(*two, MCP_DISCOVERY_SERVER_TOKEN="s3cr3t")
        assert report.has("ok server", "its tools are those that are listed: 2")
        await server.control(token="", hang=True)
        assert (await doctor(*two)).has("wrong server", "no answer within")
        await server.kill()
        report = await doctor(*two)
        assert report.has("wrong server", "cannot be reached from here")
        assert report.has("unchecked server", "could not be checked: speaks MCP, tools as listed")


@asynccontextmanager
async def fake_facade_of_another_time(ahead: float) -> AsyncIterator[str]:
    """A facade whose clock is wrong: that of this machine is not the test's to change."""

    async def answer(_: web.Request) -> web.Response:
        headers = {"Date": formatdate(time.time() + ahead, usegmt=True)}
        return web.json_response({}, headers=headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("ahead", "says"),
    [
        (0.0, "ok clock: agrees"),
        (3600.0, "wrong clock: that of the facade is 60 minutes ahead of this machine's"),
        (-40.0, "wrong clock: that of the facade is 39 s behind this machine's"),
    ],
)
async def test_the_clock(ahead: float, says: str) -> None:
    async with fake_facade_of_another_time(ahead) as url:
        report = await doctor("--facade", url)
    close = says.replace("39 s", "40 s")
    assert report.has(says) or report.has(close), report


async def test_people_see_marks_and_advice(here: Cluster) -> None:
    told = {"MCP_DISCOVERY_FACADE": here.facade.url}
    shown = await on_terminal("doctor", "--server", "talker", environment=told, columns=60)
    assert "\x1b[32m✓" in shown
    assert "→ name it with --store" in shown.replace("\r\n", " ")
    assert max(len(line) for line in (await _plain(here)).splitlines()) <= 60
    ended = await here.ask("doctor", "--server", "nobody")
    assert ended.code == 1
    assert "✗ server: nobody is not listed\n  → " in ended.out
    assert "\x1b" not in ended.out


async def _plain(here: Cluster) -> str:
    told = {"MCP_DISCOVERY_FACADE": here.facade.url, "TERM": "dumb"}
    return await on_terminal("doctor", environment=told, columns=60)


async def test_what_dns_is_given_is_checked() -> None:
    for text in ("127.0.0.1:dns", ":53", "a/b"):
        ended = await command("doctor", "--facade", NOWHERE, "--dns", text)
        assert (ended.code, "write 127.0.0.1:8600" in ended.err) == (2, True)


async def test_certificates_that_expire_soon(tmp_path: Path) -> None:
    """Those in the files, and what the store shows."""
    tls = Tls(tmp_path)
    good, late = tls.lasting(40 * 86400), tls.lasting(-1)
    tls.server = tls.lasting(10 * 86400, ago=80 * 86400, names=("127.0.0.1", "localhost"))

    async def asked(client: Certificate) -> Report:
        return await doctor(
            *("--facade", NOWHERE, "--store", server.store_url, "--read-only"),
            *("--store-cert", str(client.cert_file), "--store-key", str(client.key_file)),
            *("--store-ca", str(tls.ca_file)),
        )

    async with EtcdServer(tls=tls) as server:
        report = await asked(good)
        assert report.has("ok certificates", f"{good.cert_file} (store-cert) is good until 20")
        assert report.has("ok certificates", f"{tls.ca_file} (store-ca)")
        shown = f"the certificate of https://127.0.0.1:{server.http_port} expires at 20"
        assert report.has("wrong certificates", shown)
        assert report.has("ok store")
        report = await asked(late)
        assert report.has("wrong certificates", f"{late.cert_file} (store-cert) expired at 20")
        assert report.has("wrong store", f"renew {late.cert_file}")


async def test_a_server_with_a_certificate_of_a_private_ca(here: Cluster, tmp_path: Path) -> None:
    authority, file = trustme.CA(), str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(file)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(serving)
    async with recording(tls=serving) as server, aiohttp.ClientSession() as http:
        body = leased("secure", name="secure", url=f"https://localhost:{server.port}/mcp")
        async with http.post(f"{here.facade.url}/servers", json=body) as response:
            assert response.status == 201
        asked = ("--facade", here.facade.url, "--server", "secure")
        assert (await doctor(*asked)).has("wrong server", "give that CA with --server-ca")
        assert (await doctor(*asked, "--server-ca", file)).has("ok server", "speaks MCP")
        async with http.delete(f"{here.facade.url}/servers/secure") as response:
            assert response.status == 204
