"""``mcp-discovery login``: a token for a facade, from the authorization server that it trusts."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import typer

from mcp_discovery.cli import options
from mcp_discovery.cli.exit_codes import DENIED, DONE, TIMED_OUT, run
from mcp_discovery.cli.terminal import line, say
from mcp_discovery.errors import InvalidInputError, StoreUnavailableError, TokenError

if TYPE_CHECKING:
    from mcp_discovery.oauth.client import DeviceAuthorization, OAuthClient, OAuthGrant
    from mcp_discovery.oauth.http import OAuthAnswer
    from mcp_discovery.oauth.metadata import AuthorizationServer, ResourceMetadata

#: The client that an operator registers at the issuer for this command: a public one.
CLIENT_ID = "mcp-discovery"
#: What a refresh token is asked for with (OpenID Connect Core, 11).
_OFFLINE = "offline_access"
#: Seconds by which the pause between two polls grows when the server asks for it (RFC 8628, 3.5),
#: and the longest one where the server cannot be reached.
_SLOWER, _LONGEST = 5.0, 60.0


def login(
    facade: str = options.FACADE,
    client_id: str = typer.Option(
        CLIENT_ID,
        metavar="ID",
        envvar="MCP_DISCOVERY_CLIENT_ID",
        help="The client that the issuer knows this command by: a public one that may use device "
        "codes.",
    ),
    client_secret_file: str | None = typer.Option(
        None,
        metavar="FILE",
        envvar="MCP_DISCOVERY_CLIENT_SECRET_FILE",
        help="A file with that client's secret: logs in as the client itself, without a person "
        "(client credentials). It is read again when the token is renewed.",
    ),
    issuer: str | None = typer.Option(
        None,
        metavar="URL",
        help="The authorization server to log in at. Default: the first that the facade names.",
    ),
    scope: str | None = typer.Option(
        None, metavar="SCOPES", help="What to ask for. Default: the scopes that the facade names."
    ),
    resource: str | None = typer.Option(
        None,
        metavar="URI",
        help="Whom the token is for. Default: what the facade calls itself; none sends none, for "
        "issuers that take scopes alone.",
    ),
) -> None:
    """Log in to a facade that wants credentials, with a code for a browser on any device.

    Prints an address and a code, and waits until somebody has entered it. The tokens are kept for
    this user alone (~/.config/mcp-discovery/logins), renewed, and used by every command that asks
    this facade, unless a token is given. The end: mcp-discovery logout.

    Try: mcp-discovery login --facade https://discovery.example
    """
    options.check_url(facade)
    file = None if client_secret_file is None else os.path.abspath(client_secret_file)
    run(_login(facade, client_id, file, issuer, scope, resource))


async def _login(
    facade: str,
    client_id: str,
    secret_file: str | None,
    issuer: str | None,
    scope: str | None,
    resource: str | None,
) -> int:
    from mcp_discovery.cli import stored_logins
    from mcp_discovery.cli.stored_logins import StoredLogin
    from mcp_discovery.oauth.client_credentials import require_issuer
    from mcp_discovery.oauth.http import is_protected
    from mcp_discovery.oauth.metadata import authorization_server

    if not is_protected(facade):
        say(line(f"mcp-discovery: the tokens go to {facade} unencrypted"), err=True)
    asked = await _metadata(facade)
    issuer = issuer or _named_issuer(facade, asked)
    require_issuer(issuer)
    if resource is None:
        resource = _named_resource(facade, asked)
    try:
        server = await authorization_server(issuer)
        if scope is None:
            scope = _scope(server, asked, for_a_person=secret_file is None)
        given = {"scope": scope, "resource": "" if resource == "none" else resource}
        wanted = {name: text for name, text in given.items() if text}
        empty = StoredLogin(facade, issuer, client_id, "", None, None, secret_file, wanted)
        client = await empty.client()
        if secret_file is None:
            grant = await _by_device(client, wanted)
            if isinstance(grant, int):
                return grant
        else:
            grant = await client.client_credentials(wanted)
    except TokenError as error:
        if not error.denied:
            raise StoreUnavailableError(facade, error.problem) from error
        say(f"mcp-discovery: {line(error)}", err=True)
        return DENIED
    stored_logins.save(empty.with_grant(grant))
    say(line(f"Logged in to {facade}{_until(grant)}."))
    return DONE


async def _by_device(client: OAuthClient, wanted: dict[str, str]) -> OAuthGrant | int:
    """What a person granted; an exit code where nobody has."""
    begun = await client.device_authorization(wanted)
    _show(begun)
    deadline = time.monotonic() + begun.expires_in
    interval = begun.interval
    while time.monotonic() + interval < deadline:
        await asyncio.sleep(interval)
        try:
            found = await client.device_grant(begun.device_code)
        except TokenError as error:
            if error.denied:
                raise
            interval = min(2 * interval, _LONGEST)  # RFC 8628, 3.5: it was not reached
            continue
        if not isinstance(found, str):
            return found
        if found == "expired_token":
            break
        if found == "slow_down":
            interval += _SLOWER
    say("mcp-discovery: nobody has entered the code in time; run login again", err=True)
    return TIMED_OUT


def _show(begun: DeviceAuthorization) -> None:
    """Says what to do; on standard error, as all that is not the result."""
    say(line(f"Open {begun.verification_uri} in a browser and enter the code:"), err=True)
    say(f"\n    {line(begun.user_code)}\n", err=True)
    if begun.complete_uri is not None:
        say(line(f"or open {begun.complete_uri} and compare the code."), err=True)
    say(f"Waiting, for {begun.expires_in / 60:.0f} minutes at most …", err=True)


async def _metadata(facade: str) -> ResourceMetadata | None:
    """What the facade says of its tokens, where it says anything."""
    from mcp_discovery.adapters.http import HttpClient, remedies_for
    from mcp_discovery.adapters.store import StoreOptions
    from mcp_discovery.oauth.http import OAuthAnswer
    from mcp_discovery.oauth.metadata import resource_metadata_urls, resource_of

    http = HttpClient(facade, StoreOptions(), remedies=remedies_for(facade, facade=True))
    try:
        for url in resource_metadata_urls(facade):
            answer = await http.request("GET", url)
            try:
                content: Any = answer.json()
            except ValueError:
                content = None
            known: OAuthAnswer = OAuthAnswer(
                answer.status, content if isinstance(content, dict) else {}
            )
            if (found := resource_of(known)) is not None:
                return found
    finally:
        await http.close()
    return None


def _named_issuer(facade: str, asked: ResourceMetadata | None) -> str:
    from mcp_discovery.oauth.http import is_protected

    if asked is None:
        raise InvalidInputError(
            f"{facade} asks for no credentials that can be logged in for; name its authorization "
            "server with --issuer if it has one"
        )
    if not asked.issuers:
        raise InvalidInputError(
            f"{facade} takes tokens of its own alone; ask its operator for one (mcp-discovery "
            "token create), and give it by MCP_DISCOVERY_FACADE_TOKEN or --facade-token-file"
        )
    issuer = asked.issuers[0]
    if not is_protected(issuer):
        raise InvalidInputError(
            f"the authorization server that {facade} names is not encrypted: {issuer[:300]}; give "
            "--issuer with that address if you trust the network"
        )
    return issuer


def _named_resource(facade: str, asked: ResourceMetadata | None) -> str:
    """Whom the token is for. RFC 9728, 3.3: nobody may have tokens made for another's name."""
    from mcp_discovery.urls import origin_of

    if asked is None:
        return facade
    try:
        same = origin_of(asked.resource) == origin_of(facade)
    except ValueError:
        same = False
    if not same:
        raise InvalidInputError(
            f"{facade} calls itself {asked.resource[:300]}; log in there, or give --resource with "
            "that address if you trust it"
        )
    return asked.resource


def _scope(
    server: AuthorizationServer, asked: ResourceMetadata | None, *, for_a_person: bool
) -> str | None:
    named = [] if asked is None else list(asked.scopes)
    if for_a_person and _OFFLINE in server.scopes and _OFFLINE not in named:
        named.append(_OFFLINE)
    return " ".join(named) or None


def _until(grant: OAuthGrant) -> str:
    if grant.refresh_token is not None:
        return ""
    if (end := grant.token.expires_at) is None:
        return ""
    from datetime import UTC, datetime

    from mcp_discovery.health import rfc3339

    return f" until {rfc3339(datetime.fromtimestamp(end, UTC))}"
