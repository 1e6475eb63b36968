"""Page tokens of the ARD registry: behind what the next page begins, and of which query it is."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from mcp_discovery.facade.http.problems import ProblemError


def encode(made_for: str, *behind: object) -> str:
    """The token of the page behind ``behind``, in answer to the query ``made_for``."""
    data = orjson.dumps([made_for, *behind])
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(token: str, made_for: str, *kinds: type) -> list[Any]:
    """What :func:`encode` put in; raises :class:`ProblemError` (400) for anything else."""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        content = orjson.loads(data)
    except ValueError:
        content = None
    if isinstance(content, list) and content and content[0] == made_for:
        behind = content[1:]
        if len(behind) == len(kinds) and all(map(isinstance, behind, kinds)):
            return behind
    raise bad_token()


def bad_token() -> ProblemError:
    """The error (400) for a token that is not of the query."""
    detail = (
        "pageToken: is not one of this query; send back the pageToken of the page before with the "
        "same query, or leave it out to begin anew"
    )
    return ProblemError(400, "bad-cursor", detail)
