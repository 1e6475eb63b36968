"""Credentials for servers, which go to the origins that they are for, and to nobody else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from pathlib import Path

import httpx2

from mcp_discovery.credential_files import Secret
from mcp_discovery.origins import Origins


class Credentials:
    """What a server is given that has an ``origin``.

    ``token`` is a bearer token, the ``Path`` of a file that holds one and is followed, or an
    ``httpx2.Auth`` (the SDK's OAuth providers are); ``headers`` go with it or without one.
    ``origin`` is where they are sent, or several such: ``https://payments.example.com``, with globs
    in the host (``http://10.1.*.*:8000``). A server elsewhere gets nothing, whatever its name.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` for what cannot be used.
    """

    def __init__(
        self,
        token: str | Path | httpx2.Auth | None = None,
        origin: str | Iterable[str] = (),
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        #: Where they are sent.
        self.origins = Origins(origin)
        if isinstance(token, str | Path):
            given, file = (token, None) if isinstance(token, str) else (None, str(token))
            token = _BearerToken(Secret(f"token for {self.origins}", given, file))
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


class _BearerToken(httpx2.Auth):
    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        token = self._secret.current()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code in (401, 403) and (fresh := self._secret.renewed()) != token:
            request.headers["Authorization"] = f"Bearer {fresh}"
            yield request
