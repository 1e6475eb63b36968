"""A client of one authorization server: what it asks for tokens, and what becomes of that."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote_plus

from mcp_discovery.bearer_tokens import IssuedToken
from mcp_discovery.credential_files import Secret
from mcp_discovery.errors import TokenError
from mcp_discovery.oauth.http import OAuthAnswer, ask
from mcp_discovery.oauth.metadata import AuthorizationServer

_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
#: What there may be instead of a grant for a device code, besides a refusal (RFC 8628, 3.5).
_NOT_GRANTED = ("authorization_pending", "slow_down", "expired_token")


@dataclass(frozen=True, slots=True)
class OAuthGrant:
    """What was issued: the access token, and what renews it."""

    token: IssuedToken
    refresh_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class DeviceAuthorization:
    """What a person is to do, and the code with which the device asks whether it is done.

    ``expires_in`` and ``interval`` in seconds.
    """

    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    complete_uri: str | None
    expires_in: float
    interval: float


class OAuthClient:
    """``client_id`` at ``server``, public unless there is a ``secret``. Every method raises
    :class:`TokenError`."""

    def __init__(
        self, server: AuthorizationServer, client_id: str, secret: Secret | None = None
    ) -> None:
        self.server = server
        self._id = client_id
        self._secret = secret

    async def client_credentials(self, wanted: Mapping[str, str]) -> OAuthGrant:
        """A token for this client itself (RFC 6749, 4.4). ``wanted``: ``scope``, ``resource``."""
        return await self._grant({"grant_type": "client_credentials", **wanted})

    async def refresh(self, token: str, wanted: Mapping[str, str]) -> OAuthGrant:
        """What takes the place of the grant that ``token`` renews (RFC 6749, 6)."""
        form = {"grant_type": "refresh_token", "refresh_token": token, **wanted}
        grant = await self._grant(form)
        return OAuthGrant(grant.token, grant.refresh_token or token)

    async def device_authorization(self, wanted: Mapping[str, str]) -> DeviceAuthorization:
        """Begins a login by device code (RFC 8628, 3.1)."""
        if self.server.device_endpoint is None:
            raise TokenError(
                f"{self.server.issuer} offers no login by device code; have it allowed there, or "
                "use a token of the facade's own",
                denied=True,
            )
        answer = await self._ask(self.server.device_endpoint, dict(wanted))
        code, user_code = answer.text("device_code"), answer.text("user_code")
        # "verification_url" is what some servers of before the RFC say.
        uri = answer.text("verification_uri") or answer.text("verification_url")
        if answer.status != 200 or code is None or user_code is None or uri is None:
            raise self._refusal(answer)
        return DeviceAuthorization(
            code,
            user_code,
            uri,
            answer.text("verification_uri_complete"),
            answer.seconds("expires_in") or 600.0,
            answer.seconds("interval") or 5.0,
        )

    async def device_grant(self, device_code: str) -> OAuthGrant | str:
        """The grant, or else ``authorization_pending``, ``slow_down`` or ``expired_token``."""
        form = {"grant_type": _DEVICE_GRANT, "device_code": device_code}
        answer = await self._ask(self.server.token_endpoint, form)
        if (error := answer.text("error") or "") in _NOT_GRANTED:
            return error
        return self._granted(answer)

    async def revoke(self, token: str) -> None:
        """Has ``token`` count no more (RFC 7009), where the server offers that."""
        if self.server.revocation_endpoint is not None:
            await self._ask(self.server.revocation_endpoint, {"token": token})

    async def _grant(self, form: Mapping[str, str]) -> OAuthGrant:
        return self._granted(await self._ask(self.server.token_endpoint, form))

    async def _ask(self, url: str, form: Mapping[str, str]) -> OAuthAnswer:
        secret = None if self._secret is None else self._secret.current()
        answer = await self._sent(url, form, secret)
        if answer.text("error") == "invalid_client" and self._secret is not None:
            fresh = self._secret.renewed()
            if fresh != secret:
                answer = await self._sent(url, form, fresh)
        return answer

    async def _sent(self, url: str, form: Mapping[str, str], secret: str | None) -> OAuthAnswer:
        if secret is None:
            return await ask("POST", url, {"client_id": self._id, **form})
        if "client_secret_basic" in self.server.methods:
            # RFC 6749, 2.3.1: both are encoded as in a form first.
            pair = f"{quote_plus(self._id)}:{quote_plus(secret)}"
            basic = f"Basic {b64encode(pair.encode()).decode()}"
            return await ask("POST", url, form, {"Authorization": basic})
        return await ask("POST", url, {"client_id": self._id, "client_secret": secret, **form})

    def _granted(self, answer: OAuthAnswer) -> OAuthGrant:
        token = answer.text("access_token")
        kind = (answer.text("token_type") or "bearer").lower()
        if answer.status != 200 or token is None:
            raise self._refusal(answer)
        if kind != "bearer":
            problem = f"{self.server.issuer} issued a token of type {kind[:40]}, not a bearer token"
            raise TokenError(problem, denied=True)
        lifetime = answer.seconds("expires_in")
        ends = None if lifetime is None else time.time() + lifetime
        return OAuthGrant(IssuedToken(token, ends), answer.text("refresh_token"))

    def _refusal(self, answer: OAuthAnswer) -> TokenError:
        """Why there is no token. RFC 6749, 5.2: a refusal is 400 or 401 with an ``error``."""
        error = (answer.text("error") or "")[:100]
        described = (answer.text("error_description") or "")[:300]
        said = ": ".join(filter(None, (error, described))) or f"HTTP {answer.status}"
        denied = answer.status in (400, 401, 403) and bool(error)
        return TokenError(f"{self.server.issuer} issues no token: {said}", denied=denied)
