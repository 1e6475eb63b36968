"""Who the facade takes a caller for: ``GET /whoami``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from mcp_discovery.facade.access.browser_session import session_of
from mcp_discovery.facade.access.caller import caller_of, refusal_of
from mcp_discovery.facade.access.rights import VERBS
from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.health import rfc3339


class SessionTimes(Shaped):
    """A browser's session: when it began and when it ends at the latest."""

    began_at: datetime
    ends_at: datetime


class Identity(Shaped):
    """The caller of a request, as the facade knows it."""

    subject: str = Field(description="Empty for an anonymous caller.")
    by: Literal["anonymous", "token", "jwt", "certificate"]
    roles: list[str]
    verbs: list[str] = Field(
        description="What it has a right to, for some servers at least: read, call, register, "
        "report, admin."
    )
    partial: list[str] = Field(
        description="Those of the verbs that it has for some servers or tools only."
    )
    expires_at: datetime | None = Field(None, description="When the credential ends, if it does.")
    session: SessionTimes | None = Field(
        None, description="The browser's session, where its cookie says who asks."
    )


async def whoami(request: web.Request) -> web.Response:
    """Who asks, by the credential that comes with this request, and what it has a right to.

    Without a credential that is `anonymous`; one that is not valid is refused.
    """
    caller = caller_of(request)
    if (refusal := refusal_of(request)) is not None:
        raise refusal
    verbs = [each for each in VERBS if each in caller.rights.verbs]
    content: dict[str, Any] = {
        "subject": caller.subject,
        "by": caller.by,
        "roles": sorted(caller.roles),
        "verbs": verbs,
        "partial": [each for each in verbs if not caller.rights.grants_all(each)],
    }
    if caller.expires_at is not None:
        content["expiresAt"] = _time(caller.expires_at)
    if (session := session_of(request)) is not None:
        content["session"] = {"beganAt": _time(session.began), "endsAt": _time(session.ends_at)}
    response = web.json_response(content)
    response.headers["Cache-Control"] = "no-store"
    return response


def _time(posix: float) -> str:
    return rfc3339(datetime.fromtimestamp(posix, UTC))


OPERATIONS = (
    Operation(
        "GET", "/whoami", whoami, "facade", answers={200: Identity}, errors=(401, 503), needs="open"
    ),
)
