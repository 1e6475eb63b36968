"""A real Prometheus scrapes a real facade and sidecar: alerts fire, every panel has data."""

from __future__ import annotations

import json
from pathlib import Path

from tests.deploy.monitoring.files import expressions
from tests.deploy.monitoring.prometheus import prometheus
from tests.programs import command, facade, running
from tests.servers.process import odd
from tests.stores import ports
from tests.stores.waiting import until


async def test_a_killed_server_is_alerted_on_and_every_panel_shows_something(
    tmp_path: Path,
) -> None:
    port, other = ports.draw(), ports.draw()
    (tmp_path / "logs").mkdir()
    async with facade(tmp_path / "logs", "embedded:") as asked, odd() as server, odd() as posted:
        listed = tmp_path / "servers.json"
        listed.write_text(json.dumps({"id": "posted-1", "name": "posted", "url": posted.url}))
        ended = await command("register", str(listed), "--facade", asked.url)
        assert ended.code == 0, ended.err
        sidecar = running(
            tmp_path / "logs",
            *("sidecar", "--store", asked.url, "--url", server.url, "--ttl", "3"),
            *("--name", "shop", "--id", "shop-1", "--health-port", str(port.number)),
            *("--metadata", f"sidecar-port={port.number}"),
        )
        elsewhere = running(
            tmp_path / "logs",
            *("sidecar", "--store", asked.url, "--url", posted.url, "--name", "till"),
            *("--health-port", str(other.number)),
            *("--metadata", f"sidecar-address=127.0.0.1:{other.number}"),
        )
        async with (
            sidecar,
            elsewhere,
            prometheus(tmp_path / "prometheus", asked.url[7:]) as watching,
        ):
            await asked.until_status("shop-1", "healthy", 15)

            async def scraped() -> bool:
                up = [each["metric"] for each in await watching.ask("up == 1")]
                assert all(
                    each["instance"] == "shop-1" for each in up if each.get("server") == "shop"
                )
                told = {(each["job"], each.get("server")) for each in up}
                sidecars = {("mcp-discovery-sidecar", name) for name in ("shop", "till")}
                return told == {("mcp-discovery-facade", None), *sidecars}

            await until(scraped, timeout=20, what="all three being scraped")
            fine = await watching.ask("mcp_discovery_sidecar_server_status == 1")
            assert [each["metric"]["status"] for each in fine] == ["healthy", "healthy"]

            async def quiet() -> bool:
                return await watching.firing() == {}

            await until(quiet, timeout=10, what="no alert: nothing is wrong")

            await server.kill()
            (told,) = await watching.until_firing("McpDiscoveryInstanceDown", 25)
            assert (told["name"], told["id"], told["severity"]) == ("shop", "shop-1", "warning")
            (told,) = await watching.until_firing("McpDiscoveryServerUnavailable", 10)
            assert told["name"] == "shop"

            for title, expression in expressions():

                async def shown(expression: str = expression) -> bool:
                    return bool(await watching.ask(expression))

                await until(shown, timeout=10, what=f"the panel {title!r} showing {expression}")

            await asked.process.stop()
            await watching.until_firing("McpDiscoveryFacadeDown", 15)
    port.release()
    other.release()
