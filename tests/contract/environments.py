"""The stores under test, each with what the contract needs of it and the seam does not offer."""

from __future__ import annotations

import base64
import sqlite3
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import orjson

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Store, StoreOptions
from mcp_discovery.health import healthy
from mcp_discovery.instance import Holder, Lease, encode_registration, health_to_dict
from tests.contract.served_facade import ServedFacade
from tests.records import record
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer, encode, prefix_end
from tests.stores.server import RequestRefused


class StoreEnvironment(ABC):
    """One store, empty at first. Every object from :meth:`open` is another party to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stack = AsyncExitStack()

    async def open(self, options: StoreOptions | None = None) -> Store:
        """A store object of its own on this store, closed with the environment."""
        store = open_store(self.url, options or StoreOptions(timeout=30))
        return await self.stack.enter_async_context(store)

    @abstractmethod
    async def writes(self) -> object:
        """A value that changes whenever something is written."""

    @abstractmethod
    async def digests(self) -> set[str]:
        """The digests of the documents that are kept."""

    async def document_keys(self, digest: str) -> list[str]:
        """The keys of a document, in order."""
        raise NotImplementedError(f"nobody else can read the keys of {self.url}")

    async def delete(self, key: str) -> None:
        """Deletes one key, as an operator may."""
        raise NotImplementedError(f"nobody else can write into {self.url}")

    async def put_foreign(self) -> dict[str, bytes]:
        """Puts in what is no instance, in many ways; returns the keys with their values."""
        raise NotImplementedError(f"nobody else can write into {self.url}")

    async def wipe(self) -> None:
        """Loses all data at once, as a store that is restored empty does."""
        raise NotImplementedError(f"{self.url} cannot lose its data while it runs")

    async def away(self) -> None:
        """Stops the store's server. Only for an environment with a server of its own."""
        raise NotImplementedError(f"{self.url} has no server")

    async def back(self) -> None:
        """Starts the server again, with its data."""
        raise NotImplementedError(f"{self.url} has no server")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()


class EmbeddedEnvironment(StoreEnvironment):
    """In process: one store object, which every party shares; perhaps with a file."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(f"embedded://{path}" if path else "embedded:")
        self._path = path
        self._store: EmbeddedStore | None = None

    async def open(self, options: StoreOptions | None = None) -> EmbeddedStore:
        if self._store is None:
            self._store = await self.stack.enter_async_context(EmbeddedStore(self.url))
        return self._store

    async def writes(self) -> object:
        if self._path is None:
            return None  # what a heartbeat must not do is then for the watchers to see
        journal = self._path.with_name(self._path.name + "-wal").stat()
        return journal.st_mtime_ns, journal.st_size

    async def digests(self) -> set[str]:
        store = await self.open()
        return store.digests()

    async def put_foreign(self) -> dict[str, bytes]:
        assert self._path, "nobody else can write into a process"
        assert self._store is None, "the file is one process's: write before it is opened"
        await EmbeddedStore(self.url).close()
        with sqlite3.connect(self._path) as file:
            for key, value in MALFORMED.items():
                row = (key, value, orjson.dumps(health_to_dict(healthy())))
                file.execute("INSERT INTO instances VALUES (?, ?, ?)", row)
        file.close()
        return MALFORMED


class RemoteEnvironment(StoreEnvironment):
    """A facade with its embedded store behind real HTTP."""

    def __init__(self, facade: ServedFacade) -> None:
        super().__init__(facade.url)
        self._facade = facade

    async def writes(self) -> object:
        return self._facade.revision

    async def digests(self) -> set[str]:
        return self._facade.store.digests()

    async def wipe(self) -> None:
        await self._facade.stop()
        await self._facade.start(EmbeddedStore())

    async def away(self) -> None:
        await self._facade.stop()

    async def back(self) -> None:
        await self._facade.start(EmbeddedStore())


class ConsulEnvironment(StoreEnvironment):
    """A Consul server, shared or of this environment's own."""

    def __init__(self, server: ConsulServer, namespace: str) -> None:
        super().__init__(f"{server.store_url}/{namespace}")
        self._server = server
        self._namespace = namespace

    async def writes(self) -> object:
        keys = await self._server.api("GET", f"/v1/kv/{self._namespace}/?recurse&consistent=1")
        health = await self._server.api("GET", f"/v1/health/service/{self._namespace}?consistent")
        return (
            [(key["Key"], key["ModifyIndex"]) for key in keys.json()],
            [
                sorted((check["CheckID"], check["ModifyIndex"]) for check in entry["Checks"])
                for entry in health.json()
            ],
        )

    async def digests(self) -> set[str]:
        prefix = f"{self._namespace}/documents/"
        keys = await self._keys(prefix)
        return {key.removeprefix(prefix).split("/")[0] for key in keys}

    async def document_keys(self, digest: str) -> list[str]:
        return await self._keys(f"{self._namespace}/documents/{digest}/")

    async def delete(self, key: str) -> None:
        await self._server.api("DELETE", f"/v1/kv/{key}")

    async def _keys(self, prefix: str) -> list[str]:
        try:
            answer = await self._server.api("GET", f"/v1/kv/{prefix}?keys&consistent")
        except RequestRefused as refused:
            if refused.status == 404:  # no key below the prefix
                return []
            raise
        return [str(key) for key in answer.json()]

    async def put_foreign(self) -> dict[str, bytes]:
        foreign = {f"{self._namespace}/servers/{k}": v for k, v in FOREIGN.items()}
        for key, value in foreign.items():
            await self._server.api("PUT", f"/v1/kv/{urllib.parse.quote(key)}", data=value)
        return foreign

    async def wipe(self) -> None:
        await self._server.restart(wipe=True)

    async def away(self) -> None:
        await self._server.stop()

    async def back(self) -> None:
        await self._server.start()


class EtcdEnvironment(StoreEnvironment):
    """An etcd server, shared or of this environment's own."""

    def __init__(self, server: EtcdServer, namespace: str) -> None:
        super().__init__(f"{server.store_url}/{namespace}")
        self._server = server
        self._prefix = f"/{namespace}/"

    async def writes(self) -> object:
        found = await self._range("")
        return [(kv["key"], kv["mod_revision"]) for kv in found]

    async def digests(self) -> set[str]:
        keys = await self.document_keys("")
        return {key.removeprefix(f"{self._prefix}documents/").split("/")[0] for key in keys}

    async def document_keys(self, digest: str) -> list[str]:
        found = await self._range(f"documents/{digest}")
        return [base64.b64decode(kv["key"]).decode() for kv in found]

    async def delete(self, key: str) -> None:
        await self._server.call("kv/deleterange", {"key": encode(key)})

    async def _range(self, under: str) -> list[dict[str, str]]:
        prefix = self._prefix + under
        span = {"key": encode(prefix), "range_end": encode(prefix_end(prefix))}
        answer = await self._server.call("kv/range", span | {"keys_only": True})
        found: list[dict[str, str]] = answer.get("kvs", [])
        return found

    async def put_foreign(self) -> dict[str, bytes]:
        foreign = {f"{self._prefix}servers/{k}": v for k, v in FOREIGN.items()}
        foreign[f"{self._prefix}lost/key"] = b"between the two prefixes"
        for key, value in foreign.items():
            body = {"key": encode(key), "value": base64.b64encode(value).decode()}
            await self._server.call("kv/put", body)
        return foreign

    async def wipe(self) -> None:
        await self._server.restart(wipe=True)

    async def away(self) -> None:
        await self._server.stop()

    async def back(self) -> None:
        await self._server.start()


#: A registration as it should be, to be found where it does not belong.
MISPLACED = encode_registration(
    record("elsewhere", name="x"), Lease(Holder("h", "host", "sidecar"), 30, 60)
)

#: id → what is stored for it, none of it a registration.
MALFORMED = {
    "empty": b"",
    "no-json": b"{",
    "not-utf8": b'{"name": "\xff\xfe"}',
    "no-object": b"[1, 2]",
    "no-record": b'{"name": 1}',
    "no-lease": b'{"id":"no-lease","name":"x","endpoint":{"url":"http://127.0.0.1:1/"}}',
    "deep": b"[" * 100_000,
    "misplaced": MISPLACED,
}
#: The same as keys below ``servers/``, and keys that are no instance's.
FOREIGN = {f"x/{id}": value for id, value in MALFORMED.items()} | {
    "alone": b"{}",
    "a/b/c/d": b"{}",
    "Ünï/çødé": b"{}",
}

#: How a test asks for an environment: by its name.
MakeEnvironment = Callable[[str], Awaitable[StoreEnvironment]]
