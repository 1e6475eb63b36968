"""A facade that records what happens, and questions to its audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.facade.harness import Client
from tests.stores.waiting import until


async def logs(ask: Client, query: str = "", **more: Any) -> list[dict[str, Any]]:
    """The events that an audit tells, the newest first."""
    reply = await ask("GET", f"/audit{query}", **more)
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json["logs"]
    return found


async def until_recorded(
    ask: Client, wanted: Mapping[str, Any], query: str = "", **more: Any
) -> dict[str, Any]:
    """The newest event that is as ``wanted``, by paths such as ``outcome.status``."""

    async def there() -> dict[str, Any] | None:
        found = await logs(ask, query, **more)
        return next((each for each in found if matches(each, wanted)), None)

    event = await until(there, timeout=10, what=f"an event with {wanted}")
    assert event is not None
    return event


def matches(event: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether ``event`` has the ``wanted`` values at their paths."""
    return all(at(event, path) == value for path, value in wanted.items())


def at(event: Mapping[str, Any], path: str) -> Any:
    """What stands in ``event`` at ``path``, ``None`` for nothing."""
    found: Any = event
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
