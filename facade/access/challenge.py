"""``WWW-Authenticate``: what a refused caller learns of the credential that it needs (RFC 6750)."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from mcp_discovery.facade.access.rights import Need
from mcp_discovery.facade.http.operation import needs_of
from mcp_discovery.facade.http.problems import ProblemError


class Challenges:
    """Makes the refusals of one facade."""

    def unauthenticated(self, request: web.Request, need: Need) -> ProblemError:
        """There is no credential, and anonymous callers may not do this."""
        detail = f"this needs a credential with the right to {need}; send Authorization: Bearer …"
        headers = self._headers(request, need)
        return ProblemError(401, "unauthenticated", detail, needs=need).with_headers(headers)

    def invalid_token(self, request: web.Request) -> ProblemError:
        """There is a credential that does not count. Why is for the log alone."""
        detail = (
            "the credential is not valid here, or not any more; send Authorization: Bearer with "
            "a token that was made for this facade"
        )
        headers = self._headers(request, needs_of(request), "invalid_token")
        return ProblemError(401, "invalid-token", detail).with_headers(headers)

    def insufficient(self, request: web.Request, need: Need, detail: str) -> ProblemError:
        """The caller is known and has no right to this."""
        headers = self._headers(request, need, "insufficient_scope")
        return ProblemError(403, "forbidden", detail, needs=need).with_headers(headers)

    def _headers(
        self, request: web.Request, need: Need, error: str | None = None
    ) -> Mapping[str, str]:
        values = {"error": error, "scope": None if need == "open" else need}
        given = ", ".join(f'{name}="{value}"' for name, value in values.items() if value)
        return {"WWW-Authenticate": f"Bearer {given}".strip()}
