"""Logging for the long-running commands: one line for each event, as text or as JSON."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import orjson

from mcp_discovery.cli.failures import text_of
from mcp_discovery.cli.terminal import clean
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import rfc3339
from mcp_discovery.telemetry.spans import ids

_LEVELS = ("debug", "info", "warning", "error")


def start(level: str, *, json: bool) -> None:
    """Logs to standard error from ``level`` on; raises :class:`InvalidInputError` for an unknown
    one."""
    require_level(level)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if json else _TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # At INFO these log their internals only.
    for chatty in ("asyncio", "aiohttp.access", "google_genai", "httpx2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_moment(record)} {record.levelname:7} {record.name}: {record.getMessage()}"
        if record.exc_info and (error := record.exc_info[1]) is not None:
            line += f": {text_of(error)}"
        if (known := ids()) is not None:
            line += f" (trace {known.trace})"
        # One event is one line: a line break in a message cannot forge another event.
        return clean(line.replace("\r", "\\r").replace("\n", "\\n"))


def require_level(level: str) -> None:
    """Raises :class:`InvalidInputError` for a level that is none."""
    if level.lower() not in _LEVELS:
        raise InvalidInputError(f"log level {level!r} is none of {', '.join(_LEVELS)}")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and (error := record.exc_info[1]) is not None:
            event["exception"] = text_of(error)
        if (known := ids()) is not None:
            event |= {"trace_id": known.trace, "span_id": known.span}
        return orjson.dumps(event).decode()


def _moment(record: logging.LogRecord) -> str:
    return rfc3339(datetime.fromtimestamp(record.created, UTC))
