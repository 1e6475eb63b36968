"""The keys of all issuers in the file, which outlast its changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import aiohttp

from mcp_discovery.extras import require_extra
from mcp_discovery.facade.access.issuers import Issuer

if TYPE_CHECKING:
    from mcp_discovery.facade.access.issuer_keys import IssuerKeys


class Keyring:
    """Has the keys of each issuer once, and renews those of the issuers that are in use.

    It renews them inside ``async with`` alone.
    """

    def __init__(self) -> None:
        self._known: list[IssuerKeys] = []
        self._renewing: dict[IssuerKeys, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None

    def of(self, issuers: Iterable[Issuer]) -> dict[str, IssuerKeys]:
        """The keys of ``issuers``, by their URLs; of one that stays as it was they stay, too.

        Raises :class:`MissingExtraError`, or :class:`InvalidInputError` for files of an issuer.
        """
        found: dict[str, IssuerKeys] = {}
        for each in issuers:
            require_extra("auth", "an issuer of JWTs")
            from mcp_discovery.facade.access.issuer_keys import IssuerKeys

            known = next((keys for keys in self._known if keys.issuer == each), None)
            found[each.issuer] = known or IssuerKeys(each, self._open_session)
        return found

    def follow(self, keys: Iterable[IssuerKeys]) -> None:
        """Renews ``keys`` from now on, and no others."""
        wanted = list(keys)
        if self._session is None or wanted == self._known:
            return
        for each in set(self._known) - set(wanted):
            each.close()
            self._renewing.pop(each).cancel()
        for each in wanted:
            if each not in self._renewing:
                self._renewing[each] = asyncio.create_task(each.run(), name="keys of an issuer")
        self._known = wanted

    def _open_session(self) -> aiohttp.ClientSession:
        assert self._session is not None, "keys are renewed inside of the block"
        return self._session

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        tasks = list(self._renewing.values())
        self.follow([])
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None
