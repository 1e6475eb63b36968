"""Where the next page begins, in characters that need no encoding in a URL.

VS Code appends a cursor as it is, and leaves out the search from the second page on: a cursor
carries the filters of the question that it came from.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registry.entries import Key
from mcp_discovery.health import rfc3339
from mcp_discovery.record import parse_moment

#: Which entries are wanted where the version is no version.
LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are asked for; what is ``None`` leaves the matter open.

    ``search`` is part of a name, in any case; ``version`` is one, or :data:`LATEST`. ``since``
    implies ``deleted``.
    """

    search: str | None = None
    version: str | None = None
    since: datetime | None = None
    deleted: bool | None = None

    @property
    def with_deleted(self) -> bool:
        """Whether those that are gone are wanted, too."""
        return bool(self.deleted) or self.since is not None

    def or_else(self, other: Wanted) -> Wanted:
        """What is asked for here, and of ``other`` what is left open here."""
        return Wanted(
            search=other.search if self.search is None else self.search,
            version=other.version if self.version is None else self.version,
            since=other.since if self.since is None else self.since,
            deleted=other.deleted if self.deleted is None else self.deleted,
        )


def encode(after: Key, wanted: Wanted) -> str:
    """The cursor of the page behind ``after``: only letters, digits, ``-`` and ``_``."""
    since = None if wanted.since is None else rfc3339(wanted.since)
    data = orjson.dumps([*after, wanted.search, wanted.version, since, wanted.deleted])
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> tuple[Key, Wanted]:
    """What :func:`encode` made a cursor of; raises :class:`ProblemError` (400) for anything
    else."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return _read(orjson.loads(data))
    except (binascii.Error, ValueError) as error:
        detail = (
            f"cursor={text[:100]!r} is none of this registry's; send back the nextCursor of the "
            "page before, or leave it out to begin anew"
        )
        raise ProblemError(400, "bad-cursor", detail, parameter="cursor") from error


def _read(parts: Any) -> tuple[Key, Wanted]:
    match parts:
        case [
            str(name),
            str(before),
            str() | None as search,
            str() | None as version,
            str() | None as since,
            bool() | None as deleted,
        ]:
            moment = None if since is None else parse_moment(since)
            return (name, before), Wanted(search, version, moment, deleted)
        case _:
            raise ValueError("not the parts of a cursor")
