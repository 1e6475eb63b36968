"""No command shows a traceback without --debug, whatever ended it."""

from __future__ import annotations

import functools
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer
from typer.main import get_command

from mcp_discovery.cli import failures
from mcp_discovery.cli.exit_codes import UNFORESEEN
from mcp_discovery.cli.main import command_line, main

URL = "http://127.0.0.1:9/mcp"
#: Each command, with what it cannot do without.
COMMANDS: dict[str, tuple[str, ...]] = {
    "facade": (),
    "sidecar": ("--url", URL, "--store", "consul://127.0.0.1:9"),
    "servers": (),
    "tools": (),
    "skills": (),
    "describe": ("one",),
    "history": ("one",),
    "watch": (),
    "call": ("tool",),
    "ask": ("question",),
    "query put": ("one", "FILE"),
    "query get": ("one",),
    "query list": (),
    "query delete": ("one",),
    "register": ("FILE",),
    "export": (),
    "import": ("FILE",),
    "audit list": (),
    "audit tail": (),
    "audit verify": ("FILE",),
    "audit head": ("FILE",),
    "webhooks list": (),
    "webhooks test": ("one",),
    "webhooks redeliver": ("one", "id"),
    "sync drupal": (URL, "--api-key-file", "FILE"),
    "login": (),
    "logout": (),
    "whoami": (),
    "doctor": (),
    "health": (),
    "config check": ("FILE",),
    "config schema": (),
    "token create": ("one", "--role", "reader", "--auth", "FILE"),
    "token list": ("--auth", "FILE"),
    "token revoke": ("one", "--auth", "FILE"),
    "demo": (),
}
#: Those that ask a facade.
CLIENTS = (
    *(
        "servers",
        "tools",
        "skills",
        "describe",
        "history",
        "watch",
        "call",
        "register",
        "export",
        "import",
    ),
    *("audit list", "audit tail", "webhooks list", "webhooks test", "webhooks redeliver"),
    "sync drupal",
)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ended]:
    """Runs the console script's function in this process."""
    file = tmp_path / "servers.json"
    file.write_text('{"id": "one", "name": "one", "url": "http://127.0.0.1:9/mcp"}')
    monkeypatch.setattr(failures, "_shown", False)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    for hook in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, hook, getattr(sys, hook))
    last = logging.lastResort
    assert last is not None
    monkeypatch.setattr(last, "formatter", last.formatter)

    def ran(*arguments: str) -> Ended:
        given = [str(file) if each == "FILE" else each for each in arguments]
        monkeypatch.setattr(sys, "argv", ["mcp-discovery", *given])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    return ran


def _leaves(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from _leaves(each, f"{before}{name} ")
        else:
            yield f"{before}{name}", each


def test_every_command_has_the_option() -> None:
    leaves = dict(_leaves(get_command(command_line())))
    assert leaves.keys() == COMMANDS.keys()
    for name, each in leaves.items():
        assert "debug" in [option.name for option in each.params], name


def _broken(command: Callable[..., None], error: BaseException) -> Callable[..., None]:
    @functools.wraps(command)
    def raising(**_: Any) -> None:
        raise error

    return raising


@pytest.mark.parametrize("name", list(COMMANDS))
def test_an_error_that_nobody_foresaw_is_one_sentence(
    name: str, run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = name.partition(" ")[0]
    own = "import_" if first == "import" else first
    module = import_module(f"mcp_discovery.cli.{own}")
    found = getattr(module, own)
    fault = AttributeError("no 'reason'\nat all")
    if isinstance(found, typer.Typer):
        for each in found.registered_commands:
            assert each.callback is not None
            monkeypatch.setattr(each, "callback", _broken(each.callback, fault))
    else:
        monkeypatch.setattr(module, own, _broken(found, fault))

    ended = run(*name.split(), *COMMANDS[name])
    assert (ended.code, ended.out) == (UNFORESEEN, "")
    assert ended.err.startswith("mcp-discovery: ended by an error that nobody foresaw: ")
    assert "AttributeError: no 'reason' at all" in ended.err
    assert ended.err.endswith("; --debug shows the traceback\n")
    assert (ended.err.count("\n"), "Traceback" in ended.err) == (1, False)

    ended = run(*name.split(), "--debug", *COMMANDS[name])
    assert ended.code == UNFORESEEN
    assert ended.err.startswith("Traceback (most recent call last):\n")
    assert ended.err.endswith("at all (mcp_discovery/cli/failures.py:57)\n") or "py:" in ended.err


@contextmanager
def listening(context: ssl.SSLContext | None) -> Iterator[int]:
    """The port of a server: of TLS, or of plain HTTP that answers nothing but 404."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.settimeout(5)
                with connection, suppress(OSError):
                    if context is not None:
                        connection = context.wrap_socket(connection, server_side=True)
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _certified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    return context


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    ("scheme", "served", "says"),
    [
        ("https", None, "it does not speak TLS there; write http://"),
        ("https", _certified(), "not trusted here; give that CA with SSL_CERT_FILE"),
        ("http", _certified(), "if it speaks TLS there, write https://"),
    ],
    ids=["no TLS", "unknown CA", "TLS"],
)
def test_a_facade_that_speaks_another_protocol(
    name: str, scheme: str, served: ssl.SSLContext | None, says: str, run: Callable[..., Ended]
) -> None:
    with listening(served) as port:
        asked: tuple[str, ...] = ("--facade", f"{scheme}://localhost:{port}")
        if name == "watch":
            asked = (*asked, "--once")
        ended = run(*name.split(), *COMMANDS[name], *asked)
    assert (ended.code, ended.out) == (3, "")
    assert says in ended.err
    assert "Traceback" not in ended.err


def test_a_facade_with_a_path_that_is_away_is_no_wrong_input(run: Callable[..., Ended]) -> None:
    with listening(None) as port:
        ended = run("servers", "--facade", f"http://localhost:{port}/mcp")
    assert ended.code == 3
    assert (
        "HTTP 404: no detail given; its URL has a path, the facade's address may be " in ended.err
    )
    away = f"http://localhost:{port}/mcp"
    ended = run("servers", "--facade", away)
    assert (ended.code, "may be" in ended.err) == (3, False)
    assert "is no facade" not in run("doctor", "--facade", away).out


def test_what_python_prints_by_itself_is_a_sentence_too(
    run: Callable[..., Ended], capsys: pytest.CaptureFixture[str]
) -> None:
    run("--version")

    def fail() -> None:
        raise KeyError("in a thread")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    try:
        fail()
    except KeyError as error:
        sys.excepthook(KeyError, error, error.__traceback__)
    said = capsys.readouterr().err
    assert said.count("mcp-discovery: an error that nobody foresaw: KeyError: 'in a thread'") == 2
    assert "Traceback" not in said


@pytest.mark.parametrize("shown", [False, True])
def test_a_log_holds_a_traceback_with_debug_only(
    shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mcp_discovery.cli import logs

    monkeypatch.setattr(failures, "_shown", shown)
    try:
        raise KeyError("lost")
    except KeyError:
        record = logging.LogRecord("a", 40, __file__, 1, "guarded", (), sys.exc_info())
    for made in (logs._TextLines(), logs._JsonLines()):
        line = made.format(record)
        assert "guarded" in line and "KeyError: 'lost'" in line
        assert ("Traceback" in line) == shown
        assert "\n" not in line
