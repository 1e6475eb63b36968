"""How a sidecar is told to end, and what other signals mean to it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from mcp_discovery.credential_files import read_again
from mcp_discovery.registrant.tasks import alongside

T = TypeVar("T")

_STOP = (signal.SIGTERM, signal.SIGINT)
_PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)


class Stop:
    """The wish to end: the first call drains and leaves, the second cuts the waiting short."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.hurry = asyncio.Event()

    def __call__(self) -> None:
        """Wishes for the end, or for a faster one."""
        (self.hurry if self.wanted.is_set() else self.wanted).set()


class PassedOn:
    """Signals for a child: those that come before it is there wait for it."""

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self._take: Callable[[int], None] = self._waiting.append

    def __call__(self, number: int) -> None:
        """Passes one on."""
        self._take(number)

    def begin(self, take: Callable[[int], None]) -> None:
        """From now on ``take`` gets them, and at once those that came before."""
        self._take = take
        for number in self._waiting:
            take(number)


async def unless_stopped(work: Coroutine[Any, Any, T], stop: Stop) -> T | None:
    """What ``work`` returns; ``None`` where ``stop`` came before it, which cancels it."""
    async with alongside(work, stop.wanted.wait()) as (working, stopped):
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None


@contextmanager
def signals(stop: Stop | None, pass_on: Callable[[int], None] | None) -> Iterator[Stop]:
    """Handles signals while the block runs: SIGTERM and SIGINT stop, SIGHUP reads credential files
    again; not at all where ``stop`` is given.

    ``pass_on`` is given those that are meant for a child.
    """
    if stop is not None:
        yield stop
        return
    wish = Stop()
    loop = asyncio.get_running_loop()
    meanings: dict[signal.Signals, Callable[[], None]] = dict.fromkeys(_STOP, wish)
    if pass_on is not None:
        meanings |= {number: partial(pass_on, number) for number in _PASSED_ON}

    def hang_up() -> None:
        read_again()
        if pass_on is not None:
            pass_on(signal.SIGHUP)

    meanings[signal.SIGHUP] = hang_up
    for number, meaning in meanings.items():
        loop.add_signal_handler(number, meaning)
    try:
        yield wish
    finally:
        for number in meanings:
            loop.remove_signal_handler(number)
