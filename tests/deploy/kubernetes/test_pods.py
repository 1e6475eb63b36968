"""The chart's pods with real processes: arguments, probes, hooks, and the order of the end."""

from __future__ import annotations

import asyncio
import math
import re
import shlex
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from typer.main import get_command

from mcp_discovery import Discovery
from mcp_discovery.cli.main import command_line
from mcp_discovery.sidecar.settings import SidecarSettings
from tests.deploy.consul.conftest import documented_consul
from tests.deploy.etcd.documented import documented_etcd
from tests.deploy.kubernetes.charts import (
    MANIFESTS,
    containers,
    manifests,
    of_kind,
    one,
    pod_specs,
    read,
    rendered,
    setting,
)
from tests.deploy.kubernetes.kubelet import FakePod, pod
from tests.programs import AskedFacade, command, facade
from tests.stores import EtcdServer
from tests.stores.waiting import until

DRAIN = 2
ASKED_EVERY = 0.05
"""Seconds between two requests of a client that asks a facade all the time while its pod ends."""
SEEN_EVERY = 0.02
"""Seconds between two requests for the list whose statuses are recorded one by one."""


@dataclass(frozen=True)
class Shipped:
    """Manifests as they are shipped, the address of the store as they give it and as it is here,
    the files that its page has made, and the token that stands for "…"."""

    manifests: list[str]
    here: tuple[str, str]
    files: Mapping[str, str]
    token: str = ""

    def pods(self) -> Iterator[tuple[dict[str, Any], dict[str, dict[str, str]]]]:
        """The specification of each pod, and the Secrets that the comments have made up to it."""
        secrets: dict[str, dict[str, str]] = {}
        for name in self.manifests:
            text = (MANIFESTS / name).read_text()
            assert self.here[0] in text
            secrets |= self._secrets(text)
            for spec in pod_specs(read(text.replace(*self.here))):
                yield spec, secrets

    def _secrets(self, text: str) -> dict[str, dict[str, str]]:
        """What the ``kubectl create secret generic`` of the comment at the top would make."""
        comment = text.partition("\n---")[0].replace("\\\n#", "")
        made = {}
        for line in re.findall(r"create secret generic (.*)", comment):
            name, *given = shlex.split(line)
            made[name] = dict(self._key(option) for option in given)
        return made

    def _key(self, option: str) -> tuple[str, str]:
        kind, key, value = option.split("=", 2)
        return key, self.files[value] if kind == "--from-file" else value.replace("…", self.token)


def server_spec(store: str) -> dict[str, Any]:
    """The pod of the example server."""
    given = setting(
        facade__enabled=False,
        exampleServer__enabled=True,
        sidecar__drainSeconds=DRAIN,
        store__url=store,
    )
    (spec,) = pod_specs(rendered(*given))
    return spec


def facade_spec(**values: Any) -> dict[str, Any]:
    """The facade's pod."""
    (spec,) = pod_specs(rendered(*setting(**values)))
    return spec


async def ask(pod: FakePod, path: str) -> tuple[int, Any]:
    """Status and JSON of the facade in ``pod``."""
    url = f"http://127.0.0.1:{pod.container('facade').port('http')}{path}"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return response.status, await response.json()


async def metrics(port: int) -> str:
    """What Prometheus reads there."""
    url = f"http://127.0.0.1:{port}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 200
        return await response.text()


async def test_a_server_is_drained_before_it_is_stopped_and_calls_go_on(
    etcd_server: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    store = f"{etcd_server.store_url}/{namespace}"
    spec = server_spec(store)
    async with (
        facade(tmp_path, store) as asked,
        pod("product-catalog-5d7c9f8b6d-abcde", spec, tmp_path) as old,
        Discovery(asked.url) as d,
    ):
        await old.until_ready(15)
        await check_container_answers(old, await asked.until_status(old.name, "healthy", 5))
        await d.connect(tags=["products"])
        done = asyncio.Event()
        calling = asyncio.create_task(call_until(d, done))
        # As a rolling update does: the new one has to be ready first.
        async with pod("product-catalog-5d7c9f8b6d-fghij", spec, tmp_path) as new:
            await new.until_ready(15)
            statuses, gone = await seen_while(old.delete(), asked, old.name)
            assert list(await asked.servers("status=healthy")) == [new.name]
            done.set()
            assert await calling > 20  # raises what a call raised
    assert statuses in (["healthy", "draining", None], ["draining", None])
    # It is offered to nobody from the start, and gone before the server hears of its end.
    assert gone < old.when("server", "SIGTERM")
    assert old.when("server", "SIGTERM") - old.when("pod", "deleted") >= DRAIN
    assert old.when("server", "ended") <= old.when("mcp-discovery", "SIGTERM")
    assert old.container("mcp-discovery").exit_code == 0
    assert not [event for event in old.events if event[2] in ("SIGKILL", "out of time")]


async def check_container_answers(running: FakePod, seen: dict[str, Any]) -> None:
    """The sidecar is there first, what it registered is right, and all that is asked answers."""
    assert running.when("mcp-discovery", "started") < running.when("server", "started")
    server = running.container("server")
    assert seen["url"] == f"http://127.0.0.1:{server.port('mcp')}/mcp"
    assert seen["name"] == "product-catalog"
    for container in running.all:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert await container.probe(probe) == 200
    sidecar = running.container("mcp-discovery")
    figures = await metrics(sidecar.port("mcp-sidecar"))  # what the PodMonitor asks for
    assert "mcp_discovery_sidecar_" in figures


async def call_until(d: Discovery, done: asyncio.Event) -> int:
    """Calls a tool until ``done``; how often."""
    called = 0
    while not done.is_set():
        answer = await d.call("get_product", {"sku": "KET-100"})
        assert not answer.is_error
        called += 1
    return called


async def seen_while(
    work: Coroutine[Any, Any, None], asked: AskedFacade, id: str
) -> tuple[list[str | None], float]:
    """The statuses that an instance is listed with until ``work`` is done, and when it was gone."""
    statuses: list[str | None] = []
    gone = math.inf
    working = asyncio.create_task(work)
    while not working.done():
        entry = (await asked.servers()).get(id)
        status = entry["status"] if entry else None
        if not statuses or statuses[-1] != status:
            statuses.append(status)
            gone = time.monotonic() if status is None else math.inf
        await asyncio.sleep(SEEN_EVERY)
    await working
    return statuses, gone


async def test_a_store_that_is_away_restarts_and_unreadies_nobody(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(EtcdServer())
        store = f"{etcd.store_url}/x"
        server = await stack.enter_async_context(pod("server", server_spec(store), tmp_path))
        front = await stack.enter_async_context(
            pod("facade", facade_spec(store__url=store, facade__gateway=True), tmp_path)
        )
        await server.until_ready(15)
        await front.until_ready(15)
        await etcd.kill()

        async def stale() -> bool:
            return "staleSince" in (await ask(front, "/ready"))[1]

        await until(stale, timeout=12, what="the facade's list being stale")
        assert await front.container("facade").probe("readinessProbe") == 200
        assert await front.container("facade").probe("livenessProbe") == 200
        assert await server.container("mcp-discovery").probe("livenessProbe") == 200
        # The sidecar may say that it is not ready: the probe's patience outlives an hour of that.
        patience = server.container("mcp-discovery").spec["readinessProbe"]
        assert patience["periodSeconds"] * patience["failureThreshold"] >= 3600
        # A facade that starts meanwhile lives, and is not ready: a rollout waits for it. It ends
        # in time even now.
        late = await stack.enter_async_context(
            pod("late", facade_spec(store__url=store, facade__preStopSeconds=1), tmp_path)
        )
        assert await late.container("facade").probe("livenessProbe") == 200
        assert await late.container("facade").probe("readinessProbe") == 503
        await late.delete()
        assert late.container("facade").exit_code == 0


@asynccontextmanager
async def etcd_as_its_page_says(folder: Path) -> AsyncIterator[Shipped]:
    """All of its commands are run: certificates of clients are asked for, and users are on."""
    async with documented_etcd(folder / "etcd") as etcd:
        names = x509.load_pem_x509_certificate((folder / "etcd/server.pem").read_bytes())
        named = names.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "etcd.etcd.svc" in named.get_values_for_type(x509.DNSName)
        headers = {"Authorization": await etcd.authenticate("mcp-facade", "s3cr3t-of-facade")}
        body = {"name": "mcp-facade"}
        user = await etcd.request("POST", "/v3/auth/user/get", body=body, headers=headers)
        assert user.json()["roles"] == ["mcp-facade", "mcp-queries", "mcp-sidecar", "mcp-sweeper"]
        here = ("etcd.etcd.svc:2379", f"{etcd.host}:{etcd.http_port}")
        files = {
            each.name: each.read_text() for each in (folder / "etcd").iterdir() if each.is_file()
        }
        yield Shipped(["etcd.yaml", "example-server.yaml"], here, files)


@asynccontextmanager
async def consul_as_its_page_says(folder: Path) -> AsyncIterator[Shipped]:
    """The agent of the node asks for a token, and pods speak HTTPS to it."""
    async with documented_consul(folder) as site:
        here = ("$(HOST_IP):8501", f"127.0.0.1:{site.client.port('https')}")
        files = {"consul-agent-ca.pem": site.ca.read_text()}
        yield Shipped(["consul.yaml"], here, files, site.tokens["facade"])


@pytest.mark.parametrize("store", [etcd_as_its_page_says, consul_as_its_page_says])
async def test_what_is_shipped_works_over_the_store_that_the_pages_set_up(
    store: Callable[[Path], AbstractAsyncContextManager[Shipped]], tmp_path: Path
) -> None:
    """… and a facade answers until its address has left all nodes."""
    async with store(tmp_path) as shipped, AsyncExitStack() as stack:
        running = []
        for number, (spec, secrets) in enumerate(shipped.pods()):
            started = pod(f"pod-{number}", spec, tmp_path, secrets)
            running.append(await stack.enter_async_context(started))
            await running[-1].until_ready(20)
        front = running[0]
        _, found = await ask(front, "/servers")
        assert [each["id"] for each in found["servers"]] == [each.name for each in running[1:]]
        deleting = asyncio.create_task(front.delete())
        assert await answered_until_terminated(front) > 10
        await deleting
        assert front.container("facade").exit_code == 0
        assert front.when("facade", "SIGTERM") - front.when("pod", "deleted") >= 5
        assert front.when("facade", "ended") - front.when("facade", "SIGTERM") < 5


def test_every_manifest_over_etcd_says_the_same_of_it() -> None:
    """So that what holds for those above holds for all."""
    said = {
        str((container["args"][1], container["env"], container["volumeMounts"], pod["volumes"]))
        for path in (*manifests(),)
        for pod in pod_specs(read(path.read_text()))
        for container in pod.get("initContainers", [])
        if "--store=etcd" in container["args"][1]
    }
    assert len(said) == 1


async def answered_until_terminated(front: FakePod) -> int:
    """Asks the facade in ``front`` until its container is sent SIGTERM; returns how often.

    Each request that ends before the signal has to be answered with a fresh list. One that is still
    under way at the signal proves nothing: by then the address has left all nodes.
    """

    def terminated() -> bool:
        return any(what == "SIGTERM" for _, _, what in front.events)

    answered = 0
    while not terminated():
        try:
            status, answer = await ask(front, "/servers")
        except aiohttp.ClientError:
            if terminated():
                break
            raise
        if terminated():
            break
        assert status == 200
        assert "staleSince" not in answer
        answered += 1
        await asyncio.sleep(ASKED_EVERY)
    return answered


async def test_the_manifest_to_try_it_with(tmp_path: Path) -> None:
    """embedded.yaml as it is: the Service's host stands for the facade's address."""
    text = (MANIFESTS / "embedded.yaml").read_text()
    documents = read(text)
    front_spec, server_spec = pod_specs(documents)
    service = one(documents, "Service")
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    async with pod("facade", front_spec, tmp_path) as front:
        await front.until_ready(15)
        port = service["spec"]["ports"][0]["port"]
        there = f"http://127.0.0.1:{front.container('facade').port('http')}"
        store = f"--store=http://{host}:{port}"
        arguments = server_spec["initContainers"][0]["args"]
        arguments[arguments.index(store)] = f"--store={there}"
        async with pod("product-catalog-1", server_spec, tmp_path) as server:
            await server.until_ready(15)
            status, found = await ask(front, "/servers?tags=products")
            assert status == 200
            assert "mcp_discovery_" in await metrics(front.container("facade").port("ops"))
            assert [each["id"] for each in found["servers"]] == ["product-catalog-1"]
            told = await command("call", "search_products", "query=lamp", "--facade", there)
            assert told.code == 0, told
            assert "Desk lamp" in told.out


@pytest.mark.parametrize("path", manifests(), ids=lambda path: str(path.relative_to(MANIFESTS)))
async def test_the_real_command_takes_every_manifests_arguments(path: Path) -> None:
    """All that a command line is checked for before anything starts: ``--help`` at its end would
    hide it, so a port that nobody can have, or a store that nobody has, ends it."""

    group: Any = get_command(command_line())
    for spec in pod_specs(read(path.read_text())):
        for container in containers(spec):
            if container["command"] != ["mcp-discovery"]:
                continue
            name, *arguments = container["args"]
            chosen = group.commands[name]
            context = chosen.make_context(name, list(arguments))
            assert not context.args
            if name == "sidecar":
                given = context.params
                SidecarSettings(
                    url=given["url"],
                    name=given["name"],
                    tags=tuple(given["tag"] or ()),
                    version=given["version"],
                    weight=given["weight"],
                    advertise_url=given["advertise_url"],
                    drain=given["drain"],
                    health_port=given["health_port"],
                    health_host=given["health_host"],
                )
            with pytest.raises(Exception, match=r"[Nn]o such option"):
                chosen.make_context(name, [*arguments, "--no-such-option"])


def test_every_exec_hook_runs_what_the_image_has() -> None:
    for path in manifests():
        for spec in pod_specs(read(path.read_text())):
            for container in spec.get("initContainers", []):
                command_line = container["lifecycle"]["preStop"]["exec"]["command"]
                assert command_line[:2] == ["python", "-c"]
                compile(command_line[2], "hook", "exec")
    assert of_kind(read((MANIFESTS / "embedded.yaml").read_text()), "Deployment")
