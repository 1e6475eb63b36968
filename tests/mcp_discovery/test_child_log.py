"""Which line tells why a process ended, and how much of what it says is logged."""

from __future__ import annotations

import logging

import pytest

from mcp_discovery.child_log import ChildLog

NODE = """\
file:///srv/index.js:2
process.stdin.on('data', () => { throw Object.assign(new TypeError("no key"), {code: 'X'}) });
                               ^

TypeError: no key
    at Socket.<anonymous> (file:///srv/index.js:2:52)
    at Pipe.onErrorRead (node:internal/stream_base_commons:191:23) {
  code: 'X'
}

Node.js v20.20.2
"""
PYTHON = """\
INFO starting, 0 errors
Traceback (most recent call last):
  File "server.py", line 3, in <module>
    raise RuntimeError("error")
RuntimeError: error

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "server.py", line 5, in <module>
    import nothing
ModuleNotFoundError: No module named 'nothing'
"""
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "server.py", line 3, in <module>
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "server.py", line 9, in main
    | ValueError: no key
    +------------------------------------
"""
NPM = """\
npm error code E404
npm error 404
npm error 404  The requested resource 'x@*' could not be found.
npm error 404
npm error 404 Note that you can also install from a
npm error 404 tarball, folder, http url, or git url.
npm error A complete log of this run can be found in: /root/.npm/_logs/debug-0.log
"""
GO = """\
panic: no key

goroutine 1 [running]:
main.main()
\t/srv/main.go:4 +0x39
exit status 2
"""
RUST = """\
thread 'main' panicked at src/main.rs:2:5: no key
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""


@pytest.mark.parametrize(
    ("said", "telling"),
    [
        (NODE, "TypeError: no key"),
        (PYTHON, "ModuleNotFoundError: No module named 'nothing'"),
        (GROUP, "ValueError: no key"),
        (NPM, "npm error 404 The requested resource 'x@*' could not be found."),
        (GO, "panic: no key"),
        (RUST, "thread 'main' panicked at src/main.rs:2:5: no key"),
        ("usage: it [-h]\nit: error: no --key\n", "it: error: no --key"),
        ("starting\ngoodbye", "goodbye"),
        ("\x1b[1;31mError:\x1b[0m no key\r\n\n", "Error: no key"),
        ("  only this\n", "only this"),
        ("", ""),
    ],
    ids=["node", "python", "group", "npm", "go", "rust", "usage", "words", "colour", "flush", "no"],
)
def test_the_line_that_tells(said: str, telling: str) -> None:
    log = ChildLog("it")
    for begin in range(0, len(said), 7):
        log.said(said[begin : begin + 7].encode())
    log.said(b"")
    assert log.telling == telling


def test_what_is_logged_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_discovery")
    log = ChildLog("it")
    for _ in range(100):
        log.said(b"x" * 100_000)
    log.said(b"\n" + b"line\n" * 10_000)
    log.said(b"\xff\x00 odd\nlast: error")
    log.said(b"")
    log.end()
    said = [each.getMessage() for each in caplog.records]
    assert len(said) < 250
    assert said[0] == f"it: {'x' * 1000}…"
    assert said[1] == "it: line"
    assert any(each.endswith("more lines are left out") for each in said)
    assert log.telling == "last: error"
