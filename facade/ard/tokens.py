"""Page tokens of the ARD registry: behind what the next page begins, and of which query it is."""

from __future__ import annotations

from typing import Any

from mcp_discovery.facade.http import cursors
from mcp_discovery.facade.http.problems import ProblemError


def encode(made_for: str, *behind: object) -> str:
    """The token of the page behind ``behind``, in answer to the query ``made_for``."""
    return cursors.encode(made_for, *behind)


def decode(token: str, made_for: str, *kinds: type) -> list[Any]:
    """What :func:`encode` put in; raises :class:`ProblemError` (400) for anything else."""
    match cursors.decode(token):
        case [str(given), *behind] if given == made_for and len(behind) == len(kinds):
            if all(map(isinstance, behind, kinds)):
                return behind
    raise bad_token()


def bad_token() -> ProblemError:
    """The error (400) for a token that is not of the query."""
    detail = (
        "pageToken: is not one of this query; send back the pageToken of the page before with the "
        "same query, or leave it out to begin anew"
    )
    return ProblemError(400, "bad-cursor", detail)
