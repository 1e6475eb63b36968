"""Reads Consul's answers about services piece by piece, and of each only what is new.

Consul answers with every service each time, however little has changed. To read all of that anew
takes a second of processor time for some tens of thousands of instances, and most of a change's
way to the catalog for a thousand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import orjson

from mcp_discovery.adapters.consul.checks import READ, Check, Place

#: How an entry of ``/v1/health/service/…`` begins. In a text the quotes would stand behind a
#: backslash; inside an entry it could only begin another object, and cut there it is no JSON.
_BEGINS = b'{"Node":{'
_FIRST, _NEXT = b"[" + _BEGINS, b"," + _BEGINS


class Pieces:
    """What each entry of the last answer said, by a digest of its bytes.

    Of the checks only the fields that are read later are kept: a third of them.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Place, Sequence[Check]]] = {}

    def read(self, body: bytes) -> dict[Place, Sequence[Check]] | None:
        """The checks of each service, by its place: those of one whose bytes were in the answer
        before are the very same object. ``None`` where ``body`` cannot be read so."""
        if not body.startswith(_FIRST):
            return None
        known: dict[bytes, tuple[Place, Sequence[Check]]] = {}
        try:
            for piece in body.rstrip()[len(_FIRST) : -1].split(_NEXT):
                digest = hashlib.blake2b(piece, digest_size=16).digest()
                known[digest] = self._known.get(digest) or _entry(_BEGINS + piece)
        except (ValueError, KeyError, TypeError):
            return None
        self._known = known
        return dict(known.values())


def _entry(text: bytes) -> tuple[Place, Sequence[Check]]:
    entry = orjson.loads(text)
    checks = [{name: each[name] for name in READ if name in each} for each in entry["Checks"]]
    return Place(entry["Node"]["Node"], entry["Service"]["ID"]), checks
