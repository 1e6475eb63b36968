"""What is probably wrong with a command that does not speak MCP over stdio, from what it said."""

from __future__ import annotations

import re
from typing import Final

#: How programs say that they want a terminal.
_TERMINAL: Final = re.compile(
    r"\b(?:not|no|requires?|needs?|wants?|without|opening|open|control echo on)"
    r"(?: an?| the)?(?: interactive| controlling)? (?:tty|terminal)\b"
    r"|inappropriate ioctl|_curses|setupterm|/dev/tty",
    re.IGNORECASE,
)
#: How npm, uv and pip say that there is no such package.
_NO_PACKAGE: Final = re.compile(
    r"npm (?:error|ERR!) code E404|not found in the package registry|No matching distribution",
    re.IGNORECASE,
)
_SERVES_HTTP: Final = re.compile(
    r"\b(?:listening|running|serving|started|available|ready)\b.{0,80}?"
    r"(?P<url>https?://[^\s'\"<>),;]+|\bport:? \d+)",
    re.IGNORECASE,
)


def hint(said: str) -> str:
    """What to do about it, in words that follow a semicolon; empty where that cannot be told."""
    if found := _SERVES_HTTP.search(said):
        where = found["url"]
        url = where if "/" in where else f"http://127.0.0.1:{where.split()[-1]}/mcp"
        return f"it seems to serve HTTP by itself: give its URL, such as --url {url}"
    if _NO_PACKAGE.search(said):
        return "there is no such package: check its name, and that its index is the right one"
    if _TERMINAL.search(said):
        return "start it by what makes it an MCP server over stdio: a client gives it no terminal"
    return ""
