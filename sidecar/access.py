"""How a sidecar reaches its MCP server: the URL, the credentials, and whose certificate it trusts.

Nothing of it is sent to another origin than the one it is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from mcp_discovery.credential_files import Secret
from mcp_discovery.probe import ServerTls
from mcp_discovery.probe.bearer import BearerAuth
from mcp_discovery.sidecar.advertise import dialled_url
from mcp_discovery.sidecar.settings import SidecarSettings
from mcp_discovery.tls_files import TLSFiles


@dataclass(frozen=True, slots=True)
class Access:
    """``url`` is dialled, ``auth`` signs what goes to its origin, the health URL included;
    ``health_auth`` is for that URL alone, in the place of ``auth``."""

    url: str
    auth: BearerAuth
    tls: ServerTls
    health_auth: BearerAuth | None
    health_tls: ServerTls

    @property
    def tls_elsewhere(self) -> ServerTls:
        """As agents verify its certificate: for the host in the advertised URL."""
        return ServerTls(self.tls.context)

    @classmethod
    def of(cls, settings: SidecarSettings) -> Self:
        """What ``settings`` say; reads the files that they name.

        Raises :class:`~mcp_discovery.errors.InvalidInputError` where one cannot be used.
        """
        url = dialled_url(settings.url)
        token = Secret("MCP server's token", settings.server_token, settings.server_token_file)
        trusted = TLSFiles(settings.server_ca, whom="server")
        tls = ServerTls(trusted.current, settings.server_name)
        health_auth, health_tls = None, tls
        if settings.health_url is not None:
            if settings.health_token or settings.health_token_file:
                secret = Secret(
                    "health URL's token", settings.health_token, settings.health_token_file
                )
                health_auth = BearerAuth(secret, settings.health_url)
            if urlsplit(settings.health_url).hostname != urlsplit(settings.url).hostname:
                health_tls = ServerTls(tls.context)  # the name is that of the MCP server
        auth = BearerAuth(token, url, settings.server_headers)
        return cls(url, auth, tls, health_auth, health_tls)
