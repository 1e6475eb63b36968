"""How the words of a command line are read: what is wrong with them, and help, in plain text."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from textwrap import fill, indent
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from mcp_discovery.cli import service_links
from mcp_discovery.cli.exit_codes import DONE, INVALID_INPUT, PIPE_CLOSED
from mcp_discovery.cli.options import SeveralValuesError
from mcp_discovery.cli.terminal import discard_output, say
from mcp_discovery.nearest import all_nearest

#: Characters in a line of help at most, and how many of them the names of options take.
_WIDEST, _NAMES = 100, 26
#: How the library tells bounds of a number and the default of a time, and how help does.
_WORDS = (
    (re.compile(r"\b(\d+)<=x<=(\d+)"), r"\1 to \2"),
    (re.compile(r"\bx>=(\d+)"), r"at least \1"),
    (re.compile(r"default: \((.*?)\)"), r"default: \1"),
)
_SURPLUS = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)\.?", re.DOTALL)


class Command(TyperCommand):
    """One subcommand. Service links of Kubernetes are hidden from it while it reads its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads ``args``, or prints the help that they ask for."""
        with _quiet(DONE), service_links.hidden(os.environ):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; says first which secrets everybody on this machine can read now."""
        with _quiet(PIPE_CLOSED):
            for text in _shown_secrets(ctx):
                say(f"mcp-discovery: {text}", err=True)
            return super().invoke(ctx)

    def get_help(self, ctx: Any) -> str:
        """The help in plain text."""
        return _help_text(self, ctx)


class Group(TyperGroup):
    """Several subcommands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As :meth:`Command.parse_args`; without any, help is printed."""
        with _quiet(DONE):
            if args or ctx.resilient_parsing:
                return super().parse_args(ctx, args)
            say(self.get_help(ctx))
        raise typer.Exit(INVALID_INPUT)

    def get_help(self, ctx: Any) -> str:
        """The help in plain text."""
        return _help_text(self, ctx)


def _shown_secrets(context: Any) -> Iterator[str]:
    """A warning for each secret on the command line, which ``ps`` shows to every user.

    A secret is what may also be in a file (``--NAME-file``).
    """
    for each in context.command.params:
        source = context.get_parameter_source(each.name)
        given = context.params.get(each.name)
        if source is None or source.name != "COMMANDLINE" or not isinstance(given, str):
            continue
        option = max(each.opts, key=len)
        variable = _variable(each, context)
        if f"{each.name}_file" in context.params:
            yield (
                f"every user of this machine can read the secret of {option} in its process; give "
                f"it by {variable}, or in a file by {option}-file"
            )


@contextmanager
def _quiet(code: int) -> Iterator[None]:
    """A reader that closed the pipe ends the command with ``code`` and without a message."""
    try:
        yield
    except BrokenPipeError:
        discard_output()
        raise typer.Exit(code) from None


def sentence(error: Any) -> str:
    """What is wrong with a command line, from the library's usage error, in one sentence."""
    context, parameter = error.ctx, getattr(error, "param", None)
    kind = type(error).__name__
    if kind == "MissingParameter" and context is not None:
        missing = [each for each in context.command.params if _is_missing(each, context)]
        text = f"give {' and '.join(map(_place, missing or [parameter]))}"
    elif isinstance(error, typer.BadParameter):
        if parameter is None:
            return error.message
        origin = _origin(parameter, context)
        if isinstance(error, SeveralValuesError) and origin.startswith("-"):
            again = " ".join(f"{origin} {part}" for part in error.parts)
            return f"{origin} takes one value; give it again for more: {again}"
        if isinstance(error, SeveralValuesError):
            return f"{origin}: separate the values with blanks: {' '.join(error.parts)}"
        return f"{origin}: {error.message}"
    elif kind == "NoSuchOption":
        known = [name for each in context.command.get_params(context) for name in each.opts]
        near = all_nearest(error.option_name, known)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        text = f"there is no option {error.option_name}{hint}"
    elif kind == "BadOptionUsage":
        flag = "not take" in error.message
        text = f"{error.option_name} " + ("takes no value" if flag else "needs a value")
    elif surplus := _SURPLUS.fullmatch(error.message):
        text = f"{context.command_path} takes no argument {surplus[1]!r}"
    else:
        text = error.format_message().rstrip(".")
    if context is None or text.endswith("?"):
        return text
    return f"{text}; see {context.command_path} --help"


def _is_missing(parameter: Any, context: Any) -> bool:
    """Whether it is required and given nowhere: the library stops at the first that is."""
    if not parameter.required or context.params.get(parameter.name) is not None:
        return False
    return parameter.consume_value(context, {})[0] in (None, (), [])


def _place(parameter: Any) -> str:
    """How a parameter is given."""
    return parameter.opts[0] if parameter.param_type_name == "option" else _metavar(parameter)


def _origin(parameter: Any, context: Any) -> str:
    """Where the value of a parameter came from: its option, or the variable."""
    source = context.get_parameter_source(parameter.name)
    if source is None or source.name != "ENVIRONMENT":
        return _place(parameter)
    return _variable(parameter, context)


def _variable(parameter: Any, context: Any) -> str:
    """The environment variable of an option."""
    return str(parameter.envvar or f"{context.auto_envvar_prefix}_{parameter.name.upper()}")


def _metavar(parameter: Any) -> str:
    """What stands for its value: of ``--health-port`` PORT."""
    return parameter.metavar or str(parameter.name).rpartition("_")[2].upper()


def _help_text(command: Any, context: Any) -> str:
    width = max(50, min(shutil.get_terminal_size().columns, _WIDEST) - 2)
    parts = [_wrapped(f"Usage: {context.command_path} {' '.join(_usage(command))}", width)]
    parts += [_paragraphs(command.help, width)]
    for title, rows in _sections(command, context).items():
        column = min(max(map(len, rows)) + 2, _NAMES)
        lines = (_row(name, text, column, width) for name, text in rows.items())
        parts.append("\n".join([f"{title}:", *lines]))
    parts += [_paragraphs(command.epilog, width)]
    return "\n\n".join(filter(None, parts))


def _usage(command: Any) -> Iterator[str]:
    yield "[OPTIONS]"
    for each in command.params:
        if each.param_type_name == "argument":
            name = _metavar(each)
            yield (name if each.required else f"[{name}]") + "..." * (
                each.nargs != 1 and not name.startswith("--")
            )
    if isinstance(command, Group):
        yield "COMMAND ..."


def _sections(command: Any, context: Any) -> Mapping[str, dict[str, str]]:
    """Titles with names and their descriptions: arguments, options, other options, commands."""
    sections: dict[str, dict[str, str]] = {"Arguments": {}, "Options": {}}
    for each in command.get_params(context):
        if (record := each.get_help_record(context)) is None:
            continue
        name, text = record
        if each.param_type_name == "argument":
            title, name = "Arguments", _metavar(each)
        else:
            title = each.rich_help_panel or "Options"
            name = re.sub(r"<[^>]*>$", _metavar(each), name)
        for pattern, words in _WORDS:
            text = pattern.sub(words, text)
        sections.setdefault(title, {})[name] = text
    if isinstance(command, Group):
        commands = command.commands.items()
        sections["Commands"] = {
            name: (each.help or "").partition("\n\n")[0].replace("\n", " ")
            for name, each in commands
        }
    return {title: rows for title, rows in sections.items() if rows}


def _row(name: str, text: str, column: int, width: int) -> str:
    described = indent(_wrapped(" ".join(text.split()), width - column - 2), " " * (column + 2))
    if len(name) > column - 2:
        return f"  {name}\n{described}"
    return f"  {name.ljust(column)}{described.lstrip()}"


def _paragraphs(text: str | None, width: int) -> str:
    paragraphs = (text or "").split("\n\n")
    return "\n\n".join(indent(_wrapped(each, width - 2), "  ") for each in paragraphs)


def _wrapped(text: str, width: int) -> str:
    """``text`` in lines; options and URLs stay whole, to be copied."""
    return fill(text, width, break_on_hyphens=False, break_long_words=False)
