"""A bare aiohttp server that answers as a bridge does, always the same; run as a script, so that it
imports nothing of ours. Says its URL on stderr."""

import asyncio
import json
import sys

from aiohttp import web

_ANSWER = {"protocolVersion": "2025-06-18", "content": [{"type": "text", "text": "Echo: hello"}]}


async def _answer(request: web.Request) -> web.Response:
    id = (await request.json()).get("id") if request.can_read_body else None
    return web.Response(
        body=json.dumps({"jsonrpc": "2.0", "id": id, "result": _ANSWER}).encode(),
        content_type="application/json",
    )


async def _serve() -> None:
    app = web.Application()
    app.router.add_route("*", "/mcp", _answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stderr.write(f"http://127.0.0.1:{runner.addresses[0][1]}/mcp\n")
    sys.stderr.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
