"""``login`` at a certified authorization server, which the facade names itself."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from mcp_discovery.oauth import ClientCredentials
from tests.facade.access.oidc_provider import OidcProvider, enter_code
from tests.facade.access.tokens import guarded, write_auth_file
from tests.facade.harness import Client
from tests.programs import Ended, command, running
from tests.stores.waiting import until

#: Seconds for which the access tokens are valid here.
_VALID = 40


@pytest_asyncio.fixture
async def provider(tmp_path: Path) -> AsyncIterator[OidcProvider]:
    found = OidcProvider(tmp_path, seconds=_VALID)
    await found.start("one")
    try:
        yield found
    finally:
        await found.stop()


@pytest_asyncio.fixture
async def facade(tmp_path: Path, provider: OidcProvider) -> AsyncIterator[Client]:
    async with guarded(tmp_path) as ask:
        issuer = {"issuer": provider.url, "audience": ask.url, "scopes": {"reader": "read"}}
        write_auth_file(tmp_path / "auth.yaml", issuers=[issuer])

        async def named() -> bool:
            described = await ask("GET", "/.well-known/oauth-protected-resource")
            return provider.url in described.json.get("authorization_servers", ())

        await until(named, timeout=20, what="the facade naming its issuer")
        yield ask


async def test_a_person_logs_in_and_commands_renew_the_token_together(
    facade: Client, provider: OidcProvider, tmp_path: Path
) -> None:
    own = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "MCP_DISCOVERY_FACADE": facade.url}

    async def run(*words: str) -> Ended:
        config = own["XDG_CONFIG_HOME"]
        return await command(*words, XDG_CONFIG_HOME=config, MCP_DISCOVERY_FACADE=facade.url)

    (tmp_path / "logs").mkdir()
    async with running(tmp_path / "logs", "login", **own) as at:

        async def code() -> re.Match[str] | None:
            return re.search(r"Open (\S+) in .*?\n\n +(\S+)\n", at.log, re.DOTALL)

        found = await until(code, timeout=30, what=f"a code in {at.log}")
        assert found is not None
        page = await enter_code(found[1], found[2], "alice")
        assert "Success" in page, page

        async def logged_in() -> bool:
            return "Logged in to" in at.log

        await until(logged_in, timeout=30, what=f"the login: {at.log}")
    ended = await run("whoami")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{provider.url}#alice (roles: reader) may read")
    # Its end is near: the next commands renew it, with a refresh token that is good for one use.
    [file] = (tmp_path / "config").rglob("*.json")
    kept = json.loads(file.read_text())
    kept["expires_at"] = time.time() + 5
    file.write_text(json.dumps(kept))
    several = await asyncio.gather(*(run("servers", "--json") for _ in range(3)))
    assert [(each.code, each.err) for each in several] == [(0, "")] * 3
    now = json.loads(file.read_text())
    assert now["refresh_token"] != kept["refresh_token"]
    assert now["access_token"] != kept["access_token"]
    ended = await run("logout")
    assert (ended.code, ended.out) == (0, f"Logged out of {facade.url}.\n")
    # The tokens are revoked: whoever had copied them renews nothing.
    file.touch(mode=0o600)
    file.write_text(json.dumps(now | {"expires_at": time.time() - 5}))
    ended = await run("servers")
    assert ended.code == 4
    assert "invalid_grant" in ended.err and "run: mcp-discovery login, or" in ended.err


async def test_a_machine_gets_its_token_there(facade: Client, provider: OidcProvider) -> None:
    ask = ClientCredentials(
        provider.url,
        "agent",
        client_secret="a secret of the tests",
        scope="reader",
        resource=facade.url,
    )
    token = await ask()
    assert token.expires_at is not None and token.expires_at <= time.time() + _VALID
    headers = {"Authorization": f"Bearer {token.value}"}
    found = await facade("GET", "/whoami", headers=headers)
    assert (found.status, found.json.get("by")) == (200, "jwt"), found.json
    assert found.json["roles"] == ["reader"]
