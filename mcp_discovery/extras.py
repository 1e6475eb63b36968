"""The extras of this distribution: what each brings, and the error where it is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from mcp_discovery.errors import MissingExtraError

Extra = Literal["ask", "audit", "auth", "client", "doctor", "otel", "postgres", "redis", "semantic"]

#: A module that only the extra brings, and what the extra brings in words. Version 1 of the MCP
#: SDK has no ``mcp_types``.
_EXTRAS: dict[Extra, tuple[str, str]] = {
    "ask": ("openai", "the SDKs of OpenAI, Anthropic and Gemini"),
    "audit": ("aiosqlite", "SQLAlchemy and aiosqlite"),
    "auth": ("jwt", "PyJWT with cryptography"),
    "client": ("mcp_types", "the MCP SDK 2"),
    "doctor": ("dns", "dnspython"),
    "otel": ("opentelemetry.exporter.otlp.proto.http", "OpenTelemetry's SDK and exporter"),
    "postgres": ("asyncpg", "SQLAlchemy and asyncpg"),
    "redis": ("redis", "redis-py"),
    "semantic": ("wordllama", "WordLlama with its model"),
}


def is_installed(extra: Extra) -> bool:
    """Whether ``extra`` is installed. Nothing is imported but the packages that a module is in."""
    try:
        return find_spec(_EXTRAS[extra][0]) is not None
    except ModuleNotFoundError:
        return False


def require_extra(extra: Extra, what: str) -> None:
    """Raises :class:`MissingExtraError` where ``extra``, which ``what`` needs, is not installed.

    Nothing is imported.
    """
    if not is_installed(extra):
        _, brought = _EXTRAS[extra]
        raise MissingExtraError(extra, f"{what} needs {brought}, which is not installed here")
