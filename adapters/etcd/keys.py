"""The keys and values of this store in etcd, and their form in the JSON gateway's requests.

Under the prefix, in etcd's byte order:

* ``documents/<digest>``: a capability document, or the head of one that is stored in chunks
  (``documents/<digest>/<number>``); without a lease;
* ``ids/<id>``: the server name under which the id has its record, so that a rename finds the old
  one; on the lease of ``reap_after``;
* ``live/<id>``: health, load and holder (:class:`LiveValue`), on the lease of TTL;
* ``queries/<name>``: the definition of a named query, without a lease;
* ``servers/<name>/<id>``: the record with its lease terms, on the lease of ``reap_after``.

A watch reads the range from ``live/`` to ``servers/``, and passes over what else it holds: the
queries. docs/etcd.md
documents these keys for other programs. DNS records are stored elsewhere, see
:mod:`mcp_discovery.adapters.etcd.skydns`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson

from mcp_discovery.health import Health, Load
from mcp_discovery.instance import health_from_dict, health_to_dict, load_from_dict, load_to_dict

Json = dict[str, Any]


def encode(data: str | bytes) -> str:
    """A key or value for the gateway: base64."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def decode(text: str) -> bytes:
    """A key or value from the gateway; raises :class:`ValueError` where it is not base64."""
    return binascii.a2b_base64(text)


def key_text(text: str) -> str:
    """A key from the gateway as text; bytes that are not UTF-8 are shown as escapes."""
    return decode(text).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys under one prefix, which ends with a slash."""

    prefix: str

    def live(self, id: str) -> str:
        """The key of an instance's health."""
        return f"{self.prefix}live/{id}"

    def record(self, name: str, id: str) -> str:
        """The key of an instance's record."""
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

    def query(self, name: str) -> str:
        """The key of a named query."""
        return f"{self.prefix}queries/{name}"

    @property
    def queries(self) -> tuple[str, str]:
        """First key and end of all named queries."""
        return f"{self.prefix}queries/", f"{self.prefix}queries0"

    @property
    def watched(self) -> tuple[str, str]:
        """First key and end (exclusive) of what a watch reads."""
        return f"{self.prefix}live/", f"{self.prefix}servers0"

    @property
    def records(self) -> tuple[str, str]:
        """First key and end of all records."""
        return f"{self.prefix}servers/", f"{self.prefix}servers0"

    @property
    def documents(self) -> tuple[str, str]:
        """First key and end of all documents."""
        return f"{self.prefix}documents/", f"{self.prefix}documents0"


@dataclass(frozen=True, slots=True)
class LiveValue:
    """The value of a ``live/<id>`` key, written whenever health or load change.

    ``holder`` is the holder's id, ``name`` the server's name, under which the record is stored.
    """

    health: Health
    load: Load | None
    holder: str
    name: str

    def encode(self) -> bytes:
        """The value as JSON."""
        content = health_to_dict(self.health) | {"holder": self.holder, "name": self.name}
        if self.load is not None:
            content["load"] = load_to_dict(self.load)
        return orjson.dumps(content)

    @classmethod
    def decode(cls, value: bytes) -> LiveValue:
        """Reads what :meth:`encode` wrote; raises :class:`ValueError` for anything else."""
        content = orjson.loads(value)
        if not isinstance(content, dict):
            raise ValueError("the health is not a JSON object")
        holder, name = content.get("holder"), content.get("name")
        if not isinstance(holder, str) or not isinstance(name, str):
            raise ValueError("the health names no holder or no server")
        return cls(health_from_dict(content), load_from_dict(content.get("load")), holder, name)


# -- the parts of a transaction -----------------------------------------------------------------


def lease_is(key: str, lease: str) -> Json:
    """True if ``key`` exists and is on ``lease``: nobody else has written it since."""
    return {"key": encode(key), "target": "LEASE", "result": "EQUAL", "lease": lease}


def value_is(key: str, value: bytes) -> Json:
    """True if ``key`` exists with this ``value``."""
    return {"key": encode(key), "target": "VALUE", "result": "EQUAL", "value": encode(value)}


def revision_is(key: str, revision: str) -> Json:
    """True if ``key`` was last written at ``revision``; ``"0"`` means that it does not exist."""
    return {"key": encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision}


def exists(key: str) -> Json:
    """True if ``key`` exists."""
    return {"key": encode(key), "target": "CREATE", "result": "GREATER", "create_revision": "0"}


def untouched_since(keys: tuple[str, str], revision: int) -> Json:
    """True if no key of the range was written after ``revision``."""
    return {
        "key": encode(keys[0]),
        "range_end": encode(keys[1]),
        "target": "MOD",
        "result": "LESS",
        "mod_revision": str(revision + 1),
    }


def put(key: str, value: str | bytes, lease: str) -> Json:
    """Writes ``key`` on ``lease``; ``"0"`` is none, and detaches the key from its lease."""
    return {"request_put": {"key": encode(key), "value": encode(value), "lease": lease}}


def delete(key: str, end: str | None = None) -> Json:
    """Removes ``key``, or all keys from it to ``end``."""
    request = {"key": encode(key)} | ({"range_end": encode(end)} if end else {})
    return {"request_delete_range": request}


def get(key: str, *, end: str | None = None, keys_only: bool = False) -> Json:
    """Reads ``key``, or all keys from it to ``end``; with ``keys_only`` without their values."""
    span = {"key": encode(key)} | ({"range_end": encode(end)} if end else {})
    return {"request_range": span | {"keys_only": keys_only}}


def prefix_end(prefix: str) -> str:
    """The end (exclusive) of the keys that begin with ``prefix``, whose last letter is ASCII."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def found(response: Json) -> Json | None:
    """What a :func:`get` read, or ``None`` if the key does not exist."""
    kvs = response["response_range"].get("kvs")
    return kvs[0] if kvs else None
