"""The parts of an etcd transaction, as the JSON gateway spells them."""

from __future__ import annotations

from typing import Any

from mcp_discovery.adapters.etcd.keys import encode

Json = dict[str, Any]


def lease_is(key: str, lease: str) -> Json:
    """True when ``key`` is there and on ``lease``: nobody else has written it since."""
    return {"key": encode(key), "target": "LEASE", "result": "EQUAL", "lease": lease}


def value_is(key: str, value: bytes) -> Json:
    """True when ``key`` is there with just that ``value``."""
    return {"key": encode(key), "target": "VALUE", "result": "EQUAL", "value": encode(value)}


def revision_is(key: str, revision: str) -> Json:
    """True when ``key`` was last written at ``revision``; ``"0"`` is a key that is not there."""
    return {"key": encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision}


def exists(key: str) -> Json:
    """True when ``key`` is there."""
    return {"key": encode(key), "target": "CREATE", "result": "GREATER", "create_revision": "0"}


def untouched_since(keys: tuple[str, str], revision: int) -> Json:
    """True when no key of the range was written after ``revision``."""
    return {
        "key": encode(keys[0]),
        "range_end": encode(keys[1]),
        "target": "MOD",
        "result": "LESS",
        "mod_revision": str(revision + 1),
    }


def put(key: str, value: str | bytes, lease: str) -> Json:
    """Writes ``key`` on ``lease``; ``"0"`` is none. A put without its lease would detach it."""
    return {"request_put": {"key": encode(key), "value": encode(value), "lease": lease}}


def delete(key: str, end: str | None = None) -> Json:
    """Removes ``key``, or all keys from it to ``end``."""
    request = {"key": encode(key)} | ({"range_end": encode(end)} if end else {})
    return {"request_delete_range": request}


def get(key: str, *, keys_only: bool = False) -> Json:
    """Reads ``key``; with ``keys_only`` without its value."""
    return {"request_range": {"key": encode(key), "keys_only": keys_only}}


def found(response: Json) -> Json | None:
    """The key and value that a :func:`get` found, or ``None``."""
    kvs = response["response_range"].get("kvs")
    return kvs[0] if kvs else None
