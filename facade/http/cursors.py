"""Where the next page begins, as a client is told and says it: JSON in URL-safe characters."""

from __future__ import annotations

import base64
from typing import Any

import orjson


def encode(*parts: object) -> str:
    """``parts`` in letters, digits, ``-`` and ``_``."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).rstrip(b"=").decode()


def decode(text: str) -> list[Any]:
    """The parts in ``text``, each of any type; none where it was not made by :func:`encode`."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        parts = orjson.loads(data)
    except ValueError:  # of base64 and of JSON
        return []
    return parts if isinstance(parts, list) else []
