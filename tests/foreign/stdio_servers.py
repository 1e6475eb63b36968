"""Public MCP servers that speak stdio alone, as ``scripts/fetch-foreign`` installs them.

Each stands here with one harmless call. What they do that the specification does not foresee is
what a bridge has to bear: lines on stdout that are no messages (``time-mcp``), an end when they are
asked anything before ``initialize`` (``temporal-cortex``), a wrong error for an unknown method
(whatever is on version 1 of the SDK for Python), capabilities of another shape (``memory-bank``).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.foreign.programs import FASTMCP4, GO, NODE, NPM, SDK1

#: What stands in commands and arguments for a folder of the server's own, and for a page of text.
_FOLDER, _PAGE = "{folder}", "{page}"
#: In that folder: a file of one line, and an empty repository of git.
FILE, FILE_TEXT, REPOSITORY = "note.txt", "hello file\n", "repository"


@dataclass(frozen=True, slots=True)
class StdioServer:
    """One of them. ``package`` is where it comes from, ``sdk`` what it is written with; the call of
    ``tool`` with ``arguments`` gives a text that has ``says`` in it.

    ``modern`` ones answer requests of both eras. What the pattern ``varies`` matches is another
    from call to call.
    """

    name: str
    package: str
    sdk: str
    program: tuple[str | Path, ...]
    tool: str
    says: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    modern: bool = False
    varies: str = r"(?!)"
    #: Whether ``make test`` tries it; all are tried in ``make soak``.
    often: bool = False

    def command(self, folder: Path, page: str) -> list[str]:
        """What starts it, in a ``folder`` that :func:`furnished` made; ``page`` is a URL of
        :data:`FILE_TEXT`."""
        filled: list[str] = _filled([str(each) for each in self.program], folder, page)
        return filled

    def call(self, folder: Path, page: str) -> dict[str, Any]:
        """The arguments of the call."""
        filled: dict[str, Any] = _filled(dict(self.arguments), folder, page)
        return filled


def _filled(value: Any, folder: Path, page: str) -> Any:
    match value:
        case str():
            return value.replace(_FOLDER, str(folder)).replace(_PAGE, page)
        case list():
            return [_filled(each, folder, page) for each in value]
        case dict():
            return {name: _filled(each, folder, page) for name, each in value.items()}
    return value


def _npm(script: str, *arguments: str, **environment: str) -> tuple[str | Path, ...]:
    return _with(environment, NODE, NPM / script, *arguments)


def _python(
    python: Path, module: str, *arguments: str, **environment: str
) -> tuple[str | Path, ...]:
    return _with(environment, python, "-m", module, *arguments)


def _entry(
    python: Path, module: str, *arguments: str, **environment: str
) -> tuple[str | Path, ...]:
    """One whose package is no module to run: what its console script does."""
    return _with(environment, python, "-c", f"from {module} import main; main()", *arguments)


def _with(environment: Mapping[str, str], *command: str | Path) -> tuple[str | Path, ...]:
    settings = [f"{name}={value}" for name, value in environment.items()]
    return ("/usr/bin/env", *settings, *command) if settings else command


_OFFICIAL = "@modelcontextprotocol/server-"
_TYPESCRIPT, _PYTHON_1, _PYTHON_2 = "typescript-sdk", "python-sdk-1", "python-sdk-2"
_EMPTY_GRAPH = '"entities": []'
_TIME = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
_NOON = "T21:00:00+09:00"
_TODAY = r"\d{4}-\d\d-\d\d|(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_THOUGHT = {"thought": "one", "thoughtNumber": 1, "totalThoughts": 1, "nextThoughtNeeded": False}

STDIO_SERVERS = (
    StdioServer(
        *("memory", f"npm {_OFFICIAL}memory", _TYPESCRIPT),
        _npm(f"{_OFFICIAL}memory/dist/index.js", MEMORY_FILE_PATH="{folder}/memory.jsonl"),
        *("read_graph", _EMPTY_GRAPH),
        often=True,
    ),
    StdioServer(
        *("filesystem", f"npm {_OFFICIAL}filesystem", _TYPESCRIPT),
        _npm(f"{_OFFICIAL}filesystem/dist/index.js", _FOLDER),
        *("read_text_file", FILE_TEXT, {"path": f"{_FOLDER}/{FILE}"}),
    ),
    StdioServer(
        *("filesystem-before", f"npm {_OFFICIAL}filesystem, of 2025", _TYPESCRIPT),
        _npm("filesystem-before/dist/index.js", _FOLDER),
        *("read_file", FILE_TEXT, {"path": f"{_FOLDER}/{FILE}"}),
    ),
    StdioServer(
        *("everything", f"npm {_OFFICIAL}everything", _TYPESCRIPT),
        _npm(f"{_OFFICIAL}everything/dist/index.js"),
        *("echo", "Echo: hello", {"message": "hello"}),
        often=True,
    ),
    StdioServer(
        *("sequential-thinking", f"npm {_OFFICIAL}sequential-thinking", _TYPESCRIPT),
        _npm(f"{_OFFICIAL}sequential-thinking/dist/index.js", DISABLE_THOUGHT_LOGGING="true"),
        *("sequentialthinking", '"thoughtNumber": 1', _THOUGHT),
        varies=r'HistoryLength\\?": \d+',
    ),
    StdioServer(
        *("basic-app", f"npm {_OFFICIAL}basic-vanillajs", "typescript-sdk-2"),
        _npm(f"{_OFFICIAL}basic-vanillajs/dist/index.js", "--stdio"),
        *("get-time", "Z"),
        varies=r"\d{4}-\d\d-\d\dT[\d:.]+Z",
    ),
    StdioServer(
        *("hello-world", "npm mcp-hello-world", _TYPESCRIPT),
        _npm("mcp-hello-world/build/stdio.js"),
        *("add", "The sum is: 5", {"a": 2, "b": 3}),
    ),
    StdioServer(
        *("time-mcp", "npm time-mcp", _TYPESCRIPT),
        _npm("time-mcp/dist/index.js"),
        *("days_in_month", "is 29", {"date": "2024-02-01"}),
        often=True,
    ),
    StdioServer(
        *("calc", "npm @coo-quack/calc-mcp", _TYPESCRIPT),
        _npm("@coo-quack/calc-mcp/dist/index.js"),
        *("hash", "ba7816bf8f01cfea", {"input": "abc", "algorithm": "sha256"}),
    ),
    StdioServer(
        *("commands", "npm mcp-server-commands", _TYPESCRIPT),
        _npm("mcp-server-commands/build/index.js"),
        *("run_command", "hello", {"command": "echo hello"}),
    ),
    StdioServer(
        *("git-typescript", "npm @cyanheads/git-mcp-server", _TYPESCRIPT),
        _npm("@cyanheads/git-mcp-server/dist/index.js"),
        *("git_status", '"isClean": true', {"path": f"{_FOLDER}/{REPOSITORY}"}),
    ),
    StdioServer(
        *("memory-bank", "npm @allpepper/memory-bank-mcp", _TYPESCRIPT),
        _npm("@allpepper/memory-bank-mcp/dist/main/index.js", MEMORY_BANK_ROOT=_FOLDER),
        *("list_projects", REPOSITORY),
    ),
    StdioServer(
        *("knowledge-graph", "npm @itseasy21/mcp-knowledge-graph", _TYPESCRIPT),
        _npm("@itseasy21/mcp-knowledge-graph/dist/index.js", "--memory-path", "{folder}/graph"),
        *("read_graph", _EMPTY_GRAPH),
    ),
    StdioServer(
        *("thinking-tools", "npm mcp-sequentialthinking-tools", "tmcp"),
        _npm("mcp-sequentialthinking-tools/dist/index.js"),
        *("sequentialthinking_tools", '"thought_number": 1'),
        {
            "available_mcp_tools": ["one"],
            "thought": "one",
            "thought_number": 1,
            "total_thoughts": 1,
            "next_thought_needed": False,
        },
        varies=r'history_length\\?": \d+',
    ),
    StdioServer(
        *("code-runner", "npm mcp-server-code-runner", _TYPESCRIPT),
        _npm("mcp-server-code-runner/dist/cli.js", TMPDIR=_FOLDER),
        *("run-code", "42", {"code": "echo 42", "languageId": "shellscript"}),
    ),
    StdioServer(
        *("mcp-time", "npm mcp-time-linux-x64", "mcp-go"),
        (NPM / "mcp-time-linux-x64/bin/mcp-time",),
        *("compare_time", "-1", {"time_a": "2026-01-01 00:00", "time_b": "2026-01-02 00:00"}),
        varies=r"(`\w+`, )+`\w+`",
    ),
    StdioServer(
        *("temporal-cortex", "npm @temporal-cortex/cortex-mcp-linux-x64", "rmcp"),
        _with({"HOME": _FOLDER}, NPM / "@temporal-cortex/cortex-mcp-linux-x64/bin/cortex-mcp"),
        *("compute_duration", '"total_seconds": 5400'),
        {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:30:00Z"},
        often=True,
    ),
    StdioServer(
        *("sqlite", "PyPI mcp-server-sqlite", _PYTHON_1),
        _entry(SDK1, "mcp_server_sqlite", "--db-path", "{folder}/base.db"),
        *("list_tables", "[]"),
        often=True,
    ),
    StdioServer(
        *("calculator", "PyPI mcp-server-calculator", _PYTHON_1),
        _python(SDK1, "mcp_server_calculator"),
        *("calculate", "42", {"expression": "6*7"}),
    ),
    StdioServer(
        *("math", "PyPI mcp-server-math", _PYTHON_1),
        _entry(SDK1, "mcp_server_math"),
        *("sum", '"result": "5.0"', {"numbers": [2, 3]}),
    ),
    StdioServer(
        *("converter", "PyPI mcp-server-converter", _PYTHON_1),
        _python(SDK1, "mcp_server_converter"),
        *("convert", "1", {"expression": "100 cm to m"}),
    ),
    StdioServer(
        *("command-line", "PyPI cli-mcp-server", _PYTHON_1),
        # Its description lists a set.
        _entry(
            SDK1, "cli_mcp_server", ALLOWED_DIR=_FOLDER, ALLOWED_COMMANDS="echo", PYTHONHASHSEED="0"
        ),
        *("run_command", "hello", {"command": "echo hello"}),
    ),
    StdioServer(
        *("word", "PyPI office-word-mcp-server", "fastmcp-2"),
        _python(SDK1, "word_document_server.main"),
        *("list_available_documents", "No Word documents", {"directory": _FOLDER}),
    ),
    StdioServer(
        *("time-before", "PyPI mcp-server-time, before the last", _PYTHON_1),
        _python(SDK1, "mcp_server_time"),
        *("convert_time", _NOON, _TIME),
        varies=_TODAY,
    ),
    StdioServer(
        *("time", "PyPI mcp-server-time", _PYTHON_2),
        _python(FASTMCP4, "mcp_server_time"),
        *("convert_time", _NOON, _TIME),
        varies=_TODAY,
        modern=True,
    ),
    StdioServer(
        *("git", "PyPI mcp-server-git", _PYTHON_2),
        _python(FASTMCP4, "mcp_server_git", "--repository", f"{_FOLDER}/{REPOSITORY}"),
        *("git_status", "No commits yet", {"repo_path": f"{_FOLDER}/{REPOSITORY}"}),
        modern=True,
        often=True,
    ),
    StdioServer(
        *("fetch", "PyPI mcp-server-fetch", _PYTHON_2),
        _python(FASTMCP4, "mcp_server_fetch", "--ignore-robots-txt", "--allow-private-ips"),
        *("fetch", FILE_TEXT.strip(), {"url": _PAGE}),
        modern=True,
    ),
    StdioServer(
        *("excel", "PyPI excel-mcp-server", _PYTHON_2),
        _entry(FASTMCP4, "excel_mcp.cli", "stdio", EXCEL_FILES_PATH=_FOLDER),
        *("list_workbooks", "{}"),
        modern=True,
    ),
    StdioServer(
        *("mcp-go", "Go mcp-go/examples/everything", "mcp-go"),
        (GO / "mcp-go-stdio",),
        *("add", "is 5.0", {"a": 2, "b": 3}),
        modern=True,
    ),
    StdioServer(
        *("go-memory", "Go go-sdk/examples/server/memory", "go-sdk"),
        (GO / "go-sdk-memory", "-memory", "{folder}/memory.json"),
        *("read_graph", "read successfully"),
        modern=True,
        often=True,
    ),
)


def furnished(folder: Path) -> Path:
    """Makes ``folder``, with what the calls find there, and returns it."""
    folder.mkdir()
    (folder / FILE).write_text(FILE_TEXT)
    subprocess.run(["git", "init", "--quiet", folder / REPOSITORY], check=True)
    return folder


def named(name: str) -> StdioServer:
    """The one that is called so."""
    return next(each for each in STDIO_SERVERS if each.name == name)
