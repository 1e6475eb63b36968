"""JWTs of an issuer: which count, and that all others are refused alike."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access import issuer_keys
from mcp_discovery.facade.access.auth_file import follow
from tests.facade.access.issuer import (
    ALGORITHMS,
    AUDIENCE,
    StubIssuer,
    private_key,
    public_jwk,
    stub_issuer,
)
from tests.facade.access.tokens import guarded, write_auth_file
from tests.facade.harness import Client, Reply, leased
from tests.stores.waiting import until


@pytest.fixture
async def issuer() -> AsyncIterator[StubIssuer]:
    async with stub_issuer() as found:
        yield found


def sections(issuer: StubIssuer, **more: Any) -> dict[str, Any]:
    return {"issuers": [{"issuer": issuer.url, "audience": AUDIENCE} | more]}


async def ask_with(ask: Client, token: str, path: str = "/servers") -> Reply:
    return await ask("GET", path, headers={"Authorization": f"Bearer {token}"})


async def test_a_token_of_each_kind_of_key_counts(tmp_path: Path) -> None:
    kinds = {"one": "EC", "two": "RSA", "three": "OKP"}
    async with stub_issuer(**kinds) as issuer, guarded(tmp_path, sections(issuer)) as ask:
        for name, kind in kinds.items():
            assert (await ask_with(ask, issuer.token(kind, name))).status == 200
        # Two words of metadata and keys were enough for all.
        assert issuer.requests.count("/jwks") == 1


def _unsigned(issuer: StubIssuer) -> str:
    return jwt.encode(issuer.claims(), "", "none")


def _raw(header: str, claims: str, signature: bytes = b"x") -> str:
    parts = header.encode(), claims.encode(), signature
    return ".".join(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in parts)


def _signed_with_the_public_key(issuer: StubIssuer) -> str:
    """HS256, with what everybody can read as its secret (RFC 8725, 2.1)."""
    public = private_key("EC", "one").public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    import hashlib
    import hmac

    head = _raw('{"alg":"HS256","kid":"one"}', json.dumps(issuer.claims())).rpartition(".")[0]
    mac = hmac.new(pem, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def _claims_twice(issuer: StubIssuer) -> str:
    claims = json.dumps(issuer.claims())
    doubled = claims[:-1] + ', "roles": ["operator"]}'
    key = private_key("EC", "one")
    return jwt.api_jws.encode(doubled.encode(), key, "ES256", headers={"kid": "one"})


def _swapped_claims(issuer: StubIssuer) -> str:
    head, _, signature = issuer.token().split(".")
    claims = json.dumps(issuer.claims(roles=["operator"])).encode()
    return f"{head}.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{signature}"


NOW = time.time()
BAD: dict[str, Callable[[StubIssuer], str]] = {
    "alg none": _unsigned,
    "alg None": lambda i: _raw('{"alg":"None"}', json.dumps(i.claims()), b""),
    "HS256 with the public key": _signed_with_the_public_key,
    "a swapped key": lambda i: i.token("EC", "other", {"kid": "one"}),
    "swapped claims": _swapped_claims,
    "another kind of key": lambda i: i.token("RSA", "one-rsa", {"kid": "one"}),
    "another issuer": lambda i: i.token(iss="https://evil.example.com"),
    "an issuer that differs by a slash": lambda i: i.token(iss=i.url + "/"),
    "no issuer": lambda i: i.token(iss=None),
    "another audience": lambda i: i.token(aud="https://other.example.com"),
    "no audience": lambda i: i.token(aud=None),
    "an audience that begins as ours": lambda i: i.token(aud=AUDIENCE + ".evil.com"),
    "expired": lambda i: i.token(exp=int(time.time()) - 5),
    "no expiry": lambda i: i.token(exp=None),
    "an expiry that is no time": lambda i: i.token(exp="2200-01-01"),
    "an expiry that is true": lambda i: i.token(exp=True),
    "not valid yet": lambda i: i.token(nbf=int(time.time()) + 60),
    "issued in the future": lambda i: i.token(iat=int(time.time()) + 60),
    "no subject": lambda i: i.token(sub=None),
    "a critical header": lambda i: i.token(headers={"crit": ["exp"], "exp": 1}),
    "b64": lambda i: i.token(headers={"crit": ["b64"], "b64": True}),
    "a key of its own": lambda i: i.token(
        "EC", "own", {"kid": "own", "jwk": public_jwk("EC", "own")}
    ),
    "a place of keys": lambda i: i.token("EC", "own", {"kid": "own", "jku": "https://evil/k"}),
    "a certificate": lambda i: i.token("EC", "own", {"kid": "own", "x5u": "https://evil/k"}),
    "a type that is no access token": lambda i: i.token(headers={"typ": "logout+jwt"}),
    "a key id of another type": lambda i: _raw(
        '{"alg":"ES256","kid":["one"]}', json.dumps(i.claims())
    ),
    "a claim twice": _claims_twice,
    "oversized": lambda i: i.token(padding="x" * 20_000),
    "no JSON": lambda i: _raw("alg", "claims"),
    "two parts": lambda i: i.token().rpartition(".")[0],
    "five parts": lambda i: i.token() + ".a.b",
    "nothing signed": lambda i: i.token().rpartition(".")[0] + ".",
    "a list": lambda i: _raw("[]", "[]"),
    "deep": lambda i: _raw('{"alg":"ES256"}', "[" * 3000),
    "NaN": lambda i: _raw('{"alg":"ES256","kid":"one"}', '{"exp": NaN}'),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_token_is_refused_as_all_others(
    tmp_path: Path, issuer: StubIssuer, kind: str
) -> None:
    token = BAD[kind](issuer)
    async with guarded(tmp_path, sections(issuer) | {"anonymous": "reader"}) as ask:
        refused = await ask_with(ask, token)
        assert refused.status == 401
        assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
        bad = await ask_with(ask, "bad")
        trace = refused.headers["X-Request-Id"]
        assert refused.body.replace(trace.encode(), b"") == bad.body
        assert (await ask_with(ask, issuer.token())).status == 200


async def test_what_is_given_with_skew_and_without(tmp_path: Path, issuer: StubIssuer) -> None:
    async with guarded(tmp_path, sections(issuer, skew=60)) as ask:
        now = int(time.time())
        assert (await ask_with(ask, issuer.token(exp=now - 30))).status == 200
        assert (await ask_with(ask, issuer.token(nbf=now + 30, iat=now + 30))).status == 200
        assert (await ask_with(ask, issuer.token(exp=now - 90))).status == 401


ROLES: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    # Keycloak, with a nested claim and a name that is not a role here
    ({"roles_claim": "realm_access.roles"}, {"realm_access": {"roles": ["registrar", "x"]}}, 201),
    ({"roles_claim": "realm_access.roles"}, {"realm_access": {"roles": ["reader"]}}, 403),
    ({"roles_claim": "realm_access.roles"}, {"realm_access": ["registrar"]}, 403),
    # a claim with dots in its name
    ({"roles_claim": "https://x.example/r"}, {"https://x.example/r": "registrar"}, 201),
    # Okta and Dex: groups are mapped
    (
        {"roles_claim": "groups", "roles": {"mcp-*": "reader", "mcp-ops": ["registrar"]}},
        {"groups": ["mcp-ops"]},
        201,
    ),
    (
        {"roles_claim": "groups", "roles": {"mcp-*": "reader"}},
        {"groups": ["registrar"]},  # no role here where groups are mapped
        403,
    ),
    # Kubernetes: by the subject
    (
        {"roles_claim": "sub", "roles": {"system:serviceaccount:mcp:*": "registrar"}},
        {"sub": "system:serviceaccount:mcp:sidecar"},
        201,
    ),
    ({"default_roles": "registrar"}, {"roles": None}, 201),
    # Scopes of a token grant nothing unless the file says so.
    ({}, {"scope": "register admin"}, 403),
    ({"scopes": {"mcp.write": "register"}}, {"scope": "openid mcp.write"}, 201),
    ({"scopes": {"mcp.write": "register"}}, {"scp": ["mcp.write"]}, 201),
    ({"clients": ["app-*"], "default_roles": "registrar"}, {"azp": "app-1"}, 201),
    ({"clients": ["app-*"], "default_roles": "registrar"}, {"azp": "other"}, 401),
    ({"clients": ["app-*"], "default_roles": "registrar"}, {}, 401),
    ({"at_jwt": "true", "default_roles": "registrar"}, {}, 401),
]


@pytest.mark.parametrize(("settings", "claims", "status"), ROLES)
async def test_claims_are_roles_as_the_file_says(
    tmp_path: Path,
    issuer: StubIssuer,
    settings: dict[str, Any],
    claims: dict[str, Any],
    status: int,
) -> None:
    async with guarded(tmp_path, sections(issuer, **settings)) as ask:
        headers = {"Authorization": f"Bearer {issuer.token(**claims)}"}
        assert (await ask("POST", "/servers", leased("one"), headers=headers)).status == status


async def test_a_token_for_one_address_is_for_that_one(tmp_path: Path, issuer: StubIssuer) -> None:
    public = "https://mcp.example.com/find"
    settings = {"issuers": [{"issuer": issuer.url}]}
    async with guarded(tmp_path, settings, gateway=True, public_url=public) as ask:
        for aud, good in {
            public: ["/servers", "/mcp", "/gateway/a/mcp"],
            f"{public}/": ["/servers", "/mcp", "/gateway/a/mcp"],
            f"{public}/mcp": ["/mcp"],
            f"{public}/gateway/a/mcp": ["/gateway/a/mcp"],
            f"{public}/gateway/b/mcp": [],
            "https://mcp.example.com": [],
        }.items():
            token = issuer.token(aud=[aud, "https://another.example.com"])
            for path in ("/servers", "/mcp", "/gateway/a/mcp"):
                status = (await ask_with(ask, token, path)).status
                assert (status != 401) is (path in good), (aud, path, status)


async def test_keys_rotate_without_a_refusal(
    tmp_path: Path, issuer: StubIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "UNKNOWN_EVERY", 1.0)
    async with guarded(tmp_path, sections(issuer)) as ask:
        assert (await ask_with(ask, issuer.token())).status == 200
        for name in ("two", "three"):
            issuer.keys = {name: "EC", **issuer.keys}
            replies = await asyncio.gather(
                *(ask_with(ask, issuer.token(name=name, n=n)) for n in range(20)),
                *(ask_with(ask, issuer.token(n=n)) for n in range(20)),
            )
            assert {each.status for each in replies} == {200}
        assert issuer.requests.count("/jwks") == 3


@pytest.mark.slow
async def test_unknown_keys_ask_the_issuer_rarely(
    tmp_path: Path, issuer: StubIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "UNKNOWN_EVERY", 1.0)
    async with guarded(tmp_path, sections(issuer)) as ask:
        assert (await ask_with(ask, issuer.token())).status == 200

        async def attack(number: int) -> int:
            token = issuer.token("EC", "own", {"kid": f"../../{number}"})
            return (await ask_with(ask, token)).status

        began = time.monotonic()
        statuses = await asyncio.gather(*map(attack, range(300)))
        assert set(statuses) == {401}
        assert issuer.requests.count("/jwks") <= 2 + (time.monotonic() - began)


async def test_a_key_that_the_issuer_does_not_have_is_asked_for_once(
    tmp_path: Path, issuer: StubIssuer
) -> None:
    async with guarded(tmp_path, sections(issuer)) as ask:
        assert (await ask_with(ask, issuer.token())).status == 200
        began = time.monotonic()
        for number in range(5):
            token = issuer.token("EC", "own", {"kid": "own"}, n=number)
            assert (await ask_with(ask, token)).status == 401
        assert issuer.requests.count("/jwks") == 2
        assert time.monotonic() - began < 5


async def test_an_issuer_that_is_away_costs_nobody(tmp_path: Path, issuer: StubIssuer) -> None:
    async with guarded(tmp_path, sections(issuer)) as ask:
        assert (await ask_with(ask, issuer.token())).status == 200
        issuer.is_up = False
        for number in range(20):
            assert (await ask_with(ask, issuer.token(n=number))).status == 200


async def test_an_issuer_that_is_away_at_the_start(
    tmp_path: Path, issuer: StubIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "UNKNOWN_EVERY", 0.2)
    issuer.is_up = False
    async with guarded(tmp_path, sections(issuer)) as ask:
        away = await ask_with(ask, issuer.token())
        assert away.status == 503
        assert away.headers["Retry-After"]
        issuer.is_up = True

        async def counts() -> bool:
            return (await ask_with(ask, issuer.token())).status == 200

        await until(counts, timeout=10, what="the issuer's tokens counting")


async def test_keys_that_are_too_old_count_no_more(tmp_path: Path, issuer: StubIssuer) -> None:
    async with guarded(tmp_path, sections(issuer, keys_max_age=1)) as ask:
        token = issuer.token()
        assert (await ask_with(ask, token)).status == 200
        issuer.is_up = False

        async def refused() -> bool:
            return (await ask_with(ask, token)).status == 503

        await until(refused, timeout=30, what="the keys being too old")


@pytest.mark.slow
async def test_a_file_of_keys_is_followed(tmp_path: Path, issuer: StubIssuer) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(issuer.jwks())
    async with guarded(tmp_path, sections(issuer, jwks_file=str(file))) as ask:
        old = issuer.token()
        assert (await ask_with(ask, old)).status == 200
        assert (await ask_with(ask, issuer.token(name="two"))).status == 401
        issuer.keys = {"two": "EC"}
        file.write_bytes(issuer.jwks())

        async def changed() -> bool:
            return (await ask_with(ask, issuer.token(name="two"))).status == 200

        await until(changed, timeout=10, what="the new key counting")
        # What the old key signed counts no more, though it was verified before.
        assert (await ask_with(ask, old)).status == 401
        assert issuer.requests == []


async def test_the_issuers_own_token_goes_to_the_issuer_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t\n")
    async with stub_issuer() as issuer, stub_issuer() as other:
        given = sections(issuer, token_file=str(secret))
        async with guarded(tmp_path, given) as ask:
            assert (await ask_with(ask, issuer.token())).status == 200
            assert issuer.authorization == ["Bearer s3cr3t"] * len(issuer.requests)
        given = sections(issuer, token_file=str(secret), jwks_url=f"{other.url}/jwks")
        async with guarded(tmp_path, given) as ask:
            assert (await ask_with(ask, issuer.token())).status == 200
            assert other.authorization == ["Bearer s3cr3t"]


def test_keys_that_nobody_shall_use_are_passed_over() -> None:
    good = public_jwk("EC", "one")
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    others = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "one"},
        good | {"use": "enc"},
        good | {"alg": "HS256"},
        good | {"key_ops": ["sign"]},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "RSA", "n": "", "e": ""},
        {"kty": "EC", "crv": "secp256k1"},
        {},
        {"kty": ["EC"], "crv": {}},
        "x",
    ]
    keys = issuer_keys.parse_keys(json.dumps({"keys": [*others, good]}).encode())
    assert [each.id for each in keys] == ["one"]
    assert small.key_size == 1024
    assert set(ALGORITHMS.values()) == {"RS256", "ES256", "EdDSA"}
    for text in (b"", b"[]", b"{}", b'{"keys": 1}', b"[" * 100_000):
        with pytest.raises(issuer_keys.UnfitKeysError):
            issuer_keys.parse_keys(text)


@pytest.mark.parametrize(
    ("issuer", "problem"),
    [
        ({"issuer": "http://login.example.com", "audience": "a"}, "is not https"),
        ({"issuer": "login", "audience": "a"}, "issuers.0.issuer"),
        ({"issuer": "https://a", "audience": "a", "algorithms": ["HS256"]}, "algorithms.0"),
        ({"issuer": "https://a", "audience": "a", "algorithms": ["none"]}, "algorithms.0"),
        ({"issuer": "https://a"}, "audience is missing"),
        ({"issuer": "https://a", "audience": "a", "jwks_url": "http://b"}, "is not https"),
        ({"issuer": "https://a", "audience": "a", "jwks_file": "/nowhere"}, "cannot read /nowhere"),
        ({"issuer": "https://a", "audience": "a", "roles": {"x": "nobody"}}, "'nobody' is not"),
        ({"issuer": "https://a", "audience": "a", "scopes": {"x": "reed"}}, "did you mean 'read'"),
        ({"issuer": "https://a", "audience": "a", "scew": 1}, "scew is not known"),
    ],
)
def test_an_issuer_that_cannot_be_used_says_why(
    tmp_path: Path, issuer: dict[str, Any], problem: str
) -> None:
    path = write_auth_file(tmp_path / "auth.yaml", issuers=[issuer])
    with pytest.raises(InvalidInputError, match=problem):
        follow(path)


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_discovery.extras.find_spec", lambda name: None)
    tokens_alone = write_auth_file(tmp_path / "tokens.yaml")
    assert follow(tokens_alone).current().file.tokens
    issuer = {"issuer": "https://a", "audience": "a"}
    path = write_auth_file(tmp_path / "auth.yaml", issuers=[issuer])
    with pytest.raises(InvalidInputError, match=r"pip install 'mcp-discovery\[auth\]'"):
        follow(path)
