"""What an authorization server (RFC 8414, OpenID Connect Discovery) and a facade (RFC 9728) publish
of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from mcp_discovery.errors import TokenError
from mcp_discovery.oauth.http import OAuthAnswer, ask, is_protected

_RESOURCE = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True)
class AuthorizationServer:
    """The endpoints of one issuer."""

    issuer: str
    token_endpoint: str
    device_endpoint: str | None
    revocation_endpoint: str | None
    scopes: tuple[str, ...]
    #: How a client may show its secret (``token_endpoint_auth_methods_supported``).
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """What a facade says of its tokens: its own name, who issues them, and their scopes."""

    resource: str
    issuers: tuple[str, ...]
    scopes: tuple[str, ...]


async def authorization_server(issuer: str) -> AuthorizationServer:
    """The metadata of ``issuer``, from where RFC 8414 and OpenID Connect have it.

    Raises :class:`TokenError` where there is none, or where it is another's: of another issuer, or
    with an endpoint whose traffic is not encrypted although the issuer's is.
    """
    found: OAuthAnswer | None = None
    for url in metadata_places(issuer):
        found = await ask("GET", url)
        if found.status == 200 and found.text("issuer"):
            break
    else:
        status = "" if found is None else f" (HTTP {found.status})"
        raise TokenError(f"{issuer} has no metadata of an authorization server{status}; is it one?")
    named = found.text("issuer") or ""
    if named.rstrip("/") != issuer.rstrip("/"):
        raise TokenError(
            f"the authorization server at {issuer} calls itself {named[:300]}; give that address "
            "if it is the one",
            denied=True,
        )
    endpoints = {
        name: found.text(name)
        for name in ("token_endpoint", "device_authorization_endpoint", "revocation_endpoint")
    }
    for name, endpoint in endpoints.items():
        if endpoint is not None and is_protected(issuer) and not is_protected(endpoint):
            raise TokenError(
                f"the {name} of {issuer} is not encrypted: {endpoint[:300]}", denied=True
            )
    token_endpoint = endpoints["token_endpoint"]
    if token_endpoint is None:
        raise TokenError(f"{issuer} names no token_endpoint", denied=True)
    return AuthorizationServer(
        named,
        token_endpoint,
        endpoints["device_authorization_endpoint"],
        endpoints["revocation_endpoint"],
        found.words("scopes_supported"),
        found.words("token_endpoint_auth_methods_supported") or ("client_secret_basic",),
    )


def resource_metadata_urls(facade: str) -> tuple[str, ...]:
    """Where the facade at ``facade`` publishes what it says of its tokens: the place of RFC 9728,
    3.1, and where a proxy that takes the path off leaves it."""
    origin, path = _split(facade)
    known = f"{origin}{_RESOURCE}{path}"
    return (known, f"{origin}{path}{_RESOURCE}") if path else (known,)


def resource_of(answer: OAuthAnswer) -> ResourceMetadata | None:
    """What a facade says of its tokens; ``None`` where it says nothing."""
    resource = answer.text("resource")
    if answer.status != 200 or resource is None:
        return None
    issuers = answer.words("authorization_servers")
    return ResourceMetadata(resource, issuers, answer.words("scopes_supported"))


def metadata_places(issuer: str) -> list[str]:
    """The URLs where an authorization server's metadata may stand."""
    origin, path = _split(issuer)
    return [
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        *([f"{origin}{path}/.well-known/openid-configuration"] if path else []),
    ]


def _split(url: str) -> tuple[str, str]:
    """Origin and path, without a slash at the end."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
