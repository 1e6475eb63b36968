"""A small house to break: a real store, facades, sidecars, servers, and a Prometheus over them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.deploy.monitoring.files import PROMETHEUS, rules
from tests.deploy.monitoring.prometheus import Prometheus, started
from tests.faults.faulty_clock import Clock
from tests.faults.programs import Program, ready
from tests.servers.process import McpServer, odd
from tests.stores import ports
from tests.stores.waiting import until

Labels = tuple[tuple[str, str], ...]
#: The values of one series, one for each scrape; ``None`` where there is none.
Values = Sequence[float | None]

#: Seconds between two scrapes, as in the shipped files, and between two samples of a recording.
SCRAPE = 15


@dataclass(frozen=True, slots=True)
class FacadeProcess:
    """One facade, as Prometheus scrapes it."""

    url: str
    process: Program


@dataclass(frozen=True, slots=True)
class SidecarProcess:
    """One sidecar beside its server."""

    id: str
    url: str
    process: Program
    server: McpServer


@dataclass(frozen=True, slots=True)
class Check:
    """So many seconds after the recording's begin exactly these alerts fire: name and of whom."""

    at: int
    firing: frozenset[str]


class World:
    """What one outage happens to. Facades are called f1, f2, …, sidecars by their id, NAME-N."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.facades: dict[str, FacadeProcess] = {}
        self.sidecars: dict[str, SidecarProcess] = {}
        self.checks: list[Check] = []
        #: The addresses as they are here, and as the recording has them.
        self.addresses: dict[str, str] = {}
        self.watching: Prometheus | None = None
        self.began = 0.0
        #: What Prometheus saw, by labels, with the stable names in the place of addresses.
        self.series: dict[Labels, Values] = {}
        #: What fired, and when, in words.
        self.seen: list[str] = []
        self._clients: set[asyncio.Task[None]] = set()

    async def facade(self, name: str, store: str, *options: str) -> FacadeProcess:
        """Starts a facade over ``store``; it may not be ready."""
        port = ports.draw()
        self._stack.callback(port.release)
        url = f"http://127.0.0.1:{port.number}"
        arguments = ("facade", "--store", store, "--port", str(port.number), *options)
        process = Program(self.folder, name, arguments)
        self._stack.push_async_callback(process.close)
        await process.start()
        self.addresses[f"127.0.0.1:{port.number}"] = f"{name}:4000"
        self.facades[name] = FacadeProcess(url, process)
        return self.facades[name]

    async def sidecar(
        self, id: str, store: str, *options: str, clock: Clock | None = None
    ) -> SidecarProcess:
        """Starts a server and its sidecar; it may not be registered yet."""
        server = await self._stack.enter_async_context(odd())
        port = ports.draw()
        self._stack.callback(port.release)
        arguments = (
            *("sidecar", "--store", store, "--url", server.url, "--id", id),
            *("--name", id.rpartition("-")[0], "--health-port", str(port.number)),
            *("--metadata", f"sidecar-port={port.number}", *options),
        )
        process = Program(self.folder, id, arguments, clock)
        self._stack.push_async_callback(process.close)
        await process.start()
        self.addresses[f"127.0.0.1:{port.number}"] = f"{id}:4001"
        url = f"http://127.0.0.1:{port.number}"
        self.sidecars[id] = SidecarProcess(id, url, process, server)
        return self.sidecars[id]

    async def listed(self, *ids: str, facade: str = "f1", status: str = "healthy") -> None:
        """Waits until ``facade`` lists all of them so."""
        url = self.facades[facade].url

        async def all_listed() -> bool:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{url}/servers?status=all") as got,
            ):
                answer = await got.json()
            found = {each["id"]: each["status"] for each in answer.get("servers", ())}
            return all(found.get(id) == status for id in ids)

        await until(all_listed, timeout=120, what=f"{ids} being {status} at {facade}")

    def client(self, method: str, url: str, every: float, body: Any = None) -> None:
        """Makes a request again and again, whatever the answer, until the world ends."""

        async def ask() -> None:
            async with aiohttp.ClientSession() as http:
                while True:
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        async with http.request(
                            method, url, json=body, timeout=aiohttp.ClientTimeout(30)
                        ) as response:
                            await response.read()
                    await asyncio.sleep(every)

        task = asyncio.create_task(ask())
        self._clients.add(task)
        self._stack.callback(task.cancel)

    async def watch(self, also: Mapping[str, str] | None = None) -> None:
        """Starts Prometheus with the shipped files over all facades, and the recording with it.

        ``also`` are sidecars that are written into ``sidecars/``: id → health URL.
        """
        folder = self.folder / "prometheus"
        (folder / "rules").mkdir(parents=True)
        (folder / "sidecars").mkdir()
        config = (PROMETHEUS / "prometheus.yml").read_text()
        targets = ", ".join(f'"{each.url[7:]}"' for each in self.facades.values())
        config = config.replace('["facade:4000"]', f"[{targets}]")
        config = config.replace("facade:4000", self.facades["f1"].url[7:])
        (folder / "prometheus.yml").write_text(config)
        for file in (PROMETHEUS / "rules").iterdir():
            (folder / "rules" / file.name).write_text(file.read_text())
        groups = [
            {
                "targets": [url[7:]],
                "labels": {
                    "__meta_mcp_metadata_sidecar_address": url[7:],
                    "__meta_mcp_name": id.rpartition("-")[0],
                    "__meta_mcp_id": id,
                },
            }
            for id, url in (also or {}).items()
        ]
        (folder / "sidecars" / "sidecars.yml").write_text(yaml.safe_dump(groups))
        for each in self.facades.values():
            await ready(each.url, 120)
        self.watching = await self._stack.enter_async_context(started(folder))
        watching, wanted = self.watching, len(self.facades) + len(self.sidecars)

        async def scraped() -> bool:
            return len(await watching.ask("up == 1")) == wanted

        await until(scraped, timeout=120, what=f"{wanted} targets being scraped")
        self.began = time.time()
        await self.rest(2 * SCRAPE)

    async def rest(self, seconds: float) -> None:
        """Lets time pass: it is what alerts wait for."""
        await asyncio.sleep(seconds)

    def check(self, *firing: str) -> None:
        """Now exactly these alerts fire, each as ``ListStale f1``."""
        at = int((time.time() - self.began) // SCRAPE * SCRAPE)
        self.checks.append(Check(at, frozenset(firing)))

    async def take_series(self) -> None:
        """Reads what the rules ask for, and what fired, from Prometheus."""
        assert self.watching is not None
        span = {"start": str(self.began), "end": str(time.time()), "step": str(SCRAPE)}
        for selector in sorted(selectors([rule["expr"] for rule in rules()])):
            asked: dict[str | None, str] = {None: selector}
            if "time_seconds" in selector and "certificate" not in selector:
                # promtool's samples are taken on the beat: what a clock was off by at the moment of
                # its own sample is kept, and it counts from the begin of the recording.
                asked = {name: f"{name} - timestamp({name}) + time()" for name in _CLOCKS}
            for name, query in asked.items():
                found = await self.watching.get("query_range", query=query, **span)
                for each in found["result"]:
                    self._take(each, name)
        firing = 'ALERTS{alertstate="firing"}'
        found = await self.watching.get("query_range", query=firing, **span)
        for each in found["result"]:
            labels = {key: self._stable(text) for key, text in each["metric"].items()}
            who = " ".join(labels.get(key, "") for key in ("instance", "name", "id")).strip()
            times = [round(float(at) - self.began) for at, _ in each["values"]]
            self.seen.append(f"{labels['alertname']} {who}: {times[0]} to {times[-1]} s")
        self.seen += [f"check at {each.at} s: {sorted(each.firing)}" for each in self.checks]

    def _take(self, found: dict[str, Any], name: str | None) -> None:
        labels = {key: self._stable(text) for key, text in found["metric"].items()}
        if name is not None:
            labels["__name__"] = name
        since = self.began if name is not None else 0.0
        count = int((time.time() - self.began) // SCRAPE)
        values: list[float | None] = [None] * count
        for at, value in found["values"]:
            place = round((float(at) - self.began) / SCRAPE)
            if place < count:
                values[place] = float(value) - since
        self.series[tuple(sorted(labels.items()))] = values

    def _stable(self, text: str) -> str:
        return self.addresses.get(text, text)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """An empty world; all of it ends with the block."""
    folder.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        yield World(folder, stack)


_CLOCKS = ("mcp_discovery_time_seconds", "mcp_discovery_sidecar_time_seconds")
_SELECTOR = re.compile(r"(?<![\w:])(?:mcp_discovery_\w+|up)?\{[^}]*\}|(?<![\w:])mcp_discovery_\w+")


def selectors(expressions: Iterable[str]) -> set[str]:
    """The series that ``expressions`` ask for, those that rules record left out."""
    return {each for text in expressions for each in _SELECTOR.findall(text)}
