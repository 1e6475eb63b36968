"""``WWW-Authenticate``: what a refused caller learns of the credential that it needs.

RFC 6750, 3, RFC 9728, 5.1, and MCP 2025-11-25, authorization.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from mcp_discovery.facade.access.auth_file import Policy
from mcp_discovery.facade.access.rights import Need, in_words
from mcp_discovery.facade.http.operation import needs_of
from mcp_discovery.facade.http.problems import ProblemError

#: Where the metadata of protected resources stand (RFC 9728, 3).
WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
#: The resources that MCP clients ask for tokens for, besides the facade as a whole.
_RESOURCES: Final = ("/mcp", "/gateway/{name}/mcp")


class Challenges:
    """Makes the refusals of one facade.

    ``base`` tells the facade's URL for a request, ``policy`` what its file says; without one nobody
    is asked for credentials.
    """

    def __init__(
        self, base: Callable[[web.Request], str], policy: Callable[[], Policy] | None
    ) -> None:
        self.base = base
        self._policy = policy

    def resource(self, request: web.Request, path: str) -> dict[str, Any] | None:
        """The metadata (RFC 9728, 2) of what is at ``path``; raises :class:`ProblemError` (400)."""
        if self._policy is None:
            return None
        policy = self._policy()
        described = {
            "resource": self.base(request) + path,
            "authorization_servers": policy.file.authorization_servers,
            "scopes_supported": policy.file.scopes_for(),
            "bearer_methods_supported": ["header"],
            "resource_name": "mcp-discovery",
        }
        # RFC 9728, 3.2: what would have no elements is left out.
        return {key: value for key, value in described.items() if value}

    def unauthenticated(self, request: web.Request, need: Need) -> ProblemError:
        """There is no credential, and anonymous callers may not do this."""
        right = f"the right to {in_words(need)}"
        detail = f"this needs a credential with {right}; send Authorization: Bearer …"
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

    def ended_session(self, request: web.Request) -> ProblemError:
        """There is a browser's session that counts no more."""
        detail = "this browser's session has ended, or counts no more; sign in again"
        headers = self._headers(request, needs_of(request), "invalid_token")
        return ProblemError(401, "session-ended", detail).with_headers(headers)

    def insufficient(self, request: web.Request, need: Need, detail: str) -> ProblemError:
        """The caller is known and has no right to this."""
        headers = self._headers(request, need, "insufficient_scope")
        return ProblemError(403, "forbidden", detail, needs=need).with_headers(headers)

    def _headers(
        self, request: web.Request, need: Need, error: str | None = None
    ) -> Mapping[str, str]:
        values = {"error": error}
        if self._policy is not None:
            values["resource_metadata"] = self._metadata_url(request)
            values["scope"] = " ".join(self._policy().file.scopes_for(need))
        given = ", ".join(f'{name}="{value}"' for name, value in values.items() if value)
        return {"WWW-Authenticate": f"Bearer {given}".strip()}

    def _metadata_url(self, request: web.Request) -> str | None:
        try:
            return self.base(request) + WELL_KNOWN + resource_path(request)
        except ProblemError:  # the Host header is no host
            return None


def resource_path(request: web.Request) -> str:
    """The path of the resource (RFC 8707) that ``request`` is for; ``""`` is the whole facade."""
    match = request.match_info
    resource = None if match.http_exception is not None else match.route.resource
    if resource is None or resource.canonical not in _RESOURCES:
        return ""
    return resource.canonical.replace("{name}", quote(match.get("name", ""), safe=""))


CHALLENGES: web.AppKey[Challenges] = web.AppKey("challenges", Challenges)
