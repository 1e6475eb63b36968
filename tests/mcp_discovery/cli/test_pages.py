"""What the pages and the comments in deploy/ have people type: commands, options, variables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import click
import pytest
from typer.main import get_command

from mcp_discovery.cli.main import command_line
from mcp_discovery.record import default_id
from tests.test_docs import PAGES, ROOT

FILES = [
    *PAGES,
    *sorted(
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and path.suffix not in (".json", ".txt")
    ),
]
_FENCED = re.compile(r"^```(?:console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TYPED = re.compile(r"^(?:[$#] )?(?:[A-Z_]+=\S+ )*mcp-discovery (.*)$", re.MULTILINE)
_IN_COMMENT = re.compile(r"^ *#   (?:[A-Z_]+=\S+ )*mcp-discovery (.*)$", re.MULTILINE)
#: Where the command's own words end.
_END = re.compile(r"^(\||\|\||&&|&|>|>>|<|2>|;|--)$")
#: Options that pages name of other programs, and variables that are read elsewhere.
_OF_OTHERS = {
    "--bump-revision",  # etcdutl
    "--config-file",  # etcd
    "--enable-feature",  # prometheus
    "--exec",  # step
    "--header",  # conformance-test of ARD
    "--help",
    "--init",  # docker
    "--mark-compacted",  # etcdutl
    "--quota-backend-bytes",  # etcd
    "--stateful",  # supergateway
}
_VARIABLES = {"MCP_DISCOVERY_CACHE", "MCP_DISCOVERY_COMPLETE", "MCP_DISCOVERY_IMAGE"}


@cache
def root() -> Any:
    """The whole command."""
    return get_command(command_line())


def every(command: Any) -> Iterator[Any]:
    """A command and all below it."""
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from every(each)


def typed(file: str) -> Iterator[list[str]]:
    """The words behind each ``mcp-discovery`` that a file has people type: in the blocks and the
    code of a page, in the indented lines of a comment."""
    text = re.sub(r" \\\n[#\s]*", " ", (ROOT / file).read_text())
    if file.endswith(".md"):
        lines = _TYPED.findall("\n".join(_FENCED.findall(text)))
        lines += re.findall(r"`mcp-discovery ([a-z][^`\n]*)`", text)
    else:
        lines = _IN_COMMENT.findall(text)
    for line in lines:
        words = shlex.split(line, comments=True)
        end = next((n for n, word in enumerate(words) if _END.match(word)), len(words))
        yield words[:end]


@pytest.mark.parametrize("file", FILES)
def test_every_command_is_taken(file: str) -> None:
    for words in typed(file):
        if words[0] in ("COMMAND", "--help"):
            continue
        found, left = root(), list(words)
        while hasattr(found, "commands"):
            assert left and left[0] in found.commands, f"no such command: {words}"
            found = found.commands[left.pop(0)]
        context = found.context_class(found, resilient_parsing=True)
        try:
            found.make_parser(context).parse_args(left)
        except click.UsageError as error:
            raise AssertionError(f"{words}: {error}") from error


@pytest.mark.parametrize("file", FILES)
def test_every_option_and_variable_is_there(file: str) -> None:
    text = (ROOT / file).read_text()
    options, variables = {*_OF_OTHERS}, {*_VARIABLES, "MCP_DISCOVERY_CONFIG"}
    for command in every(root()):
        for each in command.params:
            options |= {*each.opts, *each.secondary_opts}
            variables |= {each.envvar} if isinstance(each.envvar, str) else {*(each.envvar or ())}
            if command.name in ("facade", "sidecar"):
                variables.add(f"MCP_DISCOVERY_{each.name.upper()}")
    assert {*re.findall(r"\bMCP_DISCOVERY_[A-Z_]*[A-Z]\b", text)} <= variables
    if file.endswith(".md"):
        assert {*re.findall(r"`(--[a-z][a-z-]+)[ `=]", text)} <= options


def test_there_are_many() -> None:
    """Else the tests above would find nothing."""
    assert sum(1 for file in FILES for _ in typed(file)) > 80


def test_ids_beside_addresses_are_those_that_would_be_derived() -> None:
    seen = 0
    for file in PAGES:
        for line in (ROOT / file).read_text().splitlines():
            id = re.search(r"\b([a-z][a-z-]*)-[0-9a-f]{8}\b", line)
            url = re.search(r"https?://[\w.]+:\d+/mcp", line)
            if id is not None and url is not None:
                seen += 1
                assert id[0] == default_id(id[1], {"url": url[0]}), f"{file}: {line}"
    assert seen
