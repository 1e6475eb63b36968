"""Session ids that name the instance which gave them, so that any facade can route them."""

from __future__ import annotations

from mcp_discovery.record import is_label

#: The header of MCP before 2026-07-28 in which a session's id comes and goes.
SESSION = "Mcp-Session-Id"


def wrapped(instance: str, session: str) -> str:
    """What a client is given for ``session`` of ``instance``.

    An instance's id is a DNS label, so that the first dot ends it; the session's own id stays as
    the server made it.
    """
    return f"{instance}.{session}"


def unwrapped(text: str) -> tuple[str, str] | None:
    """The instance's id and its session; ``None`` for what :func:`wrapped` did not make."""
    instance, _, session = text.partition(".")
    return (instance, session) if session and is_label(instance) else None
