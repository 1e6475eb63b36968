"""Credentials for servers, which go to the origins that they are for, and to nobody else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path

import httpx2

from mcp_discovery.bearer_tokens import AskForToken, BearerToken
from mcp_discovery.errors import TokenError
from mcp_discovery.origins import Origins


class Credentials:
    """What a server is given that has an ``origin``.

    ``token`` is a bearer token, the ``Path`` of a file that holds one and is followed, a function
    that returns one as that of ``Discovery(token=…)`` does, or an ``httpx2.Auth`` (the SDK's OAuth
    providers are); ``headers`` go with it or without one.
    ``origin`` is where they are sent, or several such: ``https://payments.example.com``, with globs
    in the host (``http://10.1.*.*:8000``). A server elsewhere gets nothing, whatever its name.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` for what cannot be used.
    """

    def __init__(
        self,
        token: str | Path | AskForToken | httpx2.Auth | None = None,
        origin: str | Iterable[str] = (),
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        #: Where they are sent.
        self.origins = Origins(origin)
        if token is not None and not isinstance(token, httpx2.Auth):
            token = _BearerAuth(token, f"token for {self.origins}")
        self._auth = token
        self._headers = dict(headers or {})

    def __repr__(self) -> str:
        return f"Credentials(origin={str(self.origins)!r})"

    @property
    def auth(self) -> httpx2.Auth:
        """What adds them to requests to their origins alone, wherever a redirect leads."""
        return _AtOrigins(self.origins, self._headers, self._auth)


class _AtOrigins(httpx2.Auth):
    def __init__(
        self, origins: Origins, headers: Mapping[str, str], inner: httpx2.Auth | None
    ) -> None:
        self._origins = origins
        self._headers = headers
        self._inner = inner
        if inner is not None:
            self.requires_request_body = inner.requires_request_body
            self.requires_response_body = inner.requires_response_body

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        if not self._origins.include(str(request.url)):
            yield request
            return
        request.headers.update(self._headers)
        if self._inner is None:
            yield request
            return
        flow = self._inner.async_auth_flow(request)
        try:
            following = await anext(flow)
            while True:
                response = yield following
                following = await flow.asend(response)
        except StopAsyncIteration:
            return
        finally:
            await flow.aclose()


class _BearerAuth(httpx2.Auth):
    """Sends a token, and another one where there is one after a refusal. A function is asked for
    it again after a 401 alone."""

    def __init__(self, given: str | Path | AskForToken, what: str) -> None:
        token, file = (None, str(given)) if isinstance(given, Path) else (given, None)
        self._token = BearerToken(what, token, file)
        self._refusals = (401,) if callable(token) else (401, 403)

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        try:
            token = await self._token.current()
            request.headers["Authorization"] = f"Bearer {token}"
            response = yield request
            if response.status_code not in self._refusals:
                return
            fresh = await self._token.after_refusal(token)
        except TokenError as error:  # nothing was sent, as without a connection
            raise httpx2.ConnectError(error.problem, request=request) from error
        if fresh != token:
            request.headers["Authorization"] = f"Bearer {fresh}"
            yield request
