"""The compose file's services run: listed, healthy, outliving a crash, drained in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.compose import service_processes
from tests.deploy.compose.project import STORES, in_order, of_store
from tests.deploy.image.building import Image
from tests.stores.waiting import until

pytestmark = pytest.mark.xdist_group("image")
_ALL = {"analytics": "healthy", "product-catalog": "healthy"}


@pytest.mark.parametrize("store", list(STORES))
async def test_every_service_does_its_part(store: str, image: Image, tmp_path: Path) -> None:
    services = of_store(store, DRAIN="1s")["services"]
    images = {services["facade"]["image"]: image}
    if store in ("consul", "etcd"):
        root = tmp_path / "root"
        images[services[store]["image"]] = service_processes.store_image(store, root)  # type: ignore[arg-type]
    async with service_processes.running(services, images, tmp_path) as (here, undo):

        async def all_listed() -> bool:
            return await here.servers() == _ALL

        await until(all_listed, timeout=40, what="both servers being listed")
        for name in services:
            await here.healthy(name)

        here.kill("analytics")

        async def down() -> bool:
            return (await here.servers())["analytics"] == "down"

        await until(down, timeout=20, what="the crash being seen")
        await here.start_again("analytics", undo)
        await until(all_listed, timeout=20, what="the server being listed again")

        # As `docker compose down` does: what depends on others first.
        for name in reversed(in_order(services)):
            code = await here.stop(name)
            # Ours end with 0; a Consul server that leaves its data as it is says 1.
            assert code == 0 or name in STORES, here.log(name)
            if name == "analytics-sidecar":
                assert "analytics" not in await here.servers()
                assert (await here.check("analytics")).code == 0
