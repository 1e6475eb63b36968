"""The options that set the filters of a list, made from the table of filters."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeAlias

import typer

from mcp_discovery.cli import completion
from mcp_discovery.query.filters import FILTERS, Option

#: The parameters of a facade's query string.
Pairs: TypeAlias = list[tuple[str, str]]


class FilteredCommand:
    """A command with options for filters, or ``only`` for these, in the place of its parameter
    ``selected``, which gets them as :data:`Pairs`.

    ``status`` is the default of ``--status``, ``help`` its help where it is not the table's.
    The options are those of the table when a command line is made.
    """

    def __init__(
        self, command: Callable[..., None], only: Sequence[str], status: str | None, help: str
    ) -> None:
        functools.update_wrapper(self, command)
        self.__dict__.pop("__signature__", None)  # it has its own
        self._command = command
        self._own = functools.partial(_options, only, status, help)

    @property
    def __signature__(self) -> inspect.Signature:
        found: list[inspect.Parameter] = []
        for each in inspect.signature(self._command, eval_str=True).parameters.values():
            found += self._own() if each.name == "selected" else (each,)
        return inspect.Signature(
            [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in found]
        )

    def __call__(self, **given: Any) -> None:
        options = {each.name: given.pop(each.name) for each in self._own()}
        if not options.get("tags") and options.get("match") == "any":
            del options["match"]  # it is the facade's default, and there are no tags to match
        pairs = []
        for name, value in options.items():
            texts = (value,) if isinstance(value, str) else value or ()
            pairs += [(name, text) for text in texts if text]
        self._command(**given, selected=pairs)


def filtered(
    *, only: Sequence[str] = (), status: str | None = None, status_help: str = ""
) -> Callable[[Callable[..., None]], FilteredCommand]:
    """Makes a command a :class:`FilteredCommand`."""
    return lambda command: FilteredCommand(command, only, status, status_help)


def _options(
    only: Collection[str], status: str | None, status_help: str
) -> Iterator[inspect.Parameter]:
    for name, each in FILTERS.items():
        if each.option is None or name not in (only or FILTERS):
            continue
        option, default = each.option, None
        if name == "status":
            default = status
            option = replace(option, help=status_help or option.help)
        yield _option(name, option, each.help, each.allowed, default)
        if (mode := each.mode) is not None:
            yield _option(mode.name, mode.option, mode.help, mode.choices, mode.choices[0])


def _option(
    name: str, option: Option, help: str, values: Sequence[str], default: str | None
) -> inspect.Parameter:
    complete: Any = getattr(completion, option.complete) if option.complete else None
    declared = typer.Option(
        *(option.flags or (f"--{name.replace('_', '-')}",)),
        envvar=option.variable,
        metavar=option.metavar or name.upper(),
        help=option.help or help,
        autocompletion=complete or ((lambda: list(values)) if values else None),
        rich_help_panel="Filters",
    )
    kind: Any = list[str] | None if option.repeated else str | None
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, declared],
    )
