"""Which headers pass the gateway, and the session ids that name the instance in them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp import web
from multidict import CIMultiDict

from mcp_discovery.facade.http.outbound import MARK
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.http.tracing import REQUEST_ID, request_id
from mcp_discovery.record import is_label

#: The header of MCP before 2026-07-28 in which a session's id comes and goes.
SESSION = "Mcp-Session-Id"


def wrapped(instance: str, session: str) -> str:
    """What a client is given for ``session`` of ``instance``.

    An instance's id is a DNS label, so that the first dot ends it; the session's own id stays as
    the server made it.
    """
    return f"{instance}.{session}"


def unwrapped(text: str) -> tuple[str, str] | None:
    """The instance's id and its session; ``None`` for what :func:`wrapped` did not make."""
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
#: Besides those: what is written anew, and cookies, since all servers share the gateway's origin.
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
#: Which pages may read an answer is for the facade to say, as for all its answers.
_NOT_TO_CLIENT = frozenset(("set-cookie", SESSION.lower()))
_CORS = "access-control-"
#: What aiohttp reads bytes as that are no UTF-8; it would not write them again.
_SURROGATE = re.compile("[\ud800-\udfff]")


def refuse_loop(request: web.Request) -> None:
    """Raises :class:`ProblemError` (508) for a request that has been through a gateway, or is a
    probe.

    One facade's list may have another's address, or its own: nobody would be at the end of that.
    """
    through = (each.split()[1:2] for each in _listed(request, "Via"))
    if [_PSEUDONYM] in through or MARK in request.headers:
        detail = (
            "this request comes from a facade, and the address of a facade's gateway is no "
            "server's; register the server's own URL"
        )
        raise ProblemError(508, "loop", detail)


def to_server(request: web.Request, session: str | None) -> CIMultiDict[str]:
    """The headers for the server; ``session`` is its own id of the session, if there is one."""
    passed = _end_to_end(request.headers, _NOT_TO_SERVER)
    if session is not None:
        passed[SESSION] = session
    if (id := request_id()) is not None:
        passed[REQUEST_ID] = id
    version = f"{request.version.major}.{request.version.minor}"
    passed["Via"] = ", ".join((*_listed(request, "Via"), f"{version} {_PSEUDONYM}"))
    remote = (request.remote,) if request.remote else ()
    passed["X-Forwarded-For"] = ", ".join((*_listed(request, "X-Forwarded-For"), *remote))
    # What a proxy in front of the facade saw is nearer to the client.
    for name, seen in (("X-Forwarded-Host", request.host), ("X-Forwarded-Proto", request.scheme)):
        passed[name] = request.headers.get(name, seen)
    return passed


def to_client(headers: Mapping[str, str], instance: str) -> CIMultiDict[str]:
    """The headers for the client of an answer by ``instance``."""
    passed = _end_to_end(headers, _NOT_TO_CLIENT)
    for name in [each for each in passed if each.lower().startswith(_CORS)]:
        passed.popall(name, None)
    if session := headers.get(SESSION):
        passed[SESSION] = wrapped(instance, session)
    return passed


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
