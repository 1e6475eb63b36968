"""Stores in containers behave like stores on this machine. Needs a Docker daemon: `-m docker`."""

from pathlib import Path

import pytest

from tests.stores import ConsulCluster, ConsulServer, EtcdCluster, EtcdServer, Tls
from tests.stores.binaries import image
from tests.stores.container import daemon_answers

pytestmark = pytest.mark.docker


@pytest.fixture(autouse=True)
def daemon() -> None:
    """Whoever asks for these tests has a daemon: without one they fail, they are not skipped."""
    assert daemon_answers(), "no Docker daemon answers: start one, or set DOCKER_HOST"


@pytest.mark.parametrize("kind", [ConsulServer, EtcdServer])
async def test_a_container_is_broken_and_mended_like_a_process(
    kind: type[ConsulServer] | type[EtcdServer], tmp_path: Path
) -> None:
    async with kind(tls=Tls(tmp_path), program=image(kind.store)) as server:
        await server.put("key", "value")
        await server.pause()
        assert server.running
        with pytest.raises(TimeoutError):
            await server.get("key")
        await server.resume()
        assert await server.get("key") == "value"
        await server.kill()
        assert not server.running
        await server.start()
        assert await server.get("key") == "value"
        await server.stop()
        await server.start()
        assert await server.get("key") == "value"
        await server.restart(wipe=True)
        assert await server.get("key") is None
        await server.pause()  # Closing a paused container must not hang.
        folder = server.folder
    assert not folder.exists()


@pytest.mark.parametrize("kind", [ConsulCluster, EtcdCluster])
async def test_a_cluster_of_containers_survives_its_leader(
    kind: type[ConsulCluster] | type[EtcdCluster],
) -> None:
    store = ConsulServer.store if kind is ConsulCluster else EtcdServer.store
    async with kind(3, program=image(store)) as cluster:
        leader = await cluster.leader()
        await leader.put("before", "1")
        await leader.kill()
        successor = await cluster.leader()
        assert await successor.get("before") == "1"
        await leader.start()
        assert await leader.get("before") == "1"
