"""How the adapter's keys are spelled, and how the gateway wants them encoded.

Under the prefix, in etcd's order of bytes:

* ``documents/<digest>``: a capability document, or the head of one in chunks
  (``documents/<digest>/<number>``); no lease;
* ``ids/<id>``: the name under which the id has its record, so that a rename finds the old one;
* ``live/<id>``: health, load and holder, on the lease of TTL;
* ``servers/<name>/<id>``: the registration, on the lease of ``reap_after``.

``live/`` to ``servers/`` is what a watch reads; the others lie outside of it. docs/etcd.md tells
the same keys to other programs, as a public interface. Records for DNS, if any, lie elsewhere:
:mod:`mcp_discovery.adapters.etcd.skydns`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass


def encode(data: str | bytes) -> str:
    """A key or value as the gateway's JSON spells it: base64."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def decode(text: str) -> bytes:
    """The bytes behind the gateway's spelling; raises :class:`ValueError` where it is none."""
    return binascii.a2b_base64(text)


def key_text(text: str) -> str:
    """A key from the gateway for people and comparisons; bytes that are no UTF-8 stay visible."""
    return decode(text).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys under one prefix, which ends with a slash."""

    prefix: str

    def live(self, id: str) -> str:
        """The key of an instance's health."""
        return f"{self.prefix}live/{id}"

    def record(self, name: str, id: str) -> str:
        """The key of an instance's registration."""
        return f"{self.prefix}servers/{name}/{id}"

    def name_of(self, id: str) -> str:
        """The key that holds the name under which ``id`` is registered."""
        return f"{self.prefix}ids/{id}"

    def document(self, digest: str) -> str:
        """The key of a document, or of its head."""
        return f"{self.prefix}documents/{digest}"

    def chunk(self, digest: str, number: int) -> str:
        """The key of a document's chunk; numbers start at 0."""
        return f"{self.prefix}documents/{digest}/{number:04}"

    @property
    def watched(self) -> tuple[str, str]:
        """First key and end (exclusive) of what a watch reads."""
        return f"{self.prefix}live/", f"{self.prefix}servers0"

    @property
    def records(self) -> tuple[str, str]:
        """First key and end of all registrations."""
        return f"{self.prefix}servers/", f"{self.prefix}servers0"

    @property
    def documents(self) -> tuple[str, str]:
        """First key and end of all documents."""
        return f"{self.prefix}documents/", f"{self.prefix}documents0"
