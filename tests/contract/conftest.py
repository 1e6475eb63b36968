"""Which stores the contract is executed against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from adapters.store import Store
from tests.contract.beds import Bed, ConsulBed, EmbeddedBed, EtcdBed, RemoteBed
from tests.contract.serving import ServedFacade
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer

EVERY = ("embedded", "file", "remote", "consul", "etcd")
#: The stores that foreign programs can write into.
WRITABLE = ("file", "consul", "etcd")
#: The stores with a server, which can go away and lose its data.
SERVED = ("remote", "consul", "etcd")


@pytest.fixture
async def bed(request: pytest.FixtureRequest, namespace: str, tmp_path: Path) -> AsyncIterator[Bed]:
    """An empty store of the kind that the test is parametrised with."""
    async with AsyncExitStack() as stack:
        made: Bed
        match getattr(request, "param", None):
            case "embedded":
                made = EmbeddedBed()
            case "file":
                made = EmbeddedBed(tmp_path / "store.db")
            case "remote":
                made = RemoteBed(await stack.enter_async_context(ServedFacade()))
            case "consul":
                made = ConsulBed(request.getfixturevalue("consul_server"), namespace)
            case "etcd":
                made = EtcdBed(request.getfixturevalue("etcd_server"), namespace)
            case other:
                raise ValueError(f"no bed called {other!r}")
        yield await stack.enter_async_context(made)


@pytest.fixture
async def own_bed(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Bed]:
    """Like ``bed``, with a server of its own, which the test may stop and wipe."""
    async with AsyncExitStack() as stack:
        made: Bed
        match request.param:
            case "remote":
                made = RemoteBed(await stack.enter_async_context(ServedFacade()))
            case "consul":
                made = ConsulBed(await stack.enter_async_context(ConsulServer()), namespace)
            case "etcd":
                made = EtcdBed(await stack.enter_async_context(EtcdServer()), namespace)
            case other:
                raise ValueError(f"no bed called {other!r}")
        yield await stack.enter_async_context(made)


@pytest.fixture
async def store(bed: Bed) -> Store:
    """A store object on ``bed``."""
    return await bed.open()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs every test over the stores that its ``over`` mark names, by default all of them."""
    mark = metafunc.definition.get_closest_marker("over")
    stores = mark.args[0] if mark else EVERY
    for name in ("bed", "own_bed"):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, stores, indirect=True)
