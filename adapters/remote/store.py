"""Registrations and watches through a facade."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson

from mcp_discovery.adapters.heartbeats import ScheduledRegistration
from mcp_discovery.adapters.remote.api import FacadeApi, UnknownDocumentError, server_path
from mcp_discovery.adapters.store import (
    BaseStore,
    Change,
    Snapshot,
    StoredQuery,
    StoreOptions,
    without_queries,
)
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DocumentNotFoundError,
    DuplicateInstanceError,
    ForbiddenError,
    InvalidDocumentError,
    InvalidInputError,
    RegistrationLostError,
    StoreUnavailableError,
    UnknownQueryError,
)
from mcp_discovery.health import Health, Load
from mcp_discovery.instance import (
    Holder,
    Instance,
    Lease,
    health_to_dict,
    instance_from_dict,
    load_to_dict,
)
from mcp_discovery.probe.event_stream import Event
from mcp_discovery.record import Record


class RemoteStore(BaseStore["RemoteRegistration"]):
    """The store behind ``http://facade:4000`` and ``https://…``: the facade's own, over HTTP.

    Raises :class:`~mcp_discovery.errors.InvalidStoreURLError` for a malformed URL.
    """

    def __init__(
        self, url: str, options: StoreOptions | None = None, *, holder: Holder | None = None
    ) -> None:
        self._api = FacadeApi(url, options or StoreOptions())
        super().__init__(self._api.url, holder)

    async def _register(
        self, new: Instance, document: CapabilityDocument, takeover: str | None
    ) -> RemoteRegistration:
        sent = time.monotonic()
        body = _registration(new.record, new.lease) | {"health": health_to_dict(new.health)}
        if takeover is not None:
            body["takeover"] = takeover
        await self._send(document, "POST", "/servers", body, new.lease.holder)
        return RemoteRegistration(self, new, sent)

    async def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if event.name not in ("snapshot", "change", "stale"):
                        continue
                    try:
                        news = self._read(event.name, orjson.loads(event.data))
                    except (ValueError, TypeError, KeyError, AttributeError) as error:
                        problem = f"its event {event.name!r} cannot be read: {error!r}"
                        raise StoreUnavailableError(self.url, problem) from error
                    if news is not None:
                        yield news
        except InvalidInputError as error:
            raise StoreUnavailableError(self.url, f"it refuses to be watched: {error}") from error

    async def _events(self) -> AsyncGenerator[Event, None]:
        """The facade's events, of agents too where it knows what these are."""
        begun = False
        try:
            async with aclosing(self._api.events({"status": "all", "kind": "all"})) as events:
                async for event in events:
                    begun = True
                    yield event
        except InvalidInputError:  # a facade of a release before agents has no such parameter
            if begun:
                raise
        async with aclosing(self._api.events({"status": "all"})) as events:
            async for event in events:
                yield event

    def _read(self, name: str, data: dict[str, Any]) -> Snapshot | Change | None:
        _require_current(self.url, data, "staleSince", "problem")
        if name == "snapshot":
            entries = (self._instance(entry["id"], entry) for entry in data["servers"])
            listed = {entry.id: entry for entry in entries if entry is not None}
            partial = data.get("partial")
            return Snapshot(listed, None if partial is None else str(partial)[:1000])
        if data["server"] is None:
            self.skipped.discard(data["id"])
            return Change(data["id"], None)
        instance = self._instance(data["id"], data["server"])
        return Change(instance.id, instance) if instance is not None else None

    def _instance(self, id: str, entry: dict[str, Any]) -> Instance | None:
        try:
            instance = instance_from_dict(entry)
        except ValueError as error:
            self.skipped.add(id, str(error))
            return None
        self.skipped.discard(id)
        return instance

    async def document(self, digest: str) -> CapabilityDocument:
        answer = await self._api.call("GET", f"/documents/{digest}")
        try:
            return CapabilityDocument.from_json(answer.body, digest=digest)
        except InvalidDocumentError as error:
            raise DocumentNotFoundError(digest) from error

    async def queries(self) -> Mapping[str, StoredQuery]:
        """See :meth:`Store.queries`; raises
        :class:`~mcp_discovery.errors.ForbiddenError` where the facade shows no definitions."""
        try:
            answer = (await self._api.call("GET", "/queries")).json()
            _require_current(self.url, answer, "definitionsStaleSince", "definitionsProblem")
            return {
                str(each["name"]): StoredQuery(orjson.dumps(each["definition"]), str(each["etag"]))
                for each in answer["queries"]
                if "problem" not in each
            }
        except InvalidInputError as error:  # a facade that has no such path
            raise without_queries(self.url) from error
        except KeyError as error:
            why = "it shows the definitions of named queries to those alone who see all servers"
            raise ForbiddenError(self.url, why, needs="read") from error
        except (ValueError, TypeError, AttributeError) as error:
            problem = f"its named queries cannot be read: {error!r}"
            raise StoreUnavailableError(self.url, problem) from error

    async def put_query(
        self, name: str, definition: bytes | None, *, expected: str | None = None
    ) -> str | None:
        path = f"/queries/{quote(name, safe='')}"
        headers = {"If-None-Match": "*"} if expected == "" else {}
        headers |= {"If-Match": f'"{expected}"'} if expected else {}
        if definition is None:
            with suppress(UnknownQueryError):
                await self._api.call("DELETE", path, headers=headers)
            return None
        body = orjson.loads(definition)
        answer = (await self._api.call("PUT", path, body, headers=headers)).json()
        return None if answer["etag"] is None else str(answer["etag"])

    async def keeps_queries(self) -> str | None:
        return await self._refused("register", whole=True)

    async def would_refuse(self, record: Record | None) -> str | None:
        """See :meth:`Store.would_refuse`; a facade tells its rights, but not for which names."""
        return await self._refused("read" if record is None else "register")

    async def _refused(self, need: str, *, whole: bool = False) -> str | None:
        try:
            caller = (await self._api.call("GET", "/whoami")).json()
            verbs, who = caller["verbs"], caller["subject"]
            partial = whole and need in caller["partial"]
            roles = ", ".join(caller["roles"]) or "none"
        except (ValueError, KeyError, TypeError):
            return None  # a facade of before 0.3 does not tell
        if partial:
            return f"{who or 'whoever gives no token'} may {need} some servers alone at {self.url}"
        if need in verbs or (verbs and not who):  # why strangers may not, it says when asked to
            return None
        if not who:
            return f"{self.url} wants a token to {need}, and none is given"
        return f"{who} (roles: {roles}) has no right to {need} at {self.url}"

    async def sweep(self) -> int:
        """Nothing: the facade sweeps its own store."""
        return 0

    async def close(self) -> None:
        await self._api.close()

    async def _send(
        self,
        document: CapabilityDocument,
        method: str,
        path: str,
        body: dict[str, Any],
        holder: Holder,
    ) -> None:
        """Sends a record; the document too, but only where the facade lacks it."""
        try:
            await self._api.call(method, path, body, holder=holder)
        except UnknownDocumentError:
            try:
                await self._api.put_document(document.digest, document.compressed())
            except InvalidDocumentError:
                if not document.skills:
                    raise
                # A facade of a release before skills knows documents without them alone.
                document = replace(document, skills=())
                offered = body["capabilities"] | {"digest": document.digest}
                body = body | {"capabilities": offered}
                await self._send(document, method, path, body, holder)
                return
            try:
                await self._api.call(method, path, body, holder=holder)
            except UnknownDocumentError as error:
                raise StoreUnavailableError(
                    self.url, f"the facade lost a document: {error}"
                ) from error


class RemoteRegistration(ScheduledRegistration):
    """See :class:`mcp_discovery.adapters.store.Registration`."""

    def __init__(self, store: RemoteStore, new: Instance, sent: float) -> None:
        super().__init__(new)
        self._store = store
        self._api = store._api
        self._heartbeats.renewed(sent)

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        self._heartbeats.require_alive()
        sent = time.monotonic()
        body: dict[str, Any] = health_to_dict(health) | {"holder": self._lease.holder.id}
        if load is not None:
            body["load"] = load_to_dict(load)
        # Whether that is worth a write is the facade's to decide: it has the registration.
        path = f"{server_path(self.id)}/heartbeat"
        with self._ours():
            await self._api.call("POST", path, body, holder=self._lease.holder)
        self._heartbeats.renewed(sent)

    async def _update(self, record: Record, document: CapabilityDocument) -> None:
        body = _registration(record, self._lease)
        with self._ours():
            await self._store._send(document, "PUT", server_path(self.id), body, self._lease.holder)

    async def drain(self) -> None:
        self._heartbeats.require_alive()
        sent = time.monotonic()
        holder, path = self._lease.holder, f"{server_path(self.id)}/drain"
        with self._ours():
            await self._api.call("POST", path, {"holder": holder.id}, holder=holder)
        self._heartbeats.renewed(sent)

    async def deregister(self) -> None:
        holder, path = self._lease.holder, server_path(self.id)
        with suppress(RegistrationLostError), self._ours():  # gone, or another's by now
            # The id is no secret but for facades of 0.1, which take it from the query alone; that
            # of a registrant of 0.1, which is its secret, is in the header too.
            params = {"holder": holder.public_id}
            await self._api.call("DELETE", path, params=params, holder=holder)

    @contextmanager
    def _ours(self) -> Iterator[None]:
        """To a registrant, a facade that names another holder says that the id is lost."""
        try:
            yield
        except DuplicateInstanceError as error:
            raise RegistrationLostError(self.id, f"it is held by {error.holder} now") from error


def _require_current(url: str, data: Mapping[str, Any], since: str, problem: str) -> None:
    """Raises :class:`StoreUnavailableError` where the facade says that what it told is old."""
    stale, why = data.get(since), data.get(problem)
    if not isinstance(stale, str | None) or not isinstance(why, str | None):
        raise TypeError(f"{since} and {problem} are text")
    if stale:
        lost = f"the facade lost its own store at {stale[:50]}: {str(why)[:500]}"
        raise StoreUnavailableError(url, lost)


def _registration(record: Record, lease: Lease) -> dict[str, Any]:
    return record.to_dict() | {"lease": lease.to_dict()}
