"""OAuth 2.0 Protected Resource Metadata (RFC 9728): where a client gets a token for this facade."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from aiohttp import web
from pydantic import ConfigDict, Field

from mcp_discovery.facade.access.challenge import CHALLENGES, WELL_KNOWN
from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.problems import ProblemError


class ProtectedResource(Shaped):
    """What a client needs to know to get a token."""

    model_config = ConfigDict(alias_generator=None)  # the names are RFC 9728's

    resource: str = Field(description="The `resource` to ask the issuer for (RFC 8707).")
    authorization_servers: list[str] = Field([], description="The issuers whose tokens count.")
    scopes_supported: list[str] = Field([], description="Scopes to ask the issuer for.")
    bearer_methods_supported: list[str] = Field(description="Always the `Authorization` header.")
    resource_name: str


async def metadata(request: web.Request) -> web.Response:
    """Where a client gets a token for this facade, as OAuth's metadata of a protected resource.

    RFC 9728. Only a facade with `--auth` has it; anybody may read it.
    """
    return _described(request, "")


async def mcp_metadata(request: web.Request) -> web.Response:
    """Where an MCP client gets a token for `/mcp`."""
    return _described(request, "/mcp")


async def gateway_metadata(request: web.Request) -> web.Response:
    """Where an MCP client gets a token for a server behind the gateway, whether it is there or not.

    Whether there is such a server is told only to who may see it.
    """
    name = quote(request.match_info["name"], safe="")
    return _described(request, f"/gateway/{name}/mcp")


def _described(request: web.Request, path: str) -> web.Response:
    challenges = request.app[CHALLENGES]
    described: dict[str, Any] | None = challenges.resource(request, path)
    if described is None:
        detail = "this facade asks for no credentials; it was started without --auth"
        raise ProblemError(404, "no-authentication", detail)
    response = web.json_response(described)
    response.headers["Cache-Control"] = "max-age=60"
    return response


def _operation(path: str, handler: Any) -> Operation:
    return Operation(
        "GET",
        path,
        handler,
        "facade",
        answers={200: ProtectedResource},
        errors=(404,),
        lenient=True,
        needs="open",
    )


OPERATIONS = (
    _operation(WELL_KNOWN, metadata),
    _operation(f"{WELL_KNOWN}/mcp", mcp_metadata),
    _operation(f"{WELL_KNOWN}/gateway/{{name}}/mcp", gateway_metadata),
)
