"""Consul's KV store."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from mcp_discovery.adapters.consul.transport import MAX_LIST, Reading, Transport, path
from mcp_discovery.adapters.http import Answer


@dataclass(frozen=True, slots=True)
class Entry:
    """One KV entry. ``raw`` is its value as Consul sends it, base64, cheap to compare."""

    key: str
    raw: str
    modified: int

    @property
    def value(self) -> bytes:
        """The value."""
        return base64.b64decode(self.raw)


class Kv:
    """KV entries. Reads go through the quorum."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    async def get(self, key: str) -> Entry | None:
        """The entry at ``key``, as the leader has it now."""
        answer = await self._http.ask(
            "GET", f"/v1/kv/{path(key)}", {"consistent": ""}, missing=True
        )
        entries = self._entries(answer)
        return entries[0] if entries else None

    async def entries(self, prefix: str, *, limit: int = MAX_LIST) -> list[Entry]:
        """Every entry whose key starts with ``prefix``, as the leader has them now.

        Raises :class:`mcp_discovery.adapters.http.AnswerTooLarge` where they are over ``limit``
        bytes in all.
        """
        params = {"recurse": "", "consistent": ""}
        where = f"/v1/kv/{path(prefix)}"
        return self._entries(await self._http.ask("GET", where, params, missing=True, limit=limit))

    async def keys(self, prefix: str) -> list[str]:
        """Every key that starts with ``prefix``, as the leader has them now."""
        params = {"keys": "", "consistent": ""}
        answer = await self._http.ask("GET", f"/v1/kv/{path(prefix)}", params, missing=True)
        if answer.status == 404:
            return []
        found = self._http.json(answer)
        if not isinstance(found, list):
            raise self._http.strange(answer)
        return [str(key) for key in found]

    async def put(self, key: str, value: bytes, *, cas: int | None = None) -> bool:
        """Writes an entry; with ``cas`` only if its ModifyIndex is that (0: if there is none).

        Returns whether it was written.
        """
        params = {} if cas is None else {"cas": str(cas)}
        answer = await self._http.ask("PUT", f"/v1/kv/{path(key)}", params, data=value)
        return answer.body.strip() == b"true"

    async def delete(self, key: str, *, cas: int | None = None) -> bool:
        """Deletes an entry; with ``cas`` only if its ModifyIndex is that. Returns whether so."""
        params = {} if cas is None else {"cas": str(cas)}
        answer = await self._http.ask("DELETE", f"/v1/kv/{path(key)}", params)
        return answer.body.strip() == b"true"

    async def require_served(self, timeout: float) -> None:
        """Raises unless the leader is asked for a key, with our token, within ``timeout`` s."""
        where = f"/v1/kv/{path(self._http.address.records)}"
        await self._http.ask("GET", where, missing=True, timeout=timeout)

    async def watch(self, index: int, wait: float) -> Reading[list[Entry]]:
        """A blocking query for the records; ``index`` 0 answers at once, through the quorum."""
        where = f"/v1/kv/{path(self._http.address.records)}"
        answer = await self._http.block(where, {"recurse": ""}, index, wait)
        now = self._http.index(answer)
        return Reading(now, None if now == index else self._entries(answer))

    def _entries(self, answer: Answer) -> list[Entry]:
        if answer.status == 404:
            return []
        try:
            entries = [
                Entry(item["Key"], item["Value"] or "", item["ModifyIndex"])
                for item in self._http.json(answer)
            ]
        except (KeyError, TypeError) as error:
            raise self._http.strange(answer) from error
        for each in entries:
            known = isinstance(each.key, str) and isinstance(each.raw, str)
            if not known or not isinstance(each.modified, int):
                raise self._http.strange(answer)
        return entries
