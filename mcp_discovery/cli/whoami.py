"""``mcp-discovery whoami``: who a facade takes this user for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from mcp_discovery.cli import options
from mcp_discovery.cli.exit_codes import DENIED, DONE, run
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import UnauthenticatedError


def whoami(
    facade: str = options.FACADE,
    json: bool = typer.Option(
        False, "--json", envvar="MCP_DISCOVERY_JSON", help="As the facade says it."
    ),
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Say who a facade takes you for, and what you have a right to there.

    The exit code is 4 when it does not know who asks and gives strangers no rights.
    """

    async def work() -> int:
        from mcp_discovery.cli.facade_connection import facade_api, get

        async with facade_api(facade, facade_token, facade_token_file) as api:
            found = await get(api, "/whoami")
        if json:
            say_json(found)
        elif found["by"] == "anonymous" and not found["verbs"]:
            raise UnauthenticatedError(facade, "it does not know who asks")
        else:
            who = found["subject"] or "anonymous"
            roles = ", ".join(found["roles"]) or "none"
            say(line(f"{who} (roles: {roles}) may {_verbs(found) or 'do nothing'}"))
            if "expiresAt" in found:
                say(line(f"until {found['expiresAt']}"))
        return DONE if found["verbs"] else DENIED

    run(work())


def _verbs(identity: Mapping[str, Any]) -> str:
    partial = identity.get("partial", ())  # an older facade does not tell
    whole = [each for each in identity["verbs"] if each not in partial]
    some = f"{', '.join(partial)} for some names or tools only" if partial else ""
    return "; ".join(filter(None, (", ".join(whole), some)))
