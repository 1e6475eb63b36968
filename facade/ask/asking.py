"""What answers a facade's questions: the models that have a key, opened when one is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Final

from aiohttp import web

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.extras import is_installed, require_extra
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.mcp.call_tool import CallTool, ToolCaller
from mcp_discovery.facade.options import FacadeOptions

if TYPE_CHECKING:
    from mcp_discovery.ask import Answer, Toolbox
    from mcp_discovery.ask.providers import Client, ProviderName
    from mcp_discovery.ask.steps import OnStep

#: How many questions are answered at the same time, and how many of one caller's.
_MOST: Final = 32
_MOST_OF_ONE: Final = 8


class Asking:
    """The agent of one facade.

    ``providers`` are those that may be asked, ``calls`` calls tools for them. ``scopes`` gives
    those of a caller, for the audit. It works between the start and the clean-up of
    :meth:`running`.
    """

    def __init__(
        self,
        options: FacadeOptions,
        providers: Sequence[ProviderName],
        calls: ToolCaller,
        scopes: Callable[[Caller], list[str]],
    ) -> None:
        self.call_tool = CallTool(calls)
        self.scopes = scopes
        self.providers = providers
        self.wanted = options.ask_provider
        self._options = options
        self._models = models_of(options.ask_model)
        self._clients: dict[ProviderName, Client] = {}
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        #: How many questions are being answered, by their callers.
        self._answering: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._answering.total()

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Closes the clients of models when the application ends."""
        async with self._stack:
            yield
            self._clients.clear()

    @contextmanager
    def room(self, caller: Caller) -> Iterator[None]:
        """Room for one question of ``caller``; raises :class:`ProblemError` (503) where there is
        none."""
        who = caller.subject or f"at {caller.address}"
        if self._answering[who] >= _MOST_OF_ONE or len(self) >= _MOST:
            number = _MOST if len(self) >= _MOST else f"{_MOST_OF_ONE} of your"
            detail = f"{number} questions are being answered already; ask again soon"
            raise ProblemError(503, "too-many-questions", detail)
        self._answering[who] += 1
        try:
            yield
        finally:
            self._answering[who] -= 1
            if not self._answering[who]:
                del self._answering[who]

    def choose(self, question: str, wanted: str | None) -> ProviderName:
        """Who is asked; raises :class:`InvalidInputError` where nobody fits."""
        from mcp_discovery.ask.providers import choose

        return choose(question, wanted or self.wanted, self.providers)

    async def answer(
        self, question: str, provider: ProviderName, toolbox: Toolbox, on_step: OnStep
    ) -> Answer:
        """See :func:`mcp_discovery.ask.answer`."""
        client = await self._client(provider)
        from mcp_discovery.ask.agent import AskLimits, answer

        options = self._options
        limits = AskLimits(
            turns=options.ask_max_turns,
            tokens=options.ask_max_tokens,
            seconds=options.ask_timeout,
        )
        return await answer(
            question,
            toolbox=toolbox,
            client=client,
            provider=provider,
            model=self._models.get(provider),
            limits=limits,
            on_step=on_step,
        )

    async def _client(self, name: ProviderName) -> Client:
        async with self._opening:
            if name not in self._clients:
                # In a thread: it imports the agent and the SDK.
                await asyncio.to_thread(import_module, "mcp_discovery.ask.agent")
                from mcp_discovery.ask.providers import PROVIDERS

                opening = await asyncio.to_thread(PROVIDERS[name].client)
                self._clients[name] = await self._stack.enter_async_context(opening)
            return self._clients[name]


def configured_providers(options: FacadeOptions) -> Sequence[ProviderName]:
    """The providers that this process has a key for, where ``options`` let it use them.

    Raises :class:`InvalidInputError` where they ask for what there is not.
    """
    from mcp_discovery.ask.providers import NO_KEY, PROVIDERS, configured, provider_named

    if options.ask == "off":
        return ()
    models_of(options.ask_model)
    wanted = provider_named(options.ask_provider)
    found = configured()
    if options.ask == "auto":
        known = options.auth is not None or (options.open_writes and not options.open_to_strangers)
        return found if known and is_installed("ask") else ()
    if not found:
        raise InvalidInputError(f"--ask on: {NO_KEY}")
    if wanted is not None and wanted not in found:
        variable = PROVIDERS[wanted].variables[0]
        raise InvalidInputError(f"--ask-provider {wanted} has no key: set {variable}")
    require_extra("ask", "--ask on")
    return found


def models_of(given: Sequence[str]) -> Mapping[str, str]:
    """Provider → the model that is asked, of ``anthropic=claude-…``; raises
    :class:`InvalidInputError`."""
    from mcp_discovery.ask.providers import provider_named

    found: dict[str, str] = {}
    for each in given:
        name, _, model = each.partition("=")
        provider = provider_named(name) if model.strip() else None
        if provider is None:
            raise InvalidInputError(
                f"--ask-model {each[:100]!r} is no model of a provider; write for example "
                "anthropic=claude-sonnet-5-5"
            )
        found[provider] = model.strip()
    return found


#: The agent of an application; it has none where nobody may be asked.
ASKING: web.AppKey[Asking] = web.AppKey("asking", Asking)
