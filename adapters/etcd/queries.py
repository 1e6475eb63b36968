"""Named queries in etcd: one key each, changed by compare-and-set on its revision."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing

from mcp_discovery.adapters.etcd.api import EtcdGateway
from mcp_discovery.adapters.etcd.errors import RevisionGoneError
from mcp_discovery.adapters.etcd.keys import (
    Keys,
    decode,
    delete,
    found,
    get,
    key_text,
    put,
    revision_is,
)
from mcp_discovery.adapters.store import StoredQuery, revision_in
from mcp_discovery.errors import QueryChangedError, StoreUnavailableError
from mcp_discovery.record import is_label

_NO_LEASE = "0"


class EtcdQueries:
    """The named queries under one prefix; see :class:`mcp_discovery.adapters.store.Store`."""

    def __init__(self, gateway: EtcdGateway, keys: Keys) -> None:
        self._gateway = gateway
        self._keys = keys

    async def all(self) -> Mapping[str, StoredQuery]:
        """See :meth:`mcp_discovery.adapters.store.Store.queries`."""
        stored: dict[str, StoredQuery] = {}
        first = self._keys.query("")
        try:
            async with aclosing(self._gateway.pages(self._keys.queries)) as pages:
                async for _, kvs in pages:
                    for kv in kvs:
                        name = key_text(kv["key"]).removeprefix(first)
                        if is_label(name):
                            definition = decode(kv.get("value", ""))
                            stored[name] = StoredQuery(definition, kv["mod_revision"])
        except RevisionGoneError as error:
            raise StoreUnavailableError(self._gateway.store, error.problem) from error
        return stored

    async def put(self, name: str, definition: bytes | None, expected: str | None) -> str | None:
        """See :meth:`mcp_discovery.adapters.store.Store.put_query`."""
        key = self._keys.query(name)
        write = delete(key) if definition is None else put(key, definition, _NO_LEASE)
        compare = [] if expected is None else [revision_is(key, str(revision_in(expected)))]
        done, responses = await self._gateway.txn(compare, [write, get(key)], [get(key)])
        now = found(responses[-1])
        value = None if now is None else decode(now.get("value", ""))
        # A transaction may be executed twice: then the second time finds what the first has done.
        if not done and value != definition:
            raise QueryChangedError(name, None if now is None else now["mod_revision"])
        return None if now is None else str(now["mod_revision"])
