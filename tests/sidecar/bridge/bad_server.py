"""A handmade MCP server over stdio that behaves badly when it is told to.

``bad_server.py [FAULT…]``: a fault is one of :data:`STARTS`. Its tools, :data:`TOOLS`, are others.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Id = int | str


def say(line: str | bytes, end: bytes = b"\n") -> None:
    """Writes to standard output as it is."""
    data = line.encode() if isinstance(line, str) else line
    sys.stdout.buffer.write(data + end)
    sys.stdout.buffer.flush()


def reply(id: Id, text: Any) -> str:
    content = [{"type": "text", "text": text if isinstance(text, str) else json.dumps(text)}]
    return json.dumps({"jsonrpc": "2.0", "id": id, "result": {"content": content}})


def crash(code: int = 7) -> None:
    print("Error: it broke\n    at main (index.js:3)\n\nNode.js v20.20.2", file=sys.stderr)
    sys.stderr.flush()
    os._exit(code)


def crash_with_worker() -> None:
    subprocess.Popen(["sleep", "300"])  # which holds its pipes
    crash(5)


def raise_error(id: Id) -> None:
    raise ValueError("no such thing")


def become_daemon(id: Id) -> None:
    if os.fork():
        os._exit(0)
    say(reply(id, "a daemon"))


def leave_mute_daemon() -> None:
    if os.fork():
        os._exit(0)
    time.sleep(300)


def start_worker(id: Id) -> None:
    workers = [
        subprocess.Popen(["sleep", "300"], stdin=-3, stdout=-3, stderr=-3, start_new_session=new)
        for new in (False, True)
    ]
    say(reply(id, [each.pid for each in workers]))


def orphan(id: Id) -> None:
    """Starts a process in a session of its own, whose parent has ended."""
    script = "setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!"
    say(reply(id, subprocess.check_output(["sh", "-c", script], text=True).strip()))


def flood_log(id: Id) -> None:
    line = b"x" * 99 + b"\n"
    for _ in range(1000):
        os.write(2, line * 600)
    os.write(2, b"y" * 5_000_000)
    say(reply(id, "done"))


def noise(id: Id) -> None:
    for _ in range(20_000):
        say("not JSON at all")
    say("[1, 2")
    say(json.dumps("text"))
    say("[" * 100_000)
    say(reply(id, "after noise"))


def two_answers(id: Id) -> None:
    say(reply(id, "first"))
    say(reply(id, "second"))
    say(reply("nobody", "third"))
    say(reply(10**30, "fourth"))
    say('{"jsonrpc": "2.0", "id": null, "result": {}}')
    say('{"jsonrpc": "2.0", "id": {"a": 1}, "result": {}}')
    say('{"jsonrpc": "2.0", "id": [1], "method": "roots/list"}')
    say('{"jsonrpc": "2.0", "id": 1.5, "method": 7}')


def cancels_and_asks(id: Id) -> None:
    params: Any
    odd: Any
    for params in ({"requestId": [1]}, {"requestId": {}}, {}, {"requestId": "9" * 5000}):
        say(json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}))

    for odd in ("9" * 5000, True, None, [], 1.5):
        say(json.dumps({"jsonrpc": "2.0", "id": odd, "result": {}}))
        say(json.dumps({"jsonrpc": "2.0", "id": odd, "method": "roots/list", "params": [1]}))
        progress = {"method": "notifications/progress", "params": {"progressToken": odd}}
        say(json.dumps({"jsonrpc": "2.0", **progress}))
    for _ in range(5000):
        say('{"jsonrpc": "2.0", "id": 1, "method": "roots/list"}')
    say(reply(id, "asked"))


def split(id: Id) -> None:
    """Each byte by itself."""
    for byte in b'{"jsonrpc":"2.0","id":%d,"result":{"text":"%b"}}\r\n' % (int(id), "ö✓𝄞".encode()):
        say(bytes([byte]), b"")
        if byte > 127:
            time.sleep(0.01)


def odd_text(id: Id) -> None:
    """With a byte order mark, indented, and without a blank that could be left out."""
    raw = json.dumps({"jsonrpc": "2.0", "id": id, "result": {"text": "odd"}}, separators=(",", ":"))
    say(b"\xef\xbb\xbf  \t" + raw.encode() + b" \r")


def latin(id: Id) -> None:
    say(b'{"jsonrpc":"2.0","id":%d,"result":{"text":"sch\xf6n","big":%d}}' % (int(id), 10**30))


def factorial(id: Id) -> None:
    number = -math.factorial(30)
    said = {"number": number, "digits": "1" * 40, "part": 0.5}
    say(json.dumps({"jsonrpc": "2.0", "id": id, "result": said}))


def huge(id: Id, size: int = 65 * 2**20) -> None:
    say(b'{"result":{"text":"', b"")
    for _ in range(size // 2**20):
        say(b"x" * 2**20, b"")
    say(b'"},"jsonrpc":"2.0","id":%d}' % int(id))


def last_words(id: Id) -> None:
    """An answer with half a character, and no end of its line."""
    say(json.dumps({"jsonrpc": "2.0", "id": id, "result": {"text": "half \ud83d"}}), b"")
    os._exit(0)


def large(id: Id) -> None:
    huge(id, 8 * 2**20)


def deep(id: Id) -> None:
    say(b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (int(id), b"[" * 50_000 + b"]" * 50_000))


def rather_deep(id: Id) -> None:
    depth = 1015
    say(b'{"jsonrpc":"2.0","id":%d,"result":{"a":%b}}' % (int(id), b"[" * depth + b"]" * depth))


def close_input(id: Id) -> None:
    os.close(0)
    say(reply(id, "closed"))
    time.sleep(300)


def close_output(id: Id) -> None:
    os.close(1)
    time.sleep(300)


def stop(id: Id) -> None:
    say(reply(id, "stopping"))
    os.kill(os.getpid(), signal.SIGSTOP)


def spin(id: Id) -> None:
    say(reply(id, "spinning"))
    while True:
        pass


def take_memory(id: Id) -> None:
    say(reply(id, "taking"))
    held = bytearray(b"x" * (200 * 2**20))
    time.sleep(300)
    del held


def environment(id: Id) -> None:
    say(reply(id, {"env": dict(os.environ), "cwd": os.getcwd(), "pid": os.getpid()}))


TOOLS: dict[str, Callable[[Id], None]] = {
    "crash": lambda _: crash(),
    "crash-with-worker": lambda _: crash_with_worker(),
    "raise-error": raise_error,
    "become-daemon": become_daemon,
    "leave-mute-daemon": lambda _: leave_mute_daemon(),
    "start-worker": start_worker,
    "orphan": orphan,
    "flood-log": flood_log,
    "noise": noise,
    "two-answers": two_answers,
    "cancels-and-asks": cancels_and_asks,
    "split": split,
    "odd-text": odd_text,
    "latin": latin,
    "factorial": factorial,
    "huge": huge,
    "last-words": last_words,
    "large": large,
    "deep": deep,
    "rather-deep": rather_deep,
    "close-input": close_input,
    "close-output": close_output,
    "stop": stop,
    "spin": spin,
    "take-memory": take_memory,
    "environment": environment,
    "wait": lambda _: time.sleep(300),
}


def asks_first() -> None:
    say('{"jsonrpc": "2.0", "id": 1, "method": "ping"}')
    say('{"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {}}')
    say('{"jsonrpc": "2.0", "id": "1", "method": "roots/list"}')
    say('{"jsonrpc": "2.0", "id": 1, "result": {"capabilities": {}}}')
    say('{"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": 1}}')


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def catch_signals() -> None:
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda number, _: print(f"caught {number}", file=sys.stderr))


def serve_http() -> None:
    print("Server listening on http://127.0.0.1:3001/mcp", file=sys.stderr, flush=True)
    time.sleep(300)


def log_in() -> None:
    print("Open https://login.example/device and enter ABCD", file=sys.stderr, flush=True)
    time.sleep(300)


STARTS: dict[str, Callable[[], None]] = {
    "asks-first": asks_first,
    "ignores-sigterm": ignore_sigterm,
    "catches-signals": catch_signals,
    "serves-http": serve_http,
    "logs-in": log_in,
}
INITIALIZED = {
    "protocolVersion": "2025-11-25",
    "serverInfo": {"name": "bad", "version": "1.0.0"},
    "capabilities": {"tools": {}},
}


def main() -> None:
    """Serves until its input ends."""
    for fault in sys.argv[1:]:
        STARTS[fault]()
    for line in sys.stdin:
        message = json.loads(line)
        id = message.get("id")
        match message.get("method"):
            case "initialize":
                say(json.dumps({"jsonrpc": "2.0", "id": id, "result": INITIALIZED}))
            case "ping":
                say(json.dumps({"jsonrpc": "2.0", "id": id, "result": {}}))
            case "tools/list":
                tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
                say(json.dumps({"jsonrpc": "2.0", "id": id, "result": {"tools": tools}}))
            case "tools/call":
                TOOLS[message["params"]["name"]](id)
            case method if method is not None and id is not None:
                error = {"code": -32601, "message": "Method not found"}
                say(json.dumps({"jsonrpc": "2.0", "id": id, "error": error}))
            case _:
                pass
    if "ignores-sigterm" in sys.argv:
        time.sleep(300)


if __name__ == "__main__":
    main()
