"""The problem document that every error is answered with (RFC 9457)."""

from __future__ import annotations

from pydantic import Field

from mcp_discovery.facade.http.shape import Shaped


class Problem(Shaped):
    """What went wrong and what to do about it; the facts are further members."""

    type: str = Field(description="`urn:mcp-discovery:problem:<kind>`, or `about:blank`.")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="One sentence, for people.")
    instance: str = Field(description="The path that was asked for.")
