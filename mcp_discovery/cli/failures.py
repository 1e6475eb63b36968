"""How an error that ends a command is told: one sentence, its exit code, and what --debug adds."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import typer

from mcp_discovery.cli import command
from mcp_discovery.cli.exit_codes import INVALID_INPUT, UNFORESEEN, code_of
from mcp_discovery.cli.options import FACADE_URL
from mcp_discovery.cli.terminal import line, say
from mcp_discovery.errors import (
    DiscoveryError,
    InvalidInputError,
    Remedy,
    UnauthenticatedError,
)

#: What would help, as it is done with this command.
_REMEDIES: Mapping[Remedy, str] = {
    Remedy.CREDENTIALS: "give them with --server-token and --server-origin",
    Remedy.ALLOW_COMMAND: "if you trust it, allow it with --allow-stdio",
    Remedy.OTHER_SERVERS: "start one, or leave out filters",
    Remedy.LARGER_ANSWERS: "ask for less, or raise --max-answer-bytes",
}

#: What the library raises for what is typed wrong; it exports the most frequent kind only.
_UsageError: type[Any] = typer.BadParameter.__bases__[0]
_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_shown = False


def _show(wanted: bool) -> None:
    global _shown
    _shown = _shown or wanted


#: The option of every command.
DEBUG: Any = typer.Option(
    False,
    "--debug",
    envvar="MCP_DISCOVERY_DEBUG",
    is_eager=True,
    expose_value=False,
    callback=_show,
    help="Show the traceback of an error.",
)


def with_debug(function: Callable[..., None]) -> Callable[..., None]:
    """Gives the command of ``function`` the option ``--debug``."""

    @functools.wraps(function)
    def without_debug(**given: Any) -> None:
        function(**{name: value for name, value in given.items() if name != "debug"})

    own = inspect.signature(function, eval_str=True)
    debug = inspect.Parameter(
        "debug", inspect.Parameter.KEYWORD_ONLY, annotation=bool, default=DEBUG
    )
    without_debug.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*own.parameters.values(), debug]
    )
    return without_debug


def brief(error: BaseException) -> str:
    """``error`` on one line: its type, what it says, and where it was raised."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    ours = [each for each in frames if each.filename.startswith(_FOLDER)] or frames
    if not ours:
        return line(text)
    name = ours[-1].filename.removeprefix(_FOLDER).lstrip(os.sep)
    return f"{line(text)[:500]} ({name}:{ours[-1].lineno})"


def text_of(error: BaseException) -> str:
    """What a log holds of ``error`` behind its message: the traceback where that is shown."""
    if not _shown:
        return brief(error)
    return "".join(traceback.format_exception(error)).rstrip()


def ended_by(error: Exception) -> int:
    """Says what ended the command; returns its exit code."""
    trace(error)
    if isinstance(error, _UsageError):
        say(f"mcp-discovery: {command.sentence(error)}", err=True)
        return INVALID_INPUT
    if isinstance(error, DiscoveryError):
        others = error.others if isinstance(error, InvalidInputError) else ()
        for each in (error, *others):
            say(f"mcp-discovery: {each.sentence(_remedies(each))}", err=True)
        return code_of(error)
    if type(error) is ValueError:  # of a library, about what it was given
        say(f"mcp-discovery: {error}", err=True)
        return INVALID_INPUT
    hint = "" if _shown else "; --debug shows the traceback"
    say(f"mcp-discovery: ended by an error that nobody foresaw: {brief(error)}{hint}", err=True)
    return UNFORESEEN


def _remedies(error: DiscoveryError) -> Mapping[Remedy, str]:
    if not isinstance(error, UnauthenticatedError):
        return _REMEDIES
    at = os.environ.get("MCP_DISCOVERY_FACADE") or FACADE_URL
    where = "" if error.store.rstrip("/") == at.rstrip("/") else f" --facade {error.store}"
    how = f"run: mcp-discovery login{where}, or give a token by MCP_DISCOVERY_FACADE_TOKEN"
    return {Remedy.SIGN_IN: f"{how} or --facade-token-file"}


def trace(error: BaseException) -> None:
    """Prints the traceback of ``error`` where that is shown."""
    if _shown:
        say("".join(traceback.format_exception(error)).rstrip(), err=True)


def install() -> None:
    """Has every way in which Python prints a traceback by itself come through here."""
    sys.excepthook = lambda _, error, __: _aside(error)
    threading.excepthook = lambda given: _aside(given.exc_value)
    sys.unraisablehook = lambda given: _aside(given.exc_value)
    if logging.lastResort is not None:  # of commands that start no log of their own
        logging.lastResort.setFormatter(_Brief("mcp-discovery: %(message)s"))


def _aside(error: BaseException | None) -> None:
    """An error that ends nothing, as in a thread or a finalizer."""
    if error is not None and not isinstance(error, SystemExit | KeyboardInterrupt):
        say(f"mcp-discovery: an error that nobody foresaw: {text_of(error)}", err=True)


class _Brief(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        return text_of(ei[1])
