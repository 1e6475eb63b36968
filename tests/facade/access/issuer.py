"""An issuer on a real socket: its keys change, it goes away, and it signs what it is told."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "https://discovery.example.com"


@cache
def private_key(kind: str, name: str) -> Any:
    """A key of ``RSA``, ``EC`` or ``OKP``, the same for one name."""
    match kind:
        case "RSA":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "EC":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def public_jwk(kind: str, name: str) -> dict[str, Any]:
    """The public half, as issuers publish it."""
    algorithm = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}[kind]
    public = private_key(kind, name).public_key()
    jwk: dict[str, Any] = algorithm.to_jwk(public, as_dict=True)  # type: ignore[attr-defined]
    return jwk | {"kid": name, "use": "sig"}


ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


class StubIssuer:
    """Publishes ``keys`` (name → kind), and signs with any key."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: dict[str, str] = {"one": "EC"}
        self.is_up = True
        self.requests: list[str] = []
        self.authorization: list[str | None] = []
        #: Further members of its metadata, and what its token endpoint answers a form with.
        self.metadata: dict[str, Any] = {}
        self.exchange: Callable[[Mapping[str, str]], dict[str, Any]] = lambda form: {}

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        self.authorization.append(request.headers.get("Authorization"))
        if not self.is_up:
            return web.Response(status=503)
        match request.path:
            case "/.well-known/openid-configuration":
                found = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
                found["authorization_endpoint"] = f"{self.url}/authorize"
                found["token_endpoint"] = f"{self.url}/token"
                return web.json_response(found | self.metadata)
            case "/token":
                form = {name: str(value) for name, value in (await request.post()).items()}
                answer = self.exchange(form)
                return web.json_response(answer, status=400 if "error" in answer else 200)
            case "/jwks":
                return web.Response(body=self.jwks())
        return web.Response(status=404)

    def jwks(self) -> bytes:
        return json.dumps(
            {"keys": [public_jwk(kind, name) for name, kind in self.keys.items()]}
        ).encode()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a good token; ``None`` leaves one out."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "alice",
            "aud": AUDIENCE,
            "exp": now + 300,
            "iat": now,
            "roles": ["reader"],
        } | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self,
        kind: str = "EC",
        name: str = "one",
        headers: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """A token with ``changes`` in its claims."""
        given = {"kid": name} | dict(headers or {})
        key, algorithm = private_key(kind, name), ALGORITHMS[kind]
        return jwt.encode(self.claims(**changes), key, algorithm, headers=given)


@asynccontextmanager
async def stub_issuer(**keys: str) -> AsyncIterator[StubIssuer]:
    """One with ``keys`` (name → kind), or with a key of elliptic curves called ``one``."""
    issuer = StubIssuer()
    issuer.keys = keys or issuer.keys
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", issuer.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield issuer
    finally:
        await runner.cleanup()
