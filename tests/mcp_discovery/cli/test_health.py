"""``mcp-discovery health``: one command for the health checks of both roles."""

from __future__ import annotations

from pathlib import Path

import aiohttp
from aiohttp import web

from tests.programs import command, facade, running
from tests.servers.process import odd
from tests.stores import ports
from tests.stores.tls import Tls
from tests.stores.waiting import until


async def test_nobody_answers() -> None:
    one, other = ports.draw(), ports.draw()
    said = await command("health", "--port", str(one.number), "--health-port", str(other.number))
    assert said.code == 3
    assert f"nobody listens at 127.0.0.1:{one.number}" in said.err
    assert f"nobody listens at 127.0.0.1:{other.number}" in said.err


async def test_a_facade_is_well_and_ready(tmp_path: Path) -> None:
    nobody = ports.draw()
    async with facade(tmp_path, "embedded:") as asked:
        for more in ((), ("--ready",)):
            said = await command(
                *("health", *more),
                MCP_DISCOVERY_HOST="0.0.0.0",
                MCP_DISCOVERY_PORT=asked.url.rpartition(":")[2],
                MCP_DISCOVERY_HEALTH_PORT=str(nobody.number),
            )
            assert said.code == 0, said.err


async def test_a_sidecar_is_well_and_ready_when_its_server_is_listed(tmp_path: Path) -> None:
    port = ports.draw()
    told = ("--health-port", str(port.number))
    async with (
        facade(tmp_path, "embedded:") as asked,
        odd() as server,
        running(tmp_path, "sidecar", "--store", asked.url, "--url", server.url, *told),
    ):

        async def ready() -> bool:
            return (await command("health", "--ready", *told)).code == 0

        await until(ready, timeout=20, what="the sidecar being ready")
        assert (await command("health", *told)).code == 0


async def test_what_answers_is_not_well() -> None:
    async def unwell(_: web.Request) -> web.Response:
        return web.json_response({"status": "not live", "reason": "stuck"}, status=503)

    app = web.Application()
    app.router.add_get("/healthz", unwell)
    runner = web.AppRunner(app)
    await runner.setup()
    port = ports.draw()
    try:
        await web.TCPSite(runner, "127.0.0.1", port.number).start()
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{port.number}/healthz") as response,
        ):
            assert response.status == 503
        said = await command("health", "--health-port", str(port.number))
    finally:
        await runner.cleanup()
    assert said.code == 1
    assert "stuck" in said.err


async def test_a_facade_with_tls_is_well(tmp_path: Path) -> None:
    mine, port = Tls(tmp_path), ports.draw().number
    given = ("--port", str(port), "--tls-cert", str(mine.server.cert_file))
    async with running(tmp_path, "facade", *given, "--tls-key", str(mine.server.key_file)):

        async def well() -> bool:
            return (await command("health", *given)).code == 0

        await until(well, timeout=20, what="the facade being well")
        url = f"https://localhost:{port}"
        said = await command("servers", "--facade", url, SSL_CERT_FILE=str(mine.ca_file))
        assert said.code == 0, said.err
        async with (
            odd() as server,
            running(
                *(tmp_path, "sidecar", "--store", url, "--url", server.url),
                *("--store-ca", str(mine.ca_file), "--name", "over-tls"),
            ),
        ):

            async def listed() -> bool:
                said = await command(
                    *("servers", "--facade", url, "--json"), SSL_CERT_FILE=str(mine.ca_file)
                )
                return "over-tls" in said.out

            await until(listed, timeout=20, what="the server being listed")
