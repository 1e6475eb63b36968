"""The headers that pass the gateway, and session ids that name the instance that gave them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp import web
from multidict import CIMultiDict

from mcp_discovery.facade.http.outbound import MARK
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.http.tracing import REQUEST_ID, request_id
from mcp_discovery.record import is_label

#: The header with a legacy session's id.
SESSION = "Mcp-Session-Id"


def unwrap_session(text: str) -> tuple[str, str] | None:
    """The instance's id and its own session id; ``None`` where ``text`` has not that form.

    A client's session id names the instance, so that any facade can route it. An instance's id is a
    DNS label, so the first dot ends it.
    """
    instance, _, session = text.partition(".")
    return (instance, session) if session and is_label(instance) else None


#: What the gateway calls itself in ``Via`` (RFC 9110, 7.6.3).
_PSEUDONYM = "mcp-discovery"
#: For one connection only (RFC 9110, 7.6.1), whether ``Connection`` names them or not.
_HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    )
)
#: Further headers not forwarded: those that the gateway writes itself, and cookies, since all
#: servers share the gateway's origin.
_NOT_TO_SERVER = frozenset(
    (
        *("host", "content-length", "expect", "cookie", "via", "x-forwarded-for"),
        *(
            "x-forwarded-host",
            "x-forwarded-proto",
            SESSION.lower(),
            MARK.lower(),
            REQUEST_ID.lower(),
        ),
    )
)
#: Headers not returned to the client; so are those of CORS, which the facade sets itself.
_NOT_TO_CLIENT = frozenset(("set-cookie", SESSION.lower()))
_CORS = "access-control-"
#: aiohttp decodes bytes that are no UTF-8 to surrogates, which it refuses to encode.
_SURROGATE = re.compile("[\ud800-\udfff]")


def reject_loop(request: web.Request) -> None:
    """Raises :class:`ProblemError` (508) for a request that a gateway has forwarded, or a probe.

    The address of a server in the list may be that of a facade, this one included: such a request
    would go round for ever.
    """
    through = (each.split()[1:2] for each in _listed(request, "Via"))
    if [_PSEUDONYM] in through or MARK in request.headers:
        detail = (
            "this request comes from a facade, and the address of a facade's gateway is no "
            "server's; register the server's own URL"
        )
        raise ProblemError(508, "loop", detail)


def to_server(request: web.Request, session: str | None) -> CIMultiDict[str]:
    """The headers for the server; ``session`` is the server's own session id, if there is one."""
    forwarded = _end_to_end(request.headers, _NOT_TO_SERVER)
    if session is not None:
        forwarded[SESSION] = session
    if (id := request_id()) is not None:
        forwarded[REQUEST_ID] = id
    version = f"{request.version.major}.{request.version.minor}"
    forwarded["Via"] = ", ".join((*_listed(request, "Via"), f"{version} {_PSEUDONYM}"))
    remote = (request.remote,) if request.remote else ()
    forwarded["X-Forwarded-For"] = ", ".join((*_listed(request, "X-Forwarded-For"), *remote))
    # A proxy in front of the facade has seen the client's own values.
    for name, seen in (("X-Forwarded-Host", request.host), ("X-Forwarded-Proto", request.scheme)):
        forwarded[name] = request.headers.get(name, seen)
    return forwarded


def to_client(headers: Mapping[str, str], instance: str) -> CIMultiDict[str]:
    """The headers for the client of a response by ``instance``."""
    forwarded = _end_to_end(headers, _NOT_TO_CLIENT)
    for name in [each for each in forwarded if each.lower().startswith(_CORS)]:
        forwarded.popall(name, None)
    if session := headers.get(SESSION):
        forwarded[SESSION] = f"{instance}.{session}"
    return forwarded


def _end_to_end(headers: Mapping[str, str], dropped: frozenset[str]) -> CIMultiDict[str]:
    named = {each.strip().lower() for each in headers.get("Connection", "").split(",")}
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if (low := name.lower()) not in _HOP_BY_HOP
        and low not in dropped
        and low not in named
        and _SURROGATE.search(value) is None
    )


def _listed(request: web.Request, name: str) -> list[str]:
    whole = ",".join(request.headers.getall(name, ()))
    return [each.strip() for each in whole.split(",") if each.strip()]
