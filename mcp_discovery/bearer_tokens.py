"""Bearer tokens that are sent to a facade or a store: given, in a followed file, or asked for.

A token that is asked for is kept until it was refused, or until its end is near where that is
known; so that many requests at once ask once.
"""

from __future__ import annotations

import asyncio
import binascii
import inspect
import json
import logging
import math
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from mcp_discovery.credential_files import Rereadable, Secret, unfit_for_header
from mcp_discovery.errors import InvalidInputError, TokenError
from mcp_discovery.secrets import without_tokens

log = logging.getLogger(__name__)

#: A token is asked for anew when so little of its time is left: seconds, and a part of it.
_EARLY, _EARLY_PART = 60.0, 0.2
#: Seconds at least between two times that a token is asked for which is still valid, the same after
#: a failure, and how long a request waits for that: nobody who has a valid token shall fail because
#: the one who issues them is away.
_PAUSE, _AFTER_FAILURE, _PATIENCE = 2.0, 5.0, 1.0


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, and the POSIX time at which it ends where whoever issued it says so."""

    value: str = field(repr=False)
    expires_at: float | None = None


#: Returns a token, or an awaitable of one. A plain function runs in a thread.
AskForToken: TypeAlias = Callable[[], "str | IssuedToken | Awaitable[str | IssuedToken]"]
#: How a token is given: itself, or what is asked for it.
GivenToken: TypeAlias = str | AskForToken


class BearerToken(Rereadable):
    """The token for one facade or store. ``what`` names it in messages.

    Given itself, in a ``file`` that is followed, by a function that is asked for it, or not at all.
    Raises :class:`InvalidInputError` for what cannot be used. Never shown in any text.
    """

    def __init__(self, what: str, given: GivenToken | None, file: str | None = None) -> None:
        self._what = what
        if given is not None and not isinstance(given, str) and not callable(given):
            raise InvalidInputError(f"the {what} is neither text nor a function that returns one")
        if callable(given) and file is not None:
            raise InvalidInputError(f"the {what} is asked for and in a file; give one of them")
        text = given if isinstance(given, str) else None
        self._secret = Secret(what, text, file)
        self._ask = given if callable(given) else None
        self._asked: str | None = None
        self._due = 0.0
        self._lock: asyncio.Lock | None = None
        self._rounds = 0
        self._failure: TokenError | None = None
        if self._ask is not None:
            self.is_reread()

    @property
    def last(self) -> str | None:
        """The token of the next request as far as is known without asking for one."""
        return self._secret.current() if self._ask is None else self._asked

    async def current(self) -> str | None:
        """The token for the next request; raises :class:`TokenError` where none can be had."""
        if self._ask is None:
            return self._secret.current()
        if self._asked is None:
            return await self._next(self._ask)
        if time.monotonic() >= self._due:
            try:
                async with asyncio.timeout(_PATIENCE):
                    return await self._next(self._ask)
            except (TokenError, TimeoutError) as error:
                self._due = time.monotonic() + _AFTER_FAILURE
                why = str(error) or f"asking for the {self._what} takes over {_PATIENCE:g} s"
                log.warning("%s; the last one goes on being used", why)
        return self._asked

    async def after_refusal(self, refused: str | None) -> str | None:
        """The token to try instead of one that was ``refused``; the same where there is no other.

        Raises :class:`TokenError` as :meth:`current` does.
        """
        if self._ask is None:
            return self._secret.renewed()
        if self._asked != refused:
            return self._asked  # another request has asked already
        return await self._next(self._ask)

    def reread(self) -> None:
        """Has the next request ask for a token again."""
        self._due = 0.0

    async def _next(self, ask: AskForToken) -> str:
        """A new token, asked for once for all who want one now."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        seen = self._rounds
        async with self._lock:
            if self._rounds == seen:  # or else another has asked while this one waited
                self._failure = None
                try:
                    self._keep(await self._answer(ask))
                except TokenError as error:
                    self._failure = error
                self._rounds += 1
            if self._failure is not None:
                raise TokenError(self._failure.problem, denied=self._failure.denied) from (
                    self._failure.__cause__ or self._failure
                )
            assert self._asked is not None
            return self._asked

    async def _answer(self, ask: AskForToken) -> IssuedToken:
        try:
            if _is_async(ask):
                found = ask()
            else:
                found = await asyncio.to_thread(ask)
            if inspect.isawaitable(found):
                found = await found
        except TokenError:
            raise
        except Exception as error:  # whatever a function of others raises
            said = without_tokens(f"{type(error).__name__}: {error}"[:300])
            if self._asked:
                said = said.replace(self._asked, "***")
            raise TokenError(f"asking for the {self._what} failed: {said}") from error
        token = IssuedToken(found) if isinstance(found, str) else found
        if not isinstance(token, IssuedToken):
            kind = type(found).__name__
            raise TokenError(f"what is asked for the {self._what} returned {kind} and no text")
        if (problem := unfit_for_header(token.value)) is not None:
            raise TokenError(f"the {self._what} that was asked for {problem}")
        return token

    def _keep(self, token: IssuedToken) -> None:
        end = token.expires_at if token.expires_at is not None else expiry_of(token.value)
        left = math.inf if end is None else end - time.time()
        # A token whose time is over by this clock may be valid by the facade's: it will say so.
        early = min(_EARLY, _EARLY_PART * left)
        self._due = math.inf if left <= 0 else time.monotonic() + max(_PAUSE, left - early)
        self._asked = token.value


def expiry_of(token: str) -> float | None:
    """The POSIX time at which a JWT ends; ``None`` for what tells none. Nothing is verified."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        end = claims["exp"]
    except (ValueError, binascii.Error, KeyError, TypeError, RecursionError):
        return None
    usable = isinstance(end, int | float) and math.isfinite(end)
    return float(end) if usable else None


def _is_async(ask: AskForToken) -> bool:
    return inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(
        getattr(ask, "__call__", None)  # noqa: B004  of an object with an async __call__
    )
