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

import pytest
import pytest_asyncio

from tests.selection import starts_store
from tests.stores import binaries
from tests.stores.binaries import Release
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer


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
async def consul_server(release: Release) -> AsyncIterator[ConsulServer]:
    """A Consul server without ACLs and TLS, shared by this process: write under `namespace`."""
    async with ConsulServer(program=binaries.find("consul", release)) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def etcd_server(release: Release) -> AsyncIterator[EtcdServer]:
    """An etcd server without users and TLS, shared by this process: write under `namespace`."""
    async with EtcdServer(program=binaries.find("etcd", release)) as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """A DNS label that nothing else in a shared store is named after."""
    return f"t-{uuid.uuid4().hex[:12]}"
