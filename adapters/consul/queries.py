"""Named queries in Consul's KV: one key each, changed by compare-and-set on its ModifyIndex."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.permissions import AclRight, lacking_sentence
from mcp_discovery.adapters.http import MAX_RESPONSE
from mcp_discovery.adapters.store import StoredQuery, revision_in
from mcp_discovery.errors import QueryChangedError, StoreDeniedError, StoreError, StoreFault
from mcp_discovery.record import is_label


class ConsulQueries:
    """The named queries of one store; see :class:`mcp_discovery.adapters.store.Store`."""

    def __init__(self, api: ConsulApi) -> None:
        self._api = api
        self._prefix = api.address.queries

    async def all(self) -> Mapping[str, StoredQuery]:
        """See :meth:`mcp_discovery.adapters.store.Store.queries`."""
        entries = await self._api.kv.entries(self._prefix, limit=MAX_RESPONSE)
        if not entries:  # a token without permission gets the same response
            await self._api.permissions.require([AclRight("key", self._prefix)])
        named = ((entry.key.removeprefix(self._prefix), entry) for entry in entries)
        return {
            name: StoredQuery(entry.value, str(entry.modified))
            for name, entry in named
            if is_label(name)
        }

    async def put(self, name: str, definition: bytes | None, expected: str | None) -> str | None:
        """See :meth:`mcp_discovery.adapters.store.Store.put_query`."""
        key, kv = self._prefix + name, self._api.kv
        cas = None if expected is None else revision_in(expected)
        done = False
        try:
            if cas is not None and cas < 0:
                pass  # no entry has such an index
            elif definition is not None:
                done = await kv.put(key, definition, cas=cas)
            else:
                done = await kv.delete(key, cas=cas)
        except StoreDeniedError as error:
            raise await self._denied(error) from error
        entry = await kv.get(key)
        if not done and (definition is not None or entry is not None or expected):
            raise QueryChangedError(name, None if entry is None else str(entry.modified))
        # What is there may be another's by now.
        ours = entry is not None and entry.value == definition
        return str(entry.modified) if entry is not None and ours else None

    async def lacking(self) -> str | None:
        """See :meth:`mcp_discovery.adapters.store.Store.keeps_queries`."""
        rights = [AclRight("key", self._prefix, "write")]
        lacking = await self._api.permissions.lacking(rights)
        return lacking_sentence(lacking, self._api.token.secret) if lacking else None

    async def _denied(self, error: StoreDeniedError) -> StoreDeniedError:
        """``error``, of which some versions say no more than that, with the right that it takes."""
        lacking = None
        with suppress(StoreError):
            lacking = await self.lacking()
        if lacking is None:
            return error
        return StoreDeniedError(error.store, lacking, fault=StoreFault.FORBIDDEN)
