"""An authorization server that does what a test says: a certified one cannot be made to fail so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Json = Mapping[str, Any]


class OddIssuer:
    """Answers each form with what :attr:`answers` has next for it, the last one for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.metadata: dict[str, Any] = {}
        self.forms: list[dict[str, str]] = []
        self.authorizations: list[str] = []
        #: By ``grant_type``, ``device`` and ``revoke``: statuses and JSON, or what makes that.
        self.answers: dict[str, list[tuple[int, Json | Callable[[], Json]]]] = {}

    def granting(self, kind: str, token: str, **more: Any) -> None:
        """Has a grant be answered with ``token``, after all that it is answered before."""
        granted = {"access_token": token, "token_type": "Bearer"} | more
        self.answers.setdefault(kind, []).append((200, granted))

    def refusing(self, kind: str, error: str, status: int = 400, **more: Any) -> None:
        """Has it be refused."""
        self.answers.setdefault(kind, []).append((status, {"error": error} | more))

    def device(self, **more: Any) -> None:
        """Begins logins by device code, whose polls are a tenth of a second apart."""
        begun = {
            "device_code": "the-device-code",
            "user_code": "WDJB-MJHT",
            "verification_uri": f"{self.url}/device",
            "verification_uri_complete": f"{self.url}/device?user_code=WDJB-MJHT",
            "expires_in": 600,
            "interval": 0.1,
        }
        self.answers["device"] = [(200, begun | more)]

    async def describe(self, _: web.Request) -> web.Response:
        return web.json_response(self.metadata)

    def answer(self, kind: str) -> Callable[[web.Request], Any]:
        async def answering(request: web.Request) -> web.Response:
            form = {key: str(value) for key, value in (await request.post()).items()}
            self.forms.append(form)
            self.authorizations.append(request.headers.get("Authorization", ""))
            wanted = form["grant_type"].rpartition(":")[2] if kind == "token" else kind
            waiting = self.answers[wanted]
            status, content = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            made = content() if callable(content) else content
            return web.json_response(made, status=status)

        return answering


@asynccontextmanager
async def odd_issuer() -> AsyncIterator[OddIssuer]:
    """Such a server on a real socket."""
    issuer = OddIssuer()
    app = web.Application()
    app.router.add_get("/.well-known/oauth-authorization-server", issuer.describe)
    for kind in ("token", "device", "revoke"):
        app.router.add_post(f"/{kind}", issuer.answer(kind))
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    issuer.metadata = {
        "issuer": issuer.url,
        "token_endpoint": f"{issuer.url}/token",
        "device_authorization_endpoint": f"{issuer.url}/device",
        "revocation_endpoint": f"{issuer.url}/revoke",
        "scopes_supported": ["openid", "offline_access"],
    }
    issuer.answers["revoke"] = [(200, {})]
    issuer.device()
    try:
        yield issuer
    finally:
        await runner.cleanup()
