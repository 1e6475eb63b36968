"""Which stores the contract is executed against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mcp_discovery.adapters.store import Store
from tests.contract.environments import (
    ConsulEnvironment,
    EmbeddedEnvironment,
    EtcdEnvironment,
    RemoteEnvironment,
    StoreEnvironment,
)
from tests.contract.served_facade import ServedFacade
from tests.contract.tiny_environment import TinyEnvironment
from tests.stores import binaries
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer

EVERY = ("embedded", "file", "remote", "consul", "etcd", "tiny")
#: The stores that foreign programs can write into.
WRITABLE = ("file", "consul", "etcd", "tiny")
#: The stores with a server, which can go away and lose its data.
SERVED = ("remote", "consul", "etcd")
#: The stores that are tried in several releases.
OF_RELEASES = ("consul", "etcd")


@pytest.fixture
def shared_server(kind: str, request: pytest.FixtureRequest) -> ConsulServer | EtcdServer | None:
    """The server that the tests of this process share, started only where it is needed."""
    if kind not in OF_RELEASES:
        return None
    server: ConsulServer | EtcdServer = request.getfixturevalue(f"{kind}_server")
    return server


@pytest.fixture
async def environment(
    kind: str, shared_server: ConsulServer | EtcdServer | None, namespace: str, tmp_path: Path
) -> AsyncIterator[StoreEnvironment]:
    """An empty store of the kind that the test is parametrised with."""
    async with AsyncExitStack() as stack:
        made: StoreEnvironment
        match kind, shared_server:
            case "embedded", None:
                made = EmbeddedEnvironment()
            case "file", None:
                made = EmbeddedEnvironment(tmp_path / "store.db")
            case "tiny", None:
                made = TinyEnvironment(tmp_path / "tiny.db")
            case "remote", None:
                made = RemoteEnvironment(await stack.enter_async_context(ServedFacade()))
            case _, ConsulServer() as consul:
                made = ConsulEnvironment(consul, namespace)
            case _, EtcdServer() as etcd:
                made = EtcdEnvironment(etcd, namespace)
            case other:
                raise ValueError(f"no environment for {other!r}")
        yield await stack.enter_async_context(made)


@pytest.fixture
async def own_environment(kind: str, namespace: str) -> AsyncIterator[StoreEnvironment]:
    """Like ``environment``, with a server of its own, which the test may stop and wipe."""
    async with AsyncExitStack() as stack:
        made: StoreEnvironment
        match kind:
            case "remote":
                made = RemoteEnvironment(await stack.enter_async_context(ServedFacade()))
            case "consul":
                made = ConsulEnvironment(await stack.enter_async_context(ConsulServer()), namespace)
            case "etcd":
                made = EtcdEnvironment(await stack.enter_async_context(EtcdServer()), namespace)
            case other:
                raise ValueError(f"no server for {other!r}")
        yield await stack.enter_async_context(made)


@pytest.fixture
async def store(environment: StoreEnvironment) -> Store:
    """A store object on ``environment``."""
    return await environment.open()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs every test over the stores that its ``over`` mark names, by default all of them."""
    if "kind" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("over")
        over = [
            pytest.param(kind, release, id=kind if release == "debian" else f"{kind}-{release}")
            for kind in (mark.args[0] if mark else EVERY)
            for release in (binaries.matrix() if kind in OF_RELEASES else binaries.RELEASES[:1])
        ]
        metafunc.parametrize(("kind", "release"), over, indirect=["release"], scope="session")
