"""``mcp-discovery register FILE``: servers that have no sidecar, from a file."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mcp_discovery.cli import options
from mcp_discovery.cli.running import run


def register(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="JSON: one server, or a list of them; - for stdin."),
    ],
    facade: options.Facade = options.FACADE,
    json: options.Json = False,
    facade_token: options.FacadeToken = None,
) -> None:
    """Register servers that have no sidecar; the facade probes them itself.

    FILE holds what POST /servers takes: an object with name and url at least, a list of such
    objects, {"servers": [...]}, or a host's {"mcpServers": {...}}. Registering again what is there
    already replaces it. Every server is tried; the exit code is not 0 when one was refused.

    Example: {"name": "product-catalog", "url": "http://10.0.0.5:8000/mcp", "tags": ["products"]}
    """
    from mcp_discovery.cli.reading import read, servers_of

    run(_post(facade, facade_token, servers_of(read(file), file), json=json))


async def _post(facade: str, token: str | None, servers: list[Any], *, json: bool) -> int:
    """Posts every server and says what came of it; returns the code of the first refusal."""
    from mcp_discovery.cli.asking import asking
    from mcp_discovery.cli.exits import DONE, code_of
    from mcp_discovery.cli.terminal import line, say, say_json
    from mcp_discovery.errors import DiscoveryError, StoreError

    code = DONE
    async with asking(facade, token) as api:
        for number, server in enumerate(servers, start=1):
            name = server.get("id") or server.get("name") or f"number {number}"
            try:
                answer = (await api.call("POST", "/servers", server)).json()
            except StoreError:
                raise
            except DiscoveryError as error:
                code = code or code_of(error)
                said = {"server": name, "error": str(error)}
                text = f"{name}: refused: {error}"
            else:
                said = {"server": name, "id": answer["id"]}
                text = f"{answer['id']}: registered"
            if json:
                say_json(said)
            else:
                say(line(text), err="error" in said)
    return code
