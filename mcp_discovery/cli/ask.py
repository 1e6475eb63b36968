"""``mcp-discovery ask``: a model answers a question with the tools of servers that are alive."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from mcp_discovery.cli import completion, filters, options
from mcp_discovery.cli.exit_codes import DENIED, DONE, FAILED, TIMED_OUT, UNAVAILABLE, run
from mcp_discovery.cli.terminal import clean, line, say, say_json
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.extras import require_extra

if TYPE_CHECKING:
    from mcp_discovery.ask import Answer, AskError, Step

#: How much of arguments and results a line shows, in characters.
_SHOWN = 160


@filters.filtered(only=("tags",))
@options.with_credentials
def ask(
    context: typer.Context,
    question: str = typer.Argument(metavar="QUESTION", help="What to ask.", show_default=False),
    provider: str = typer.Option(
        "auto",
        metavar="NAME",
        envvar="MCP_DISCOVERY_ASK_PROVIDER",
        help="openai, anthropic (or claude), gemini, or auto: one that has a key, by what the "
        "question asks for.",
    ),
    model: str | None = typer.Option(
        None, metavar="NAME", help="The model, as its API calls it; needs --provider."
    ),
    facade: str = options.FACADE,
    store: str | None = typer.Option(
        None,
        metavar="URL",
        help="A store to watch instead of asking a facade, as of facade --store.",
    ),
    *,
    selected: filters.Pairs,
    timeout: float = options.timeout(120.0, "For the whole answer: 90, 90s, 5m.", "2m"),
    max_turns: int = typer.Option(
        12, min=1, max=100, metavar="N", help="How often the model may speak."
    ),
    max_tokens: int = typer.Option(
        50_000,
        min=1000,
        max=10_000_000,
        metavar="N",
        help="How many tokens it may read and write in all.",
    ),
    allow_stdio: list[str] | None = typer.Option(
        None,
        parser=options.single,
        metavar="NAME",
        help="A stdio server that may be started on this machine; again for more.",
        autocompletion=completion.names,
    ),
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Ask a model, which calls the tools of healthy servers for its answer.

    The answer goes to standard output, the steps to standard error; with --json all of it, one
    step a line. The keys are those of the models' own SDKs: OPENAI_API_KEY, ANTHROPIC_API_KEY,
    GEMINI_API_KEY. Tools may change things: a model calls whatever this command may. Exit code 3:
    the model's API cannot be reached; 4: it refuses the key; 8: no answer in time.

    Try: mcp-discovery ask "Which kettles are in stock?"
    """
    from mcp_discovery.cli import logs

    require_extra("ask", "mcp-discovery ask")
    from mcp_discovery.ask.agent import AskLimits, answer
    from mcp_discovery.ask.model import AskError
    from mcp_discovery.ask.providers import PROVIDERS, choose, configured, provider_named
    from mcp_discovery.ask.toolbox import DiscoveryToolbox

    name = choose(question, provider)
    if model is not None and provider_named(provider) is None and len(configured()) > 1:
        raise InvalidInputError(f"--model {model[:40]} is whose? say --provider, too")
    options.check_url(facade)
    limits = AskLimits(turns=max_turns, tokens=max_tokens, seconds=timeout)
    logs.start("error", json=False)
    shown = _Shown(json=json)

    async def work() -> int:
        from mcp_discovery import Discovery
        from mcp_discovery.cli.facade_connection import token_of

        if store is not None:
            source: dict[str, Any] = {"store_options": options.store_options(context.params)}
        else:
            token = token_of(facade, facade_token, facade_token_file)
            source = {"token": token, "token_file": facade_token_file}
        tags = [value for each, value in selected if each == "tags"]
        find: dict[str, Any] = {"tags": tags, "match": dict(selected)["match"]} if tags else {}
        async with (
            Discovery(store or facade, allow_stdio=allow_stdio or (), **source) as discovery,
            PROVIDERS[name].client() as client,
        ):
            await discovery.connect(**find)
            try:
                found = await answer(
                    question,
                    toolbox=DiscoveryToolbox(discovery),
                    client=client,
                    provider=name,
                    model=model,
                    limits=limits,
                    on_step=shown.step,
                )
            except AskError as error:
                shown.failed(error)
                return _code_of(error)
        shown.done(found)
        return DONE

    run(work())


def _code_of(error: AskError) -> int:
    from mcp_discovery.ask.model import AskLimitError, ModelError

    match error:
        case ModelError(status=401 | 403):
            return DENIED
        case ModelError(is_passing=True):
            return UNAVAILABLE
        case AskLimitError(limit="time"):
            return TIMED_OUT
    return FAILED


class _Shown:
    """What is printed: on a terminal the text as it comes, elsewhere the answer alone."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._live = not json and sys.stdout.isatty()
        self._open = False  # whether a line of text has no end yet

    async def step(self, step: Step) -> None:
        """Prints one step."""
        if self._json:
            say_json({"event": step.kind} | step.json())
            return
        told = step.json()
        match step.kind:
            case "text":
                if self._live:
                    print(clean(told["text"]), end="", flush=True)  # noqa: T201
                    self._open = not told["text"].endswith("\n")
            case "search":
                names = ", ".join(f"{each['server']}.{each['tool']}" for each in told["tools"])
                self._note(f"tools found: {names or 'none'}")
            case "call":
                arguments = _short(told["arguments"])
                self._note(f"→ {told['server']}.{told['tool']} {arguments}")
            case "result":
                mark = "←" if told["success"] else "✗"
                said = _short(told["text"])
                self._note(f"{mark} {told['server']}.{told['tool']} {told['durationMs']} ms {said}")
            case "retry":
                self._note(f"again in {told['seconds']:g} s: {told['why']}")

    def done(self, found: Answer) -> None:
        """Prints the answer, where it was not."""
        if self._json:
            say_json({"event": "done", "answer": found.text} | found.json())
            return
        if self._live:
            self._end_line()
        else:
            say(found.text)
        if found.is_cut:
            self._note("the answer was cut: it had no room for more")
        used = f"{found.usage.total:,} tokens, {found.turns} turns, {found.calls} calls"
        self._note(f"{found.provider} {found.model}: {used}, {found.seconds:.1f} s")

    def failed(self, error: AskError) -> None:
        """Says why there is no answer."""
        if self._json:
            say_json({"event": "error", "error": str(error)})
        self._note(f"mcp-discovery: {error}")

    def _note(self, text: str) -> None:
        self._end_line()
        say(line(text), err=True)

    def _end_line(self) -> None:
        if self._open:
            say()
            self._open = False


def _short(value: object) -> str:
    from mcp_discovery.cli.terminal import json_text

    text = line(value if isinstance(value, str) else json_text(value))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
