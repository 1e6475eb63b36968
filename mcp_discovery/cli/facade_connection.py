"""Requests to a facade, for the commands that read its list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from mcp_discovery.adapters.http import Params, remedies_for
from mcp_discovery.adapters.remote.api import FacadeApi
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.bearer_tokens import GivenToken
from mcp_discovery.cli import stored_logins
from mcp_discovery.cli.options import check_url
from mcp_discovery.credential_files import Secret
from mcp_discovery.errors import (
    DocumentNotFoundError,
    InvalidInputError,
    RegistrationLostError,
)
from mcp_discovery.record import AGENT

#: Seconds that a response may take: a list of 100,000 servers takes some.
_TIMEOUT = 15.0


def token_of(facade: str, token: str | None, token_file: str | None) -> GivenToken | None:
    """The token for ``facade``: the one that was given, or that of the login there.

    Raises :class:`InvalidInputError` for a login that cannot be used.
    """
    if token is not None or token_file is not None:
        return token
    return stored_logins.token_for(facade)


@asynccontextmanager
async def facade_api(
    facade: str,
    token: str | None = None,
    token_file: str | None = None,
    *,
    timeout: float = _TIMEOUT,
) -> AsyncIterator[FacadeApi]:
    """The facade's endpoints; raises what :func:`check_url` does, and :class:`InvalidInputError`
    for a token that cannot be used."""
    check_url(facade)
    given = token_of(facade, token, token_file)
    credentials = StoreOptions(token=given, token_file=token_file, timeout=timeout)
    try:
        api = FacadeApi(facade, credentials, remedies=remedies_for(facade, facade=True))
    except InvalidInputError:
        if token_file is not None:  # there it is a store's: say it of what it is here
            Secret("facade's token (--facade-token-file)", token, token_file)
        raise
    try:
        yield api
    finally:
        await api.close()


async def get(api: FacadeApi, path: str, params: Params | None = None) -> Any:
    """The JSON of the facade's response."""
    return (await api.call("GET", path, params=params)).json()


async def get_or_none(api: FacadeApi, path: str) -> Any | None:
    """The same; ``None`` where the facade knows no such server, or not what it offers."""
    try:
        return await get(api, path)
    except (RegistrationLostError, DocumentNotFoundError):
        return None


async def every_entry(api: FacadeApi, *filters: tuple[str, str]) -> list[Mapping[str, Any]]:
    """The entries of every kind and in every status."""
    wanted = [("status", "all"), *filters]
    try:
        listed = await get(api, "/servers", [*wanted, ("kind", "all")])
    except InvalidInputError:  # a facade of a release before agents, which lists servers alone
        listed = await get(api, "/servers", wanted)
    found: list[Mapping[str, Any]] = listed["servers"]
    return found


async def instances_of(api: FacadeApi, server: str) -> list[Mapping[str, Any]]:
    """The entries of all instances of that name, those of a server before those of an A2A agent, or
    else of the one with that id."""
    found = await every_entry(api, ("name", server))
    found = [each for each in found if each.get("kind") != AGENT] or found
    one = None if found else await get_or_none(api, f"/servers/{quote(server, safe='')}")
    return found if one is None else [one]
