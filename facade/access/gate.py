"""The gate: the middleware that every request passes, who asks and whether it may."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from aiohttp import web

from mcp_discovery.facade.access.caller import Caller, identified
from mcp_discovery.facade.access.challenge import Challenges
from mcp_discovery.facade.access.lifetime import CredentialLifetimes
from mcp_discovery.facade.access.quotas import Quotas
from mcp_discovery.facade.access.rights import Need, Rights, in_words
from mcp_discovery.facade.access.writes import ReadOnlyHosts
from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.operation import needs_of
from mcp_discovery.facade.http.problems import Handler, ProblemError


class Authentication(Protocol):
    """Tells who asks."""

    async def identify(self, request: web.Request) -> Caller:
        """The caller; raises :class:`ProblemError` (401) for a credential that is not valid."""
        ...


@dataclass(frozen=True, slots=True)
class NoAuthentication:
    """Everybody is anonymous and has ``rights``: a facade without ``--auth``."""

    rights: Rights

    async def identify(self, request: web.Request) -> Caller:
        """The anonymous caller at the client's address."""
        return Caller("", "anonymous", (), self.rights, client_of(request).address)


@dataclass(frozen=True, slots=True)
class Gate:
    """Decides who asks and whether it may, before any operation.

    ``lifetimes`` ends what is open when its caller's credential ends; by the names ``read_only``
    nothing is changed.
    """

    authentication: Authentication
    challenges: Challenges
    quotas: Quotas | None = None
    lifetimes: CredentialLifetimes | None = None
    read_only: ReadOnlyHosts = field(default_factory=partial(ReadOnlyHosts, ()))

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Puts the caller into the request, for :func:`caller_of`, counts it, and refuses what the
        caller has no right to for anything at all.

        Operations decide on single servers and tools themselves, by the caller's rights. What is
        open to everybody is open to whoever gives a credential that is not valid.
        """
        refusal: ProblemError | None = None
        try:
            caller = await self.authentication.identify(request)
        except ProblemError as error:
            caller, refusal = await self._unknown(request, error), error
        identified(request, caller, refusal)
        stream: AbstractContextManager[None] | None = None
        quotas = self.quotas
        if quotas is not None and (limits := quotas.limits(request, caller)) is not None:
            # What is refused further in counts, too.
            if (counting := quotas.count(request, caller, limits)) is not None:
                await counting
            stream = quotas.stream(request, caller, limits)
        self._require_right(request, caller)
        if stream is None:
            return await self._answer(request, handler)
        with stream:
            return await self._answer(request, handler)

    def _answer(self, request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        if self.lifetimes is None:
            return handler(request)
        return self.lifetimes.answer(request, handler)

    async def _unknown(self, request: web.Request, error: ProblemError) -> Caller:
        """Who gave a credential that is not valid; raises ``error`` where that matters."""
        address = client_of(request).address
        if self.quotas is not None and error.status == 401:
            await self.quotas.refuse(request, address)
        if needs_of(request) != "open":
            raise error
        return Caller("", "anonymous", (), Rights(()), address)

    def _require_right(self, request: web.Request, caller: Caller) -> None:
        need: Need = needs_of(request)
        if need == "open":
            return
        self.read_only.check(request, need)
        if (why := caller.rights.refused.get(need)) is not None:
            raise ProblemError(403, "refused-here", why, needs=need)
        if need not in caller.rights.verbs:
            if caller.is_anonymous:
                raise self.challenges.unauthenticated(request, need)
            raise self.challenges.insufficient(request, need, _forbidden(caller, need))


def _forbidden(caller: Caller, need: Need) -> str:
    having = ", ".join(caller.roles) or "none"
    who = f"{caller.subject} (roles: {having})"
    return f"{who} has no right to {in_words(need)}; ask for a role that has"
