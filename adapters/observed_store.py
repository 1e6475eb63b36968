"""A wrapper around a store that counts or times each of its calls, and makes spans of them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from functools import partial
from typing import Any, Self, cast

from mcp_discovery.adapters.store import Change, Registration, Snapshot, Store
from mcp_discovery.errors import (
    DiscoveryError,
    RegistrationLostError,
    StoreDeniedError,
    StoreUnavailableError,
)
from mcp_discovery.health import Health
from mcp_discovery.telemetry import spans

#: Given an operation's name, the context manager inside which the operation runs.
Around = Callable[[str], AbstractContextManager[None]]

#: The methods whose calls are observed; besides them ``watch``, which is no coroutine.
_OPERATIONS = frozenset(("register", "document", "heartbeat", "update", "drain", "deregister"))
_OUTCOMES = {
    RegistrationLostError: "lost",
    StoreDeniedError: "denied",
    StoreUnavailableError: "unavailable",
    DiscoveryError: "refused",
}


class Tally:
    """Counts calls of a store, as an :data:`Around`: (operation, outcome) → number of calls.

    An operation is ``register``, ``heartbeat``, ``update``, ``drain``, ``deregister``, ``document``
    or ``watch``; an outcome ``ok``, ``lost`` (the store no longer knew the registration),
    ``denied``, ``unavailable`` or ``refused`` (any other answer, such as a second holder of an id).
    A watch that its consumer ends is not counted. ``durations`` are the seconds and the number of
    calls by operation, watches left out, which last.
    """

    def __init__(self, *operations: str) -> None:
        """``operations`` are present with 0 from the start, so that a first call shows as a step
        in a time series."""
        self.counts: Counter[tuple[str, str]] = Counter(
            {(each, outcome): 0 for each in operations for outcome in ("ok", *_OUTCOMES.values())}
        )
        self.durations: defaultdict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))

    @contextmanager
    def __call__(self, operation: str) -> Iterator[None]:
        """Counts one call, made inside the block, by its outcome."""
        began = time.monotonic()
        try:
            yield
        except DiscoveryError as error:
            outcome = next(name for kind, name in _OUTCOMES.items() if isinstance(error, kind))
            self.counts[operation, outcome] += 1
            raise
        finally:
            if operation != "watch":
                seconds, number = self.durations[operation]
                self.durations[operation] = seconds + time.monotonic() - began, number + 1
        self.counts[operation, "ok"] += 1


def observed(store: Store, around: Around) -> Store:
    """``store``, with each operation run inside ``around(its name)``; the same for its
    registrations. What is no operation, such as ``close``, is passed on as it is."""
    return cast(Store, _Observed(store, around))


class _Observed:
    """Passes every attribute of a store or registration on, with its operations observed."""

    def __init__(self, observed: Store | Registration, around: Around) -> None:
        self._observed = observed
        self._around = around
        self._beaten: Health | None = None

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._observed, name)
        return partial(self._call, name, attribute) if name in _OPERATIONS else attribute

    async def _call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with (
            spans.span(f"store {name}", below=self._is_usual(name, args)),
            self._around(name),
        ):
            result = await method(*args, **kwargs)
        return _Observed(result, self._around) if name == "register" else result

    def _is_usual(self, name: str, args: tuple[Any, ...]) -> bool:
        """Whether this goes on all the time: reading, and a heartbeat with the health of the last
        one. It has a span only where it is part of something else."""
        if name != "heartbeat":
            return name == "document"
        before, self._beaten = self._beaten, args[0] if args else None
        return before is None or self._beaten is None or before.status is self._beaten.status

    async def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        with self._around("watch"):
            async with aclosing(cast(Store, self._observed).watch()) as events:
                async for event in events:
                    yield event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await cast(Store, self._observed).close()
