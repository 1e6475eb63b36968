"""The files of deploy/auth: each lets the callers of its identity provider do what it says.

The providers cannot be had here. The tokens have the claims that their documentation shows, and are
signed with a key that takes the place of theirs.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade.access.auth_file import schema
from tests.facade.access.issuer import private_key, public_jwk
from tests.facade.harness import leased, served

FOLDER = Path(__file__).parents[3] / "deploy" / "auth"
FILES = sorted(FOLDER.glob("*.yaml"))
#: The claims of an access token of each provider, by who has it, and what that one may do.
CALLERS: dict[str, list[tuple[dict[str, Any], str]]] = {
    "keycloak": [
        (
            {
                "typ": "Bearer",
                "azp": "assistant",
                "sid": "a5b0e1de-6a3c-4c1e-9a5d-0f5f0b1f4d55",
                "acr": "1",
                "realm_access": {"roles": [role, "offline_access", "uma_authorization"]},
                "resource_access": {"account": {"roles": ["manage-account"]}},
                "scope": "email profile",
                "preferred_username": "ada",
            },
            may,
        )
        for role, may in (
            ("mcp-employee", "see tools"),
            ("mcp-operator", "everything"),
            ("mcp-sidecar", "register"),
            ("default-roles-agents", "nothing"),
        )
    ],
    "entra": [
        (
            {
                "ver": "2.0",
                "tid": "00000000-0000-0000-0000-000000000000",
                "oid": "22222222-2222-2222-2222-222222222222",
                "azp": "33333333-3333-3333-3333-333333333333",
                "azpacr": "1",
            }
            | granted,
            may,
        )
        for granted, may in (
            ({"roles": ["Mcp.Employee"]}, "see tools"),
            ({"roles": ["Mcp.Operator"]}, "everything"),
            ({"roles": ["Mcp.Sidecar"]}, "register"),
            ({"scp": "mcp.read"}, "see everything"),
            ({}, "nothing"),
        )
    ],
    "okta": [
        ({"ver": 1, "jti": "AT.x", "cid": "0oa1", "uid": "00u1"} | granted, may)
        for granted, may in (
            ({"scp": ["openid"], "groups": ["mcp-employees"]}, "see tools"),
            ({"scp": ["openid"], "groups": ["mcp-operators", "mcp-employees"]}, "everything"),
            ({"scp": ["mcp:register"]}, "register"),
            ({"scp": ["openid"], "groups": ["Everyone"]}, "nothing"),
        )
    ],
    "dex": [
        (
            {
                "sub": "CgcyMzQyNzQ5EgZnaXRodWI",
                "at_hash": "hC8",
                "email": "ada@example.com",
                "email_verified": True,
                "groups": groups,
                "name": "Ada",
            },
            may,
        )
        for groups, may in (
            (["example-org:assistants"], "see tools"),
            (["example-org:platform"], "everything"),
            ([], "nothing"),
        )
    ],
    "kubernetes": [
        (
            {
                "sub": f"system:serviceaccount:{account}",
                "kubernetes.io": {
                    "namespace": account.partition(":")[0],
                    "pod": {"name": "a", "uid": "1"},
                    "serviceaccount": {"name": account.partition(":")[2], "uid": "2"},
                },
            },
            may,
        )
        for account, may in (
            ("agents:assistant", "see everything"),
            ("payments:default", "register payments"),
            ("monitoring:prometheus", "metrics"),
            ("default:default", "nothing"),
        )
    ],
}
#: What each may: the list, the tools of `articles` in it, the metrics, and names to register.
MAY: dict[str, tuple[int, list[str], int, dict[str, int]]] = {
    "nothing": (403, [], 403, {"articles": 403}),
    "see tools": (200, ["get_article"], 403, {"articles": 403}),
    "see everything": (200, ["delete_article", "get_article"], 403, {"articles": 403}),
    "register": (403, [], 403, {"others": 201}),
    "register payments": (200, [], 403, {"others": 403, "payments-eu": 201}),
    "metrics": (200, ["delete_article", "get_article"], 200, {"others": 403}),
    "everything": (200, ["delete_article", "get_article"], 200, {"others": 201}),
}


def signed(issuer: dict[str, Any], claims: dict[str, Any], key: str = "theirs") -> str:
    """A token of ``issuer`` with ``claims``."""
    now = int(time.time())
    whole = {"sub": "ada", "iat": now, "nbf": now, "exp": now + 300}
    whole |= {"iss": issuer["issuer"], "aud": issuer["audience"]} | claims
    return jwt.encode(whole, private_key("RSA", key), "RS256", headers={"kid": "theirs"})


def with_known_keys(file: Path, folder: Path) -> tuple[str, dict[str, Any]]:
    """A copy of ``file`` in ``folder`` that takes a key of ours for the issuer's; its issuer."""
    content = yaml.safe_load(file.read_text())
    (issuer,) = content["issuers"]
    for where in ("jwks_url", "ca", "token_file"):
        issuer.pop(where, None)
    keys = folder / "jwks.json"
    keys.write_text(json.dumps({"keys": [public_jwk("RSA", "theirs")]}))
    issuer["jwks_file"] = str(keys)
    copy = folder / file.name
    copy.write_text(yaml.safe_dump(content))
    return str(copy), issuer


@pytest.mark.parametrize("file", FILES, ids=lambda each: each.stem)
def test_a_file_is_as_its_schema_says(file: Path) -> None:
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

    Draft202012Validator(schema()).validate(yaml.safe_load(file.read_text()))


def test_there_is_one_for_each_provider() -> None:
    assert {each.stem for each in FILES} == {*CALLERS, "tokens"}


@pytest.mark.parametrize("provider", CALLERS)
async def test_callers_may_do_what_their_claims_say(provider: str, tmp_path: Path) -> None:
    path, issuer = with_known_keys(FOLDER / f"{provider}.yaml", tmp_path)
    articles = leased("articles-1", name="articles")
    articles["capabilities"] = {"tools": ["get_article", "delete_article"]}
    async with (
        EmbeddedStore(f"embedded://{tmp_path}/list.db") as store,
        served(store) as plain,
        served(store, auth=path, public_url="https://discovery.example.com") as ask,
    ):
        assert (await plain("POST", "/servers", articles)).status == 201
        for number, (claims, may) in enumerate(CALLERS[provider]):
            headers = {"Authorization": f"Bearer {signed(issuer, claims)}"}
            listed, tools, metrics, registering = MAY[may]
            reply = await ask("GET", "/servers?status=all", headers=headers)
            assert reply.status == listed, (may, reply.body)
            if listed == 200:
                seen = [e for e in reply.json["servers"] if e["name"] == "articles"]
                assert sorted(t for e in seen for t in e["capabilities"]["tools"]) == tools, may
            assert (await ask("GET", "/metrics", headers=headers)).status == metrics, may
            for name, status in registering.items():
                body = leased(f"{name}-{number}", name=f"{name}-{number}")
                posted = await ask("POST", "/servers", body, headers=headers)
                assert posted.status == status, (may, name, posted.body)


@pytest.mark.parametrize("provider", CALLERS)
async def test_no_other_token_counts(provider: str, tmp_path: Path) -> None:
    path, issuer = with_known_keys(FOLDER / f"{provider}.yaml", tmp_path)
    claims, _ = CALLERS[provider][1]
    bad = {
        "another key": signed(issuer, claims, "somebody's"),
        "another audience": signed(issuer, claims | {"aud": "https://other.example.com"}),
        "another issuer": signed(issuer, claims | {"iss": issuer["issuer"] + "x"}),
        "expired": signed(issuer, claims | {"exp": int(time.time()) - 10}),
        "without an end": jwt.encode(
            {"iss": issuer["issuer"], "aud": issuer["audience"], "sub": "ada"} | claims,
            private_key("RSA", "theirs"),
            "RS256",
            headers={"kid": "theirs"},
        ),
    }
    async with served(auth=path, public_url="https://discovery.example.com") as ask:
        for what, token in bad.items():
            headers = {"Authorization": f"Bearer {token}"}
            assert (await ask("GET", "/servers", headers=headers)).status == 401, what
