"""Where requests are counted: in this process, or in Redis for several facades as one.

Both are storages of the library ``limits``, under its sliding windows: cheap, and without the burst
at the end of a fixed window.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from aiohttp import web
from limits.aio.storage import RedisStorage, SlidingWindowCounterSupport, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from mcp_discovery.credential_files import Secret
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.extras import require_extra
from mcp_discovery.facade.access.limits_section import Rate
from mcp_discovery.health import utcnow

log = logging.getLogger(__name__)

#: How many callers are counted in memory; whoever came first is forgotten first.
_MOST_KEYS = 50_000
#: How long, in seconds, a request waits for Redis; and the pauses between looks for one that is
#: away.
_TIMEOUT, _LOOK = 0.25, 1.0
#: How many connections to Redis a facade has at most.
_MOST_CONNECTIONS = 32
SCHEMES: Final = ("redis", "rediss")


class LocalWindows(Storage, SlidingWindowCounterSupport):
    """Sliding windows in this process: a bounded number, and nothing that runs beside them.

    The library's own storage looks through all its keys at each count.
    """

    STORAGE_SCHEME: list[str] | None = ["async+local"]  # noqa: RUF012 as its base has it

    def __init__(self) -> None:
        super().__init__()
        #: Key → number of the window, how many were counted in the one before, and in it.
        self._windows: dict[str, tuple[int, int, int]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        """Nothing goes wrong here."""
        return StorageError

    def _window(self, key: str, expiry: int) -> tuple[int, int, int, float]:
        now = time.monotonic() / expiry
        number = int(now)
        found = self._windows.get(key)
        before = current = 0
        if found is not None:
            if found[0] == number:
                before, current = found[1:]
            elif found[0] == number - 1:
                before = found[2]
        return number, before, current, 1 - (now - number)

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Counts ``amount``, if so many are left."""
        number, before, current, left = self._window(key, expiry)
        if int(before * left) + current + amount > limit:
            return False
        if key not in self._windows and len(self._windows) >= _MOST_KEYS:
            del self._windows[next(iter(self._windows))]
        self._windows[key] = number, before, current + amount
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """What was counted in the window before, and for how many seconds that counts; and now."""
        _, before, current, left = self._window(key, expiry)
        return before, left * expiry if before else 0.0, current, (1 + left) * expiry

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forgets a key."""
        self._windows.pop(key, None)

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Not needed for sliding windows."""
        raise NotImplementedError

    async def get(self, key: str) -> int:
        """Not needed for sliding windows."""
        raise NotImplementedError

    async def get_expiry(self, key: str) -> float:
        """Not needed for sliding windows."""
        raise NotImplementedError

    async def clear(self, key: str) -> None:
        """Forgets a key."""
        self._windows.pop(key, None)

    async def check(self) -> bool:
        """It is always there."""
        return True

    async def reset(self) -> int | None:
        """Forgets everything."""
        number = len(self._windows)
        self._windows.clear()
        return number


@dataclass(frozen=True, slots=True)
class Count:
    """How many were taken, how many are left, and in how many seconds there are more."""

    taken: int
    remaining: int
    reset_in: float


class LocalCounts:
    """Counts in this process."""

    away_since: datetime | None = None

    def __init__(self, storage: Storage | None = None) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(storage or LocalWindows())

    async def take(self, rate: Rate, kind: str, key: str) -> Count:
        """Takes a block of ``rate``, or one where no whole block is left."""
        limiter, item = self._limiter, rate.item
        taken = 0
        for cost in dict.fromkeys((rate.block, 1)):
            if await limiter.hit(item, kind, key, cost=cost):
                taken = cost
                break
        stats = await limiter.get_window_stats(item, kind, key)
        return Count(taken, stats.remaining, max(0.0, stats.reset_time - time.time()))


class RedisCounts:
    """Counts in Redis, with those of other facades; in this process while it is away."""

    def __init__(
        self,
        url: str,
        *,
        password: str | None = None,
        password_file: str | None = None,
        ca: str | None = None,
    ) -> None:
        """``password_file`` is followed; ``ca`` is a PEM file of CAs for ``rediss://``. Raises
        :class:`InvalidInputError`, and where the extra is not installed
        :class:`~mcp_discovery.errors.MissingExtraError`."""
        require_extra("redis", "--limits-store")
        from redis.asyncio import BlockingConnectionPool
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        #: The URL without credentials.
        self.url = url = store_url(url)
        options: dict[str, Any] = {
            "max_connections": _MOST_CONNECTIONS,
            "timeout": _TIMEOUT,
            "socket_timeout": _TIMEOUT,
            "socket_connect_timeout": _TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
        }
        secret = Secret("limits store's password", password, password_file, in_header=False)
        if secret.current() is not None:
            options["credential_provider"] = _Credentials(urlsplit(url).username, secret)
        if ca:
            options["ssl_ca_certs"] = ca
        # The library hands options on to Redis, and declares only those that a URL may have.
        connections: Any = BlockingConnectionPool.from_url(url, **options)
        self._connections = connections
        self._redis = RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="mcp-discovery",
            connection_pool=connections,
        )
        self._shared = LocalCounts(self._redis)
        self._local = LocalCounts()
        #: Since when it cannot be reached; ``None`` while it can.
        self.away_since: datetime | None = None
        self._lost = asyncio.Event()

    async def take(self, rate: Rate, kind: str, key: str) -> Count:
        """As :meth:`LocalCounts.take`; waits for Redis for a quarter of a second at most."""
        if self.away_since is None:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    return await self._shared.take(rate, kind, key)
            except (StorageError, OSError, TimeoutError) as error:
                self._is_away(error)
        return await self._local.take(rate, kind, key)

    def _is_away(self, error: Exception) -> None:
        if self.away_since is None:
            self.away_since = utcnow()
            why = str(error) or "no answer in time"
            log.warning("%s: %s; each facade counts by itself meanwhile", self.url, why)
            self._lost.set()

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """From start to clean-up of the application: looks for it while it is away."""
        task = asyncio.create_task(self._look(), name="look for the limits' store")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._connections.aclose()

    async def _look(self) -> None:
        while True:
            if not await self._answers():
                self._is_away(ConnectionError("it cannot be reached"))
                await asyncio.sleep(_LOOK)
                continue
            if self.away_since is not None:
                self.away_since = None
                log.info("%s is back: facades count together again", self.url)
            self._lost.clear()
            await self._lost.wait()

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await self._redis.check()
        except TimeoutError:
            return False


@dataclass(frozen=True)
class _Credentials:
    """What Redis is shown at each new connection: so a new password counts without a restart."""

    user: str | None
    password: Secret

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """As redis-py asks for them."""
        password = self.password.current() or ""
        return (password,) if self.user is None else (self.user, password)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The same."""
        return self.get_credentials()


Counts = LocalCounts | RedisCounts


def store_url(text: str) -> str:
    """``text``, if it is ``redis://`` or ``rediss://`` without credentials; raises
    :class:`InvalidInputError`."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInputError(f"--limits-store {text[:100]!r} is no URL ({error})") from error
    if parts.scheme not in SCHEMES or not host:
        raise InvalidInputError(
            f"--limits-store {text[:100]!r} is no URL of Redis; write redis://host:6379/0, or "
            "rediss:// for TLS"
        )
    if parts.password is not None:
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        raise InvalidInputError(
            f"--limits-store {bare} has a password in it; give it with --limits-store-password-file"
        )
    return text
