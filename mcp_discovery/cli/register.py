"""``mcp-discovery register FILE``: servers that have no sidecar, from a file."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mcp_discovery.cli import options
from mcp_discovery.errors import DiscoveryError, InvalidInput


def register(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="JSON: one server, or a list of them; - for stdin."),
    ],
    facade: options.Facade = options.FACADE,
    json: options.Json = False,
) -> None:
    """Register servers that have no sidecar; the facade probes them itself.

    FILE holds what POST /servers takes: an object with name and url at least, a list of such
    objects, or {"servers": [...]}. Registering again what is there already replaces it. Every
    server is tried; the exit code is not 0 when one was refused.

    Example: {"name": "product-catalog", "url": "http://10.0.0.5:8000/mcp", "tags": ["products"]}
    """
    servers = _read(file)
    failed = asyncio.run(_post(facade, servers, json=json))
    if failed is not None:
        from mcp_discovery.cli.exits import code_of

        raise typer.Exit(code_of(failed))


def _read(file: str) -> list[Any]:
    import orjson

    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}; give a file of JSON") from error
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{file} is not JSON: {error}") from error
    if isinstance(content, dict):
        content = content.get("servers", [content])
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise InvalidInput(f"{file} is neither a server's object nor a list of them")
    if not content:
        raise InvalidInput(f"{file} names no server; give at least one object with name and url")
    return content


async def _post(facade: str, servers: list[Any], *, json: bool) -> DiscoveryError | None:
    """Posts every server and says what came of it; returns the first refusal."""
    import orjson

    from mcp_discovery.cli.asking import asking
    from mcp_discovery.errors import StoreError

    failed: DiscoveryError | None = None
    async with asking(facade) as api:
        for number, server in enumerate(servers, start=1):
            name = server.get("id") or server.get("name") or f"number {number}"
            try:
                answer = (await api.call("POST", "/servers", server)).json()
            except StoreError:
                raise
            except DiscoveryError as error:
                failed = failed or error
                said = {"server": name, "error": str(error)}
                text = f"{name}: refused: {error}"
            else:
                said = {"server": name, "id": answer["id"]}
                text = f"{answer['id']}: registered"
            typer.echo(orjson.dumps(said).decode() if json else text, err="error" in said)
    return failed
