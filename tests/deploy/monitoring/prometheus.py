"""A real Prometheus that reads `deploy/prometheus/`, only faster and at other addresses."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.deploy.monitoring.files import PROMETHEUS
from tests.deploy.tools import program
from tests.stores import ports
from tests.stores.process import LocalProcess
from tests.stores.waiting import until


class Prometheus:
    """Questions to a running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def get(self, path: str, **query: str) -> Any:
        """The ``data`` of an answer of its API; raises AssertionError when it is an error."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.url}/api/v1/{path}", params=query) as response,
        ):
            answer = await response.json()
            assert answer["status"] == "success", answer
            return answer["data"]

    async def ask(self, expression: str) -> list[dict[str, Any]]:
        """What ``expression`` gives now."""
        found: list[dict[str, Any]] = (await self.get("query", query=expression))["result"]
        return found

    async def firing(self) -> dict[str, list[dict[str, str]]]:
        """The alerts that fire: name → labels of each."""
        found: dict[str, list[dict[str, str]]] = {}
        for alert in (await self.get("alerts"))["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found

    async def until_firing(self, name: str, timeout: float) -> list[dict[str, str]]:
        """Waits for the alert and returns the labels of each that fires."""

        async def fires() -> list[dict[str, str]]:
            return (await self.firing()).get(name, [])

        return await until(fires, timeout=timeout, what=f"{name} firing")


@asynccontextmanager
async def prometheus(folder: Path, facade: str) -> AsyncIterator[Prometheus]:
    """Prometheus with the shipped files, the facade's ``host:port`` put in.

    It looks every second and alerts a second after a condition holds.
    """
    (folder / "rules").mkdir(parents=True)
    (folder / "sidecars").mkdir()
    config = (PROMETHEUS / "prometheus.yml").read_text().replace("facade:4000", facade)
    config = re.sub(r"(_interval:) \d+s", r"\1 1s", config)
    (folder / "prometheus.yml").write_text(config)
    for file in (PROMETHEUS / "rules").iterdir():
        told = re.sub(r"for: \d+m", "for: 1s", file.read_text())
        (folder / "rules" / file.name).write_text(told)
    async with started(folder) as watching:
        yield watching


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Prometheus]:
    """Prometheus with the ``prometheus.yml`` in ``folder``."""
    port = ports.draw()
    url = f"http://127.0.0.1:{port.number}"
    process = LocalProcess(program("prometheus"), folder / "prometheus.log")
    try:
        await process.start(
            [
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port.number}",
            ]
        )

        async def ready() -> bool:
            assert process.running, await process.log_tail(20)
            async with aiohttp.ClientSession() as http, http.get(f"{url}/-/ready") as response:
                return response.status == 200

        await until(ready, timeout=20, what="Prometheus being ready")
        yield Prometheus(url)
    finally:
        await process.close()
        port.release()
