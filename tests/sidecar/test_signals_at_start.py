"""A signal at any stage of a sidecar's start is not lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Snapshot
from mcp_discovery.child import Child
from mcp_discovery.registrant.introspector import Introspector
from mcp_discovery.registrant.registrar import Registrar
from mcp_discovery.registrant.watcher import Watcher
from mcp_discovery.sidecar import advertise, healthz
from mcp_discovery.sidecar.run import run
from mcp_discovery.sidecar.settings import SidecarSettings
from tests.servers.process import McpServer
from tests.sidecar.harness import QUICK

STARTING = [(advertise, "choose"), (advertise, "as_known_to"), (Watcher, "run")]
STAGES = [
    *STARTING,
    (healthz, "answering"),
    (Registrar, "run"),
    (Introspector, "follow"),
    (Registrar, "describe"),
    (EmbeddedStore, "register"),
    (Registrar, "found"),
]
SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")


def named(stage: Any) -> str | None:
    """What pytest calls a stage; its own choice for anything else."""
    return f"{stage[0].__name__}.{stage[1]}" if isinstance(stage, tuple) else None


@pytest.fixture
def lost() -> Iterator[list[int]]:
    """The signals that came while the sidecar did not listen; they do not end the tests."""
    numbers: list[int] = []
    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {each: signal.getsignal(each) for each in handled}
    for each in handled:
        signal.signal(each, lambda number, _: numbers.append(number))
    yield numbers
    for each, handler in before.items():
        signal.signal(each, handler)


def signalled_at(
    monkeypatch: pytest.MonkeyPatch, stage: tuple[Any, str], number: signal.Signals
) -> list[str]:
    """Sends this process a signal when ``stage`` is reached first; what it returns tells so."""
    owner, name = stage
    original = getattr(owner, name)
    reached: list[str] = []

    def reaching(*given: Any, **more: Any) -> Any:
        if not reached:
            reached.append(name)
            assert signal.getsignal(number) is not signal.SIG_DFL, "it would end the tests"
            os.kill(os.getpid(), number)
        return original(*given, **more)

    monkeypatch.setattr(owner, name, reaching)
    return reached


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", STAGES, ids=named)
async def test_it_stops_whenever_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
    server: McpServer,
    store: EmbeddedStore,
    lost: list[int],
    stage: tuple[Any, str],
    number: signal.Signals,
) -> None:
    reached = signalled_at(monkeypatch, stage, number)
    async with asyncio.timeout(30):
        assert await run(SidecarSettings(url=server.url, **(QUICK | {"drain": 0.1})), store) == 0
    assert (reached, lost) == ([stage[1]], [])
    async with aclosing(store.watch()) as items:
        first = await anext(items)
    assert isinstance(first, Snapshot)
    assert not first.instances


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGUSR1, 128 + signal.SIGUSR1)]
)
@pytest.mark.parametrize("stage", [*STARTING, (Child, "start")], ids=named)
async def test_its_child_ends_and_gets_what_is_meant_for_it(
    monkeypatch: pytest.MonkeyPatch,
    store: EmbeddedStore,
    lost: list[int],
    stage: tuple[Any, str],
    number: signal.Signals,
    code: int,
) -> None:
    reached = signalled_at(monkeypatch, stage, number)
    settings = SidecarSettings(
        url="http://127.0.0.1:9/mcp", command=SLEEPER, **(QUICK | {"drain": 0.1})
    )
    async with asyncio.timeout(30):
        assert await run(settings, store) == code
    assert (reached, lost) == ([stage[1]], [])
