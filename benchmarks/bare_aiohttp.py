"""``python -m benchmarks.bare_aiohttp FILE``: a bare aiohttp handler that answers with a file.

It runs in the event loop that the facade runs in: uvloop where it is installed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aiohttp import web

from mcp_discovery.facade.run import run_in_loop


async def _serve(body: bytes) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/servers", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    run_in_loop(_serve(Path(sys.argv[1]).read_bytes()))
