"""Who may come in to the bridges of a process: by host and page, and by token or certificate."""

from __future__ import annotations

import hmac
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from mcp_discovery.credential_files import FollowedFiles, unfit_for_header
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.front_door import FrontDoor, NotAdmittedError
from mcp_discovery.listener_tls import ListenerTLS
from mcp_discovery.listening import is_loopback
from mcp_discovery.mcp_messages import INVALID_REQUEST, JsonRpcError
from mcp_discovery.mcp_responses import error_response
from mcp_discovery.probe import ServerTls
from mcp_discovery.record import Auth
from mcp_discovery.sidecar.settings import SidecarSettings

_OPEN_ADVICE = (
    "give --bridge-token-file, or --bridge-client-ca with a certificate, or --listen an address of "
    "loopback; or say --bridge-open where a mesh or a network policy asks who comes"
)


@dataclass(frozen=True, slots=True)
class BridgeCredentials:
    """What lets a client in, and how its sidecar comes in itself.

    ``tokens`` are those of the file, ``own`` is the sidecar's, which no file has; ``tls`` is that
    of the listener, with whose certificates clients may come as well.
    """

    tokens: FollowedFiles[frozenset[bytes]] | None
    tls: ListenerTLS | None
    by_certificate: bool
    own: str

    @classmethod
    def of(cls, settings: SidecarSettings, host: str) -> BridgeCredentials:
        """What ``settings`` say of who may come to ``host``.

        Raises :class:`~mcp_discovery.errors.InvalidInputError`, also where anybody could who
        reaches an address that is not this machine's alone.
        """
        file, ca = settings.bridge_token_file, settings.bridge_client_ca
        tls = None
        if settings.bridge_cert and settings.bridge_key:
            tls = ListenerTLS(settings.bridge_cert, settings.bridge_key, ca)
        if not (file or ca or settings.bridge_open or is_loopback(host)):
            raise InvalidInputError(
                f"whoever reaches {host} could call the server's tools; {_OPEN_ADVICE}"
            )
        tokens = None if file is None else FollowedFiles("bridge's tokens", [file], _tokens)
        return cls(tokens, tls, ca is not None, secrets.token_urlsafe(32))

    @property
    def are_wanted(self) -> bool:
        """Whether a client needs any."""
        return self.tokens is not None or self.by_certificate

    @property
    def auth(self) -> Auth | None:
        """What the record says of them."""
        if not self.are_wanted:
            return None
        return Auth(type="bearer" if self.tokens is not None else "mtls")

    def own_tls(self, certificate: str) -> ServerTls:
        """How the sidecar knows its own bridge: by the certificate itself, whatever its names."""
        files = FollowedFiles("bridge's certificate", [certificate], _pinned)
        return ServerTls(files.current)

    def let_in(self, request: web.Request) -> bool:
        """Whether ``request`` comes with one of them."""
        if not self.are_wanted:
            return True
        transport = request.transport if self.by_certificate else None
        if transport is not None and transport.get_extra_info("peercert"):
            return True
        given = request.headers.getall("Authorization", [])
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer":
            return False
        known = {self.own.encode()} | (self.tokens.current() if self.tokens else frozenset())
        offered = token.strip().encode(errors="surrogateescape")
        same = [hmac.compare_digest(offered, each) for each in known]  # all, in equal time
        return any(same)


class Entrance:
    """The one way in to all bridges of a process."""

    def __init__(self, settings: SidecarSettings, credentials: BridgeCredentials) -> None:
        hosts = list(settings.allowed_hosts)
        if settings.advertise_url is not None:
            hosts += filter(None, [urlsplit(settings.advertise_url).hostname])
        if (host := settings.listen_place[0]) is not None:
            hosts.append(host)
        self._door = FrontDoor(
            [each for each in hosts if ":" not in each],
            public_url=settings.advertise_url,
            what="sidecar",
        )
        self._credentials = credentials

    def refusal(self, request: web.Request) -> web.Response | None:
        """The response to a request that goes no further; ``None`` where it may."""
        try:
            self._door.check(request)
        except NotAdmittedError as error:
            return error_response(
                None, JsonRpcError(INVALID_REQUEST, str(error), status=error.status)
            )
        if self._credentials.let_in(request):
            return None
        detail = "send Authorization: Bearer and the token that the server's operator gives"
        if self._credentials.tokens is None:
            detail = "show a client certificate that the server's operator knows the CA of"
        response = error_response(None, JsonRpcError(INVALID_REQUEST, detail, status=401))
        response.headers["WWW-Authenticate"] = "Bearer"
        return response


def _tokens(contents: Sequence[bytes]) -> frozenset[bytes]:
    """The tokens in a file, one a line: while one takes the place of another there are two."""
    found = [each.strip() for each in contents[0].splitlines() if each.strip()]
    if not found:
        raise ValueError("holds no token; write one a line")
    for number, each in enumerate(found, 1):
        if (problem := unfit_for_header(each.decode(errors="replace"))) is not None:
            raise ValueError(f"token {number} {problem}")
    return frozenset(found)


def _pinned(contents: Sequence[bytes]) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=contents[0].decode("ascii", "replace"))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context
