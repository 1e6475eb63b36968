"""The parts of a facade that show the list, as the caller of a request sees it.

Whatever shows the list takes the parts that it shows it with from :func:`parts_of`, and never from
the application: callers that see different things have different parts. Which there are is said in
:mod:`mcp_discovery.facade.access.list_parts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiohttp import web

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Part(Generic[T]):
    """What one part, a ``T``, is found by; ``name`` is for people."""

    name: str


class PartSet:
    """One part of each name, all over the same list."""

    def __init__(self) -> None:
        self._parts: dict[Part[Any], Any] = {}

    def __getitem__(self, part: Part[T]) -> T:
        found: T = self._parts[part]
        return found

    def __setitem__(self, part: Part[T], value: T) -> None:
        self._parts[part] = value


_OF_CALLER = web.RequestKey("parts", PartSet)


def parts_of(request: web.Request) -> PartSet:
    """The parts for the caller of ``request``."""
    return request[_OF_CALLER]


def given_parts(request: web.Request, parts: PartSet) -> None:
    """``request`` is answered by ``parts``."""
    request[_OF_CALLER] = parts
