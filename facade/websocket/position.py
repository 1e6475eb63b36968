"""Where a reader of a stream stands: ``<epoch>:<revision>``."""

from __future__ import annotations

from mcp_discovery.errors import OutdatedRevisionError


def read_position(text: str) -> tuple[str, int]:
    """The epoch and the revision; raises :class:`OutdatedRevisionError` where ``text`` is no
    position."""
    epoch, colon, revision = text.partition(":")
    if not colon or not revision.isascii() or not revision.isdigit() or len(revision) > 18:
        raise OutdatedRevisionError(
            f"{text[:100]!r} is no position of this facade; it is epoch:revision"
        )
    return epoch[:100], int(revision)
