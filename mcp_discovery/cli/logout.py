"""``mcp-discovery logout``: ends what ``login`` has begun."""

from __future__ import annotations

import typer

from mcp_discovery.cli import options
from mcp_discovery.cli.exit_codes import DONE, run
from mcp_discovery.cli.terminal import line, say
from mcp_discovery.errors import InvalidInputError, TokenError


def logout(
    facade: str = options.FACADE,
    everywhere: bool = typer.Option(False, "--all", help="At every facade."),
) -> None:
    """Forget the tokens of a login, and have them count no more where the issuer offers that.

    A login that is damaged, or that others can read, is removed as well.
    """
    options.check_url(facade)
    run(_logout(None if everywhere else facade))


async def _logout(facade: str | None) -> int:
    from mcp_discovery.cli import stored_logins

    paths = sorted(stored_logins.folder().glob("*.json"))
    if facade is not None:
        paths = [each for each in paths if each == stored_logins.path_of(facade)]
    for path in paths:
        try:
            login = stored_logins.read(path)
        except InvalidInputError as error:
            say(f"mcp-discovery: {line(error)}", err=True)
            login = None
        stored_logins.remove(path)
        if login is None:
            continue
        try:
            client = await login.client()
            await client.revoke(login.refresh_token or login.access_token)
        except (TokenError, InvalidInputError) as error:
            say(line(f"mcp-discovery: its tokens are not revoked: {error}"), err=True)
        say(line(f"Logged out of {login.facade}."))
    if not paths:
        say("There is no login." if facade is None else line(f"There is no login at {facade}."))
    return DONE
