"""oidc-provider, a certified OpenID Connect server, as a process; ``make stores`` brings it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
from jwt.algorithms import ECAlgorithm
from yarl import URL

from tests.facade.access.issuer import AUDIENCE, private_key
from tests.servers.process import until_answering
from tests.stores import ports
from tests.stores.binaries import STORES_FOLDER
from tests.stores.process import LocalProcess

_FOLDER = STORES_FOLDER / "issuer"
_PROGRAM = Path(__file__).with_name("oidc_provider.mjs")


class OidcProvider:
    """One, on a port of its own, that signs with the first of its ``keys``.

    Its access tokens are valid for ``seconds``.
    """

    def __init__(self, folder: Path, seconds: int = 300) -> None:
        self._folder = folder
        self._seconds = seconds
        self._port = ports.draw()
        self._process = LocalProcess(str(_FOLDER / "bin/node"), folder / "issuer.log")
        self.url = f"http://127.0.0.1:{self._port.number}"

    async def start(self, *keys: str) -> None:
        """Starts it with these keys."""
        jwks = self._folder / "private.json"
        jwks.write_text(json.dumps({"keys": [_private_jwk(name) for name in keys]}))
        what = str(_FOLDER.resolve()), str(self._port.number), str(jwks), str(self._seconds)
        await self._process.start((str(_PROGRAM), *what))
        await until_answering(self._process, f"{self.url}/jwks", 60, "oidc-provider")

    async def stop(self) -> None:
        """Stops it, if it runs."""
        await self._process.terminate(10)

    async def token(self, resource: str = AUDIENCE, scope: str = "reader") -> str:
        """A token by client credentials for ``resource``."""
        form = {"grant_type": "client_credentials", "scope": scope, "resource": resource}
        basic = aiohttp.encode_basic_auth("agent", "a+secret+of+the+tests")
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/token", data=form, headers={"Authorization": basic}) as response,
        ):
            answer = await response.json()
            assert response.status == 200, answer
            return str(answer["access_token"])


def _private_jwk(name: str) -> dict[str, Any]:
    return ECAlgorithm.to_jwk(private_key("EC", name), as_dict=True) | {
        "kid": name,
        "use": "sig",
        "alg": "ES256",
    }


class _Form(HTMLParser):
    """The first form of a page: where it goes, and the values of its fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None:
            self.action = given["action"]
        elif tag == "input" and given.get("name"):
            self.fields[given["name"]] = given.get("value", "")


async def enter_code(address: str, code: str, subject: str, *, consent: bool = True) -> str:
    """Does with a browser what a person does to let a device log in; returns the last page."""
    answers = {"user_code": code, "login": subject, "password": "any"}
    jar = aiohttp.CookieJar(unsafe=True)  # for an address instead of a name
    async with aiohttp.ClientSession(cookie_jar=jar) as http:
        method, url = "GET", address
        form: dict[str, str] = {}
        for _ in range(8):
            async with http.request(method, url, data=form or None) as response:
                page = await response.text()
                url = str(response.url)
            found = _Form(page)
            if found.action is None:
                return re.sub(r"<[^>]*>|\\s+", " ", page)
            form = {name: answers.get(name, value) for name, value in found.fields.items()}
            if not consent and "user_code" in form and "xsrf" in form and code in page:
                form["abort"] = "yes"
            method, url = "POST", str(response.url.join(URL(found.action)))
    raise AssertionError(f"no end of pages: {page}")
