"""The members of a cluster that can be asked while others are broken."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, TypeVar

from tests.stores.cluster import Member, StoreCluster
from tests.stores.server import StoreServer
from tests.stores.waiting import NotYet, until

T = TypeVar("T")

PATIENCE = 150.0
"""Seconds to wait for a store that another fault has."""


class Members(Generic[Member]):
    """Asks the members of ``cluster`` that answer and are not ``apart``, each in turn."""

    def __init__(self, cluster: StoreCluster[Member], apart: Collection[StoreServer]) -> None:
        self._cluster = cluster
        self._apart = apart

    async def until(self, ask: Callable[[Member], Awaitable[T]], what: str) -> T:
        """What the first of them answers that answers something true; ``what`` is what for."""
        attempts = itertools.count()

        async def answer() -> T:
            able = [each for each in self._cluster.answering if each not in self._apart]
            if not able:
                raise NotYet("no member answers")
            return await ask(able[next(attempts) % len(able)])

        return await until(answer, timeout=PATIENCE, what=what)
