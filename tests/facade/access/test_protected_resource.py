"""What MCP's authorization chapter wants of a resource server, for every address of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.facade.access.tokens import bearer, guarded
from tests.facade.harness import Client, served

ADDRESSES = ["", "/mcp", "/gateway/products/mcp", "/gateway/nobody/mcp"]


@pytest.mark.parametrize("public", [None, "https://mcp.example.com/find"])
async def test_a_refusal_names_the_metadata_which_name_the_resource(
    tmp_path: Path, public: str | None
) -> None:
    async with guarded(tmp_path, gateway=True, public_url=public) as ask:
        base = public or ask.url
        for path in ADDRESSES:
            refused = await ask("POST" if path else "GET", path or "/servers")
            assert refused.status == 401, path
            challenge = refused.headers["WWW-Authenticate"]
            found = re.search(r'resource_metadata="([^"]+)"', challenge)
            assert found is not None
            assert found[1] == f"{base}/.well-known/oauth-protected-resource{path}"
            assert 'scope="' in challenge
            described = (await ask("GET", found[1].removeprefix(base))).json
            assert described["resource"] == base + path
            assert described["bearer_methods_supported"] == ["header"]


async def test_401_and_403(tmp_path: Path) -> None:
    async with guarded(tmp_path, {"tokens": _without_roles()}, gateway=True) as ask:
        for method, path in _EVERYTHING:
            anonymous = await ask(method, path)
            assert anonymous.status == 401, path
            assert "error=" not in anonymous.headers["WWW-Authenticate"]
            bad = await ask(method, path, headers={"Authorization": "Bearer bad"})
            assert bad.status == 401, path
            assert 'error="invalid_token"' in bad.headers["WWW-Authenticate"]
            powerless = await ask(method, path, headers=bearer("reader"))
            assert powerless.status == 403, path
            assert 'error="insufficient_scope"' in powerless.headers["WWW-Authenticate"]


_EVERYTHING = [
    ("GET", "/servers"),
    ("GET", "/servers/"),
    ("POST", "/servers"),
    ("DELETE", "/servers/a"),
    ("GET", "/api/platform/servers"),
    ("GET", "/events"),
    ("GET", "/registry/stream"),
    ("POST", "/mcp"),
    ("GET", "/mcp"),
    ("DELETE", "/mcp"),
    ("POST", "/gateway/a/mcp"),
    ("GET", "/gateway/a/mcp"),
    ("DELETE", "/gateway/a/mcp"),
    ("GET", "/v0.1/servers"),
]


def _without_roles() -> dict[str, object]:
    from mcp_discovery.facade.access.tokens import hash_of
    from tests.facade.access.tokens import TOKENS

    return {"reader": {"hash": hash_of(TOKENS["reader"])}}


async def test_browsers_ask_first_and_without_credentials(tmp_path: Path) -> None:
    origin = "https://console.example.com"
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with guarded(tmp_path, gateway=True, cors_origins=(origin,)) as ask:
        for path in ("/servers", "/mcp", "/gateway/a/mcp"):
            reply = await ask("OPTIONS", path, headers=asked)
            assert reply.status == 204, path
            assert "authorization" in reply.headers["Access-Control-Allow-Headers"]
        refused = await ask("GET", "/servers", headers={"Origin": origin})
        assert refused.status == 401
        assert "WWW-Authenticate" in refused.headers["Access-Control-Expose-Headers"]


async def test_a_facade_without_callers_has_no_metadata() -> None:
    async with served() as ask:
        reply = await ask("GET", "/.well-known/oauth-protected-resource")
        assert reply.status == 404
        assert reply.json["detail"].endswith("without --auth")


async def test_metadata_are_equal_for_servers_that_are_there_and_not(ask: Client) -> None:
    path = "/.well-known/oauth-protected-resource/gateway"
    assert (await ask("GET", f"{path}/a/mcp")).status == (await ask("GET", f"{path}/b/mcp")).status
