"""Lists as JSON, joined from what each entry has serialised once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import orjson
from aiohttp import web

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.errors import OutdatedRevisionError
from mcp_discovery.health import rfc3339

#: The header that says of which state of the list an answer is: ``<epoch>:<revision>``.
REVISION = "X-Discovery-Revision"


def position(view: View) -> str:
    """Where ``view`` stands: ``<epoch>:<revision>``."""
    return f"{view.epoch}:{view.revision}"


def read_position(text: str) -> tuple[str, int]:
    """The epoch and the revision of a position.

    Raises :class:`OutdatedRevisionError` for any other text: its reader has to start over.
    """
    epoch, colon, revision = text.partition(":")
    if not colon or not revision.isascii() or not revision.isdigit() or len(revision) > 18:
        problem = "is no position of this facade; it is epoch:revision"
        raise OutdatedRevisionError(f"{text[:100]!r} {problem}")
    return epoch[:100], int(revision)


def json_response(body: object, view: View | None = None, *, status: int = 200) -> web.Response:
    """``body`` as JSON, with the revision of ``view`` where it was made from one."""
    headers = {REVISION: position(view)} if view is not None else {}
    return web.Response(
        status=status, body=orjson.dumps(body), content_type="application/json", headers=headers
    )


def joined(entries: Iterable[Entry], now: datetime) -> bytes:
    """The entries as one JSON array."""
    return b"[" + b",".join([entry.json(now) for entry in entries]) + b"]"


def caveats(view: View) -> dict[str, str]:
    """``staleSince`` and ``problem`` while the store is away, ``partial`` while its credentials
    hide a part of the list from this facade, else nothing."""
    found = {} if view.partial is None else {"partial": view.partial}
    if view.stale_since is not None:
        found |= {"staleSince": rfc3339(view.stale_since), "problem": view.problem or ""}
    return found


def with_members(first: bytes, members: dict[str, object]) -> bytes:
    """The JSON object ``first`` with ``members`` behind its own."""
    return first[:-1] + b"," + orjson.dumps(members)[1:] if members else first


def servers(view: View, entries: Iterable[Entry]) -> bytes:
    """``{"servers": […]}``, with what is said of a stale or partial list."""
    body = b'{"servers":' + joined(entries, view.as_of) + b"}"
    return with_members(body, dict(caveats(view)))
