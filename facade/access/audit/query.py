"""Events as they are listed: newest first, by who, what, where and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from mcp_discovery.facade.access.audit.event import merged
from mcp_discovery.facade.http.problems import ProblemError

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from mcp_discovery.facade.access.audit.database import DatabaseLog

#: How many events are read at once, and at most for one page whose caller may see few of them.
_AT_ONCE, _MOST_READ = 500, 20_000


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What is asked for. ``since`` and ``until`` are POSIX times, ``until`` excluded.

    ``fields`` are equal to columns of the store; ``result`` is of the outcome; ``cursor`` is the id
    of the event that the page comes after.
    """

    fields: Mapping[str, str]
    result: str | None = None
    since: float | None = None
    until: float | None = None
    cursor: str | None = None
    limit: int = 50


async def events(
    log: DatabaseLog, query: AuditQuery, visible: Callable[[Mapping[str, Any]], bool]
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of events, and the cursor of the next one, ``None`` at the end.

    An event has its place where it began, so that pages neither repeat nor skip one. Raises
    :class:`ProblemError` (400) for a cursor that is not known (any more), and
    :class:`~mcp_discovery.facade.access.audit.journal.AuditLogError`.
    """
    from sqlalchemy import and_, func, select

    from mcp_discovery.facade.access.audit.database import LOG

    ended = LOG.alias("ended")
    own = and_(ended.c.event_id == LOG.c.event_id, ended.c.phase == "ended")
    conditions: list[ColumnElement[bool]] = [LOG.c.phase.in_(("begun", "whole"))]
    conditions += [LOG.c[name] == value for name, value in query.fields.items()]
    if query.result is not None:
        conditions.append(func.coalesce(ended.c.result, LOG.c.result, "unknown") == query.result)
    if query.since is not None:
        conditions.append(LOG.c.at >= round(query.since * 1e6))
    if query.until is not None:
        conditions.append(LOG.c.at < round(query.until * 1e6))
    found: list[dict[str, Any]] = []
    read = 0
    async with log.reading() as connection:
        below: int | None = None
        if query.cursor is not None:
            place = select(LOG.c.sequence).where(
                LOG.c.event_id == query.cursor, LOG.c.phase != "ended"
            )
            below = (await connection.execute(place)).scalar()
            if below is None:
                detail = "the event that cursor names is not there (any more); start over without"
                raise ProblemError(400, "unknown-cursor", detail, parameter="cursor")
        last: str | None = None
        while read < _MOST_READ:
            page = (
                select(LOG.c.sequence, LOG.c.event_id, LOG.c.entry, ended.c.entry.label("end"))
                .select_from(LOG.outerjoin(ended, own))
                .where(*conditions, *(() if below is None else (LOG.c.sequence < below,)))
                .order_by(LOG.c.sequence.desc())
                .limit(min(_AT_ONCE, query.limit + 1))
            )
            rows = (await connection.execute(page)).all()
            for row in rows:
                end = None if row.end is None else orjson.loads(row.end)
                each = merged(orjson.loads(row.entry), end)
                if not visible(each):
                    continue
                if len(found) == query.limit:
                    return found, last
                found.append(each)
                last = each["eventId"]
            read += len(rows)
            if len(rows) < min(_AT_ONCE, query.limit + 1):
                return found, None
            below = rows[-1].sequence
    return found, rows[-1].event_id
