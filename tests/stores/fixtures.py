"""Fixtures: stores shared by a whole test process.

For `pytest_plugins = ["tests.stores.fixtures"]` in the root conftest.

A start costs one to two seconds, so tests that break nothing share one server per process (per
worker under pytest-xdist). They stay apart by name, `namespace` being a fresh one for each test:

    f"{etcd_server.store_url}/{namespace}"       # every key under that prefix
    f"{consul_server.store_url}/{namespace}"     # KV prefix and Consul service of that name

A test that kills, pauses, wipes or floods a store starts its own with `async with`. The servers
belong to no event loop, so tests with loops of their own may use them.

Shared or its own, a store is of the release that `release` put in force: `debian`, unless the test
is parametrised with another. `over_releases` does that for a folder.
"""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from tests.selection import starts_store
from tests.stores import binaries
from tests.stores.binaries import Release
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer

Server = TypeVar("Server", ConsulServer, EtcdServer)


class Shared:
    """The servers of a process, one of each release that tests ask for.

    They do not end when the release in force changes, which it does many times in a run.
    """

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._servers: dict[tuple[type, Release], Any] = {}

    async def server(self, kind: type[Server], release: Release) -> Server:
        """The server of that kind and release."""
        if (kind, release) not in self._servers:
            made = kind(program=binaries.find(kind.store, release))
            self._servers[kind, release] = await self._stack.enter_async_context(made)
        found: Server = self._servers[kind, release]
        return found


def over_releases(metafunc: pytest.Metafunc) -> None:
    """Runs a test over every release of the matrix, should it start a store and name no release.

    For `pytest_generate_tests` in the conftest of a folder.
    """
    marks = metafunc.definition.iter_markers("parametrize")
    named = any(mark.args[0] == "release" for mark in marks)
    if starts_store(metafunc.definition) and not named:
        metafunc.parametrize("release", binaries.matrix(), indirect=True, scope="session")


def pytest_configure() -> None:
    """Refuses a `STORES_MATRIX` that means nothing."""
    try:
        binaries.matrix()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Says in a run's last line which stores it left out."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and (sentence := binaries.left_out()):
        reporter.write_line(sentence, yellow=True)


@pytest.fixture(scope="session", autouse=True)
def release(request: pytest.FixtureRequest) -> Iterator[Release]:
    """The release of the stores that tests run over meanwhile: what a test is parametrised with.

    A fixture that starts a store for more than one test asks for this one.
    """
    binaries.in_force = getattr(request, "param", "debian")
    yield binaries.in_force
    binaries.in_force = "debian"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared() -> AsyncIterator[Shared]:
    """Starts the servers that this process shares when they are first asked for, and keeps them."""
    async with AsyncExitStack() as stack:
        yield Shared(stack)


@pytest_asyncio.fixture(loop_scope="session")
async def consul_server(shared: Shared, release: Release) -> ConsulServer:
    """A Consul server without ACLs and TLS, shared by this process: write under `namespace`."""
    return await shared.server(ConsulServer, release)


@pytest_asyncio.fixture(loop_scope="session")
async def etcd_server(shared: Shared, release: Release) -> EtcdServer:
    """An etcd server without users and TLS, shared by this process: write under `namespace`."""
    return await shared.server(EtcdServer, release)


@pytest.fixture
def namespace() -> str:
    """A DNS label that nothing else in a shared store is named after."""
    return f"t-{uuid.uuid4().hex[:12]}"
