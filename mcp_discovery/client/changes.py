"""The changes of the list of servers: each difference between two states once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mcp_discovery.client.source import Everything, News, One, Staleness
from mcp_discovery.instance import Instance


@dataclass(frozen=True, slots=True)
class ServerChange:
    """One change of the list.

    ``added``, ``changed``, ``removed``: of the instance ``id``, which was ``before`` and is
    ``instance``. ``stale`` since ``since`` because of ``problem``: what is known may be old;
    ``fresh``: it is not any more.
    """

    kind: Literal["added", "changed", "removed", "stale", "fresh"]
    id: str | None = None
    instance: Instance | None = None
    before: Instance | None = None
    since: datetime | None = None
    problem: str = ""


async def changes(watch: AsyncGenerator[News, None]) -> AsyncGenerator[ServerChange, None]:
    """The differences between the states that ``watch`` yields, which is closed at the end."""
    known: dict[str, Instance] = {}
    stale = False
    async with aclosing(watch):
        async for news in watch:
            match news:
                case One(id, instance):
                    found = {id: instance}
                case Everything(instances):
                    found = {**dict.fromkeys(known), **instances}
                case Staleness(since, problem):
                    if (since is not None) != stale:
                        stale = since is not None
                        yield ServerChange(
                            "stale" if stale else "fresh", since=since, problem=problem
                        )
                    continue
            for id, instance in found.items():
                before = known.pop(id, None)
                if instance is not None:
                    known[id] = instance
                if (change := _difference(id, before, instance)) is not None:
                    yield change


def _difference(id: str, before: Instance | None, after: Instance | None) -> ServerChange | None:
    if before == after:
        return None
    kind: Literal["added", "changed", "removed"] = "changed"
    if before is None or after is None:
        kind = "added" if before is None else "removed"
    return ServerChange(kind, id, after, before)
