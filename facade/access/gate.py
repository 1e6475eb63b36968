"""The gate: two middlewares that every request passes, who asks and whether it may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from mcp_discovery.facade.access.caller import Caller, caller_of, identified
from mcp_discovery.facade.access.challenge import Challenges
from mcp_discovery.facade.access.quotas import Quotas
from mcp_discovery.facade.access.rights import Need, Rights, in_words
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
    """Decides who asks and whether it may, before any operation."""

    authentication: Authentication
    challenges: Challenges
    quotas: Quotas | None = None

    @web.middleware
    async def identify(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Puts the caller into the request, for :func:`caller_of`.

        What is open to everybody is open to whoever gives a credential that is not valid.
        """
        refusal: ProblemError | None = None
        try:
            caller = await self.authentication.identify(request)
        except ProblemError as error:
            refusal = error
            address = client_of(request).address
            if self.quotas is not None and error.status == 401:
                await self.quotas.refuse(request, address)
            if needs_of(request) != "open":
                raise
            caller = Caller("", "anonymous", (), Rights(()), address)
        identified(request, caller, refusal)
        if self.quotas is None:
            return await handler(request)
        # What is refused further in counts, too.
        if (counting := self.quotas.count(request, caller)) is not None:
            await counting
        if (stream := self.quotas.stream(request, caller)) is not None:
            with stream:
                return await handler(request)
        return await handler(request)

    @web.middleware
    async def authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses what the caller has no right to for anything at all.

        Operations decide on single servers and tools themselves, by the caller's rights.
        """
        need: Need = needs_of(request)
        if need != "open":
            caller = caller_of(request)
            if (why := caller.rights.refused.get(need)) is not None:
                raise ProblemError(403, "refused-here", why, needs=need)
            if need not in caller.rights.verbs:
                if caller.is_anonymous:
                    raise self.challenges.unauthenticated(request, need)
                raise self.challenges.insufficient(request, need, _forbidden(caller, need))
        return await handler(request)


def _forbidden(caller: Caller, need: Need) -> str:
    having = ", ".join(caller.roles) or "none"
    who = f"{caller.subject} (roles: {having})"
    return f"{who} has no right to {in_words(need)}; ask for a role that has"
