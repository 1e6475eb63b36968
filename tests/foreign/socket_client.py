"""The TypeScript SDK's client over a WebSocket, for any test."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson

from tests.foreign.programs import NODE, NPM


async def by_typescript(url: str, tool: str, **arguments: Any) -> dict[str, Any]:
    """What the TypeScript SDK's client tells; see ``socket_client.cjs``."""
    script = Path(__file__).parent / "socket_client.cjs"
    client = await asyncio.create_subprocess_exec(
        *("/usr/bin/env", f"NODE_PATH={NPM}", NODE, script, url, tool),
        orjson.dumps(arguments).decode(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await client.communicate()
    assert client.returncode == 0, errors.decode()
    found: dict[str, Any] = orjson.loads(said)
    return found
