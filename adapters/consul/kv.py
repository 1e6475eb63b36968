"""Consul's KV store: entries, and the sessions that hold some of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from mcp_discovery.adapters.consul.transport import (
    MAX_LIST,
    ConsulTransport,
    QueryResult,
    is_filtered,
)
from mcp_discovery.adapters.http import StoreResponse
from mcp_discovery.errors import DiscoveryError, StoreDeniedError

#: The flags of an entry that is to be held by a session. Consul gives them no meaning; whoever
#: writes an entry without flags sets them to 0.
GUARDED = 1

#: What a transaction says whose key has changed, or exists already.
_CHANGED = ("index is stale", "exists")


class TransactionsBlockedError(DiscoveryError):
    """A proxy lets no transaction pass. Never leaves the adapter."""


@dataclass(frozen=True, slots=True)
class KVPair:
    """One KV entry. ``raw`` is its value in base64, as Consul sends it, and cheap to compare.

    ``session`` is the session that holds it, ``guarded`` whether it was written to be held by one.
    """

    key: str
    raw: str
    modified: int
    session: str = ""
    guarded: bool = False

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> KVPair:
        """The entry in a response. Missing fields raise :class:`KeyError`, malformed ones
        :class:`TypeError`."""
        key, raw, modified = entry["Key"], entry["Value"] or "", entry["ModifyIndex"]
        if not (isinstance(key, str) and isinstance(raw, str) and isinstance(modified, int)):
            raise TypeError(key)
        return cls(key, raw, modified, entry.get("Session") or "", entry.get("Flags") == GUARDED)

    @property
    def ended(self) -> bool:
        """Whether the session that held it has ended."""
        return self.guarded and not self.session

    @property
    def value(self) -> bytes:
        """The value."""
        return base64.b64decode(self.raw)


class KVStore:
    """Consul's KV store. Reads are confirmed by the quorum where nothing else is said."""

    def __init__(self, http: ConsulTransport) -> None:
        self._http = http
        #: Whether Consul has left out records that the token may not read, where it says so.
        self.filtered = False

    async def get(self, key: str) -> KVPair | None:
        """The entry at ``key``."""
        return next(iter(self._entries(await self._read(key))), None)

    async def entries(self, prefix: str, *, limit: int = MAX_LIST) -> list[KVPair]:
        """Every entry whose key starts with ``prefix``.

        Raises :class:`~mcp_discovery.adapters.http.ResponseTooLargeError` where they are over
        ``limit`` bytes in all.
        """
        response = await self._read(prefix, {"recurse": ""}, limit=limit)
        if prefix == self._http.address.records:
            self.filtered = is_filtered(response)
        return self._entries(response)

    async def keys(self, prefix: str) -> list[str]:
        """Every key that starts with ``prefix``."""
        response = await self._read(prefix, {"keys": ""})
        if response.status == 404:
            return []
        found = self._http.json(response)
        if not isinstance(found, list):
            raise self._http.malformed(response)
        return list(map(str, found))

    async def put(self, key: str, value: bytes, *, cas: int | None = None) -> bool:
        """Writes an entry; with ``cas`` only if its ModifyIndex is that (0: if there is none).

        Returns whether it was written.
        """
        return await self._written("PUT", key, cas, value)

    async def put_held(self, key: str, value: bytes, *, cas: int, session: str) -> bool:
        """Like :meth:`put`, and from then on ``session`` holds the entry, whoever held it before.

        Raises :class:`TransactionsBlockedError`.
        """
        first: dict[str, Any] = {"Verb": "check-not-exists", "Key": key}
        if cas:
            first = {"Verb": "delete-cas", "Key": key, "Index": cas}
        encoded = base64.b64encode(value).decode()
        lock = {"Verb": "lock", "Key": key, "Value": encoded, "Flags": GUARDED, "Session": session}
        body = orjson.dumps([{"KV": first}, {"KV": lock}])
        response = await self._http.send("PUT", "/v1/txn", data=body)
        if response.status in (404, 405):
            raise TransactionsBlockedError("transactions are blocked")
        if response.status == 409 and any(word in response.text for word in _CHANGED):
            return False
        if response.status == 409 and "ermission denied" in response.text:
            raise StoreDeniedError(self._http.address.shown, f"answered: {response.text}")
        if response.status != 200:
            self._http.refuse(response)
        return True

    async def delete(self, key: str, *, cas: int | None = None) -> bool:
        """Deletes an entry; with ``cas`` only if its ModifyIndex is that. Returns whether so."""
        return await self._written("DELETE", key, cas)

    async def leaders_index(self, timeout: float) -> int:
        """The index of all of KV as the leader has it: at least that of any result of
        :meth:`watch`. Raises unless it answers within ``timeout`` seconds."""
        # Of a key that does not exist, Consul tells the index of the whole table.
        where = f"/v1/kv/{quote(self._http.address.records)}"
        response = await self._http.request("GET", where, missing=True, timeout=timeout)
        return self._http.index(response)

    async def watch(self, index: int, wait: float) -> QueryResult[list[KVPair]]:
        """A blocking query for all records; see :meth:`ConsulTransport.block`."""
        where = f"/v1/kv/{quote(self._http.address.records)}"
        response = await self._http.block(where, {"recurse": ""}, index, wait)
        now = self._http.index(response)
        self.filtered = is_filtered(response)
        return QueryResult(now, None if now == index else self._entries(response))

    async def _read(
        self, key: str, params: Mapping[str, str] | None = None, *, limit: int = MAX_LIST
    ) -> StoreResponse:
        query = {**(params or {}), "consistent": ""}
        where = f"/v1/kv/{quote(key)}"
        return await self._http.request("GET", where, query, missing=True, limit=limit)

    async def _written(
        self, method: str, key: str, cas: int | None, value: bytes | None = None
    ) -> bool:
        params = {} if cas is None else {"cas": str(cas)}
        response = await self._http.request(method, f"/v1/kv/{quote(key)}", params, data=value)
        return response.body.strip() == b"true"

    def _entries(self, response: StoreResponse) -> list[KVPair]:
        if response.status == 404:
            return []
        with self._http.reading(response):
            return list(map(KVPair.read, self._http.json(response)))
