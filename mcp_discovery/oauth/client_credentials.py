"""Tokens for machines: the client credentials grant (RFC 6749, 4.4)."""

from __future__ import annotations

from urllib.parse import urlsplit

from mcp_discovery.bearer_tokens import IssuedToken
from mcp_discovery.credential_files import Secret
from mcp_discovery.errors import InvalidInputError, TokenError
from mcp_discovery.oauth.client import OAuthClient
from mcp_discovery.oauth.metadata import authorization_server


class ClientCredentials:
    """A function that returns a token for a machine, as ``Discovery(token=…)`` takes it::

        token = ClientCredentials(
            "https://issuer.example", "my-agent", client_secret_file="/run/secrets/oauth",
            resource="https://facade.example",
        )

    ``issuer`` is the authorization server, whose metadata say the rest; the secret goes there
    alone. It may be given itself, or in a file, which is followed. ``resource`` is whom the token
    is for (RFC 8707): the facade's address; ``None`` where the server wants a ``scope`` instead.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` for what cannot be used; a call raises
    :class:`~mcp_discovery.errors.TokenError`.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        *,
        client_secret: str | None = None,
        client_secret_file: str | None = None,
        scope: str | None = None,
        resource: str | None = None,
    ) -> None:
        require_issuer(issuer)
        if client_secret is None and client_secret_file is None:
            raise InvalidInputError("an OAuth client without a secret gets no token for itself")
        self._issuer = issuer
        self._id = client_id
        self._secret = Secret(
            "OAuth client's secret", client_secret, client_secret_file, in_header=False
        )
        given = {"scope": scope, "resource": resource}
        self._wanted = {name: text for name, text in given.items() if text}
        self._client: OAuthClient | None = None

    def __repr__(self) -> str:
        return f"ClientCredentials({self._issuer!r}, {self._id!r})"

    async def __call__(self) -> IssuedToken:
        """A new token."""
        if self._client is None:
            server = await authorization_server(self._issuer)
            self._client = OAuthClient(server, self._id, self._secret)
        try:
            grant = await self._client.client_credentials(self._wanted)
        except TokenError as error:
            if not error.denied:
                self._client = None  # its metadata are read again: an endpoint may have moved
            raise
        return grant.token


def require_issuer(issuer: str) -> None:
    """Raises :class:`InvalidInputError` for what is no issuer's address."""
    try:
        parts = urlsplit(issuer)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        fits = False
    if not fits or parts.query or parts.fragment or parts.username is not None:
        raise InvalidInputError(
            f"{issuer.rpartition('@')[2][:300]!r} is no issuer; write its address, such as "
            "https://issuer.example"
        )
