"""A file of servers to register, and how it differs from what a facade lists.

Servers of a file that names its ``source`` carry that name in their metadata. So the same file,
later and shorter, knows which of the servers that are listed were its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from mcp_discovery.cli.introspection import advice, introspect, program_of
from mcp_discovery.cli.server_files import LOCAL, servers_of
from mcp_discovery.document import KINDS
from mcp_discovery.errors import DiscoveryError, InvalidInputError, raise_all
from mcp_discovery.facade.registration.body import gives_capabilities, parse, warnings_of
from mcp_discovery.host_files import HostEntry, entries_in, read, servers_in
from mcp_discovery.probe import Introspection
from mcp_discovery.probe.offer import FROM_CARD, ServerOffer
from mcp_discovery.record import AGENT, Record
from mcp_discovery.record_fields import FROM_SERVER, GIVEN

#: What is read from a command that is asked what it offers, beside its document.
_DESCRIBED = ("capabilities", "protocol")
#: So many commands are started at the same time.
_AT_ONCE = 4
#: Where a server's metadata names the file that it was registered from.
MARK = "registered-from"


@dataclass(frozen=True, slots=True)
class PlannedServer:
    """One server of a file: the body to post, and its record, or the error that refuses it.

    ``started`` is how its command is started on this machine, where it has one.
    """

    body: Mapping[str, Any]
    record: Record | None
    refused: DiscoveryError | None
    started: HostEntry | None = None

    @property
    def is_unasked(self) -> bool:
        """Whether its command would have to be started to know what it offers."""
        return (
            self.started is not None
            and self.record is not None
            and not gives_capabilities(self.record)
        )

    @property
    def names_nothing(self) -> bool:
        """Whether nobody can find it by what it offers."""
        return self.record is not None and bool(warnings_of(self.record))

    @property
    def name(self) -> str:
        """Its name in messages."""
        if self.record is not None:
            return self.record.id
        return str(self.body.get("id") or self.body.get("name") or "one without a name")


@dataclass(frozen=True, slots=True)
class PlannedServers:
    """The servers of a file, and the name of the source that they are of."""

    servers: Sequence[PlannedServer]
    source: str | None


@dataclass(slots=True)
class RegistrationPlan:
    """What registering a list would change. ``changed`` tells field, before and after."""

    added: list[PlannedServer] = field(default_factory=list)
    changed: list[tuple[PlannedServer, list[tuple[str, Any, Any]]]] = field(default_factory=list)
    unchanged: list[PlannedServer] = field(default_factory=list)
    refused: list[PlannedServer] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)

    @property
    def changes(self) -> bool:
        """Whether anything would be added, changed or removed."""
        return bool(self.added or self.changed or self.pruned)


def read_list(file: str, *, source: str | None = None, empty: bool = False) -> PlannedServers:
    """The servers in ``file``; ``source`` goes before the one that the file names.

    Raises :class:`InvalidInputError`; what is wrong with a single server is with that server. With
    ``empty`` there may be none.
    """

    content = read(file)
    if isinstance(content, dict) and "source" in content and "servers" in content:
        source = source or content["source"]
        if content.keys() - {"source", "servers"}:
            odd = ", ".join(sorted(content.keys() - {"source", "servers"}))
            raise InvalidInputError(f"{file}: beside source and servers there is no {odd}")
    if source is not None and not (isinstance(source, str) and source and source.isprintable()):
        raise InvalidInputError(
            f"{file}: source is no name; write a word, such as source: bootstrap"
        )
    none = isinstance(content, dict) and content.get("servers", ...) in ([], None)
    bodies = [] if none and empty else servers_of(content, file)
    hosted = servers_in(entries_in(content) or {}).entries
    servers = [_server(body, source, hosted) for body in bodies]
    seen: dict[str, int] = {}
    for number, each in enumerate(servers, start=1):
        if each.record is not None and (first := seen.setdefault(each.record.id, number)) != number:
            raise InvalidInputError(
                f"{file}: servers {first} and {number} have the same id, {each.record.id}; give "
                "one of them another id or url"
            )
    return PlannedServers(servers, source)


def _server(
    body: Mapping[str, Any], source: str | None, hosted: Mapping[str, HostEntry]
) -> PlannedServer:
    local = {key: each for key, each in body.items() if key in LOCAL}
    body = {key: each for key, each in body.items() if key not in LOCAL}
    if source is not None:
        metadata = body.get("metadata") or {}
        if isinstance(metadata, Mapping):
            body = {**body, "metadata": {**metadata, MARK: source}}
    try:
        record = parse(body, remote="").record
        started = None
        if record.endpoint.transport == "stdio":
            command = {"command": record.endpoint.command, "args": list(record.endpoint.args)}
            found = servers_in({record.name: command | local})
            raise_all(found.refused.values())
            started = hosted.get(record.name) or found.entries[record.name]
        return PlannedServer(body, record, None, started)
    except DiscoveryError as error:
        return PlannedServer(body, None, error)


async def asked(
    wanted: PlannedServers, allowed: Collection[PlannedServer], file: str, timeout: float
) -> PlannedServers:
    """``wanted``, with what the commands of those that are ``allowed`` offer; each is started once
    and has ``timeout`` seconds. One that cannot be asked is refused."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def one(server: PlannedServer) -> PlannedServer:
        if server not in allowed or server.started is None:
            return server
        async with few:
            try:
                found = await introspect(program_of(server.started, file), server.name, timeout)
            except DiscoveryError as error:
                what_to_do = advice(error, "--introspect-timeout")
                error.args = ("; ".join(filter(None, (str(error), what_to_do))),)
                return replace(server, refused=error)
        return _filled(server, found)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(each)) for each in wanted.servers]
    return replace(wanted, servers=[task.result() for task in tasks])


def _filled(server: PlannedServer, found: Introspection) -> PlannedServer:
    """``server`` with what it offers, and what it says of itself where its file does not."""
    assert server.record is not None
    offer, fields = ServerOffer(found), server.record.to_dict()
    silent = {None, "", "0.0.0"}
    said = {
        name: value
        for name, value in offer.said.items()
        if name in FROM_SERVER and (not fields.get(name) or fields[name] in silent)
    }
    try:
        record, _ = offer.record(fields | said)
        document = orjson.loads(offer.document.canonical)
    except DiscoveryError as error:
        return replace(server, refused=error)
    described = {name: record.to_dict()[name] for name in _DESCRIBED}
    body = {**server.body, **said, **described, "document": document}
    return replace(server, body=body, record=record)


def compare(
    wanted: PlannedServers, listed: Sequence[Mapping[str, Any]], *, prune: bool
) -> RegistrationPlan:
    """The changes after which a facade lists what is wanted.

    ``listed`` are a facade's entries. Only entries that a facade keeps, and that carry the list's
    source, are ever pruned.
    """
    plan = RegistrationPlan()
    there = {str(each.get("id")): each for each in listed}
    for server in wanted.servers:
        if server.record is None or server.refused is not None:
            plan.refused.append(server)
            continue
        entry = there.get(server.record.id)
        if entry is None:
            plan.added.append(server)
        elif differences := list(_differences(server, entry)):
            plan.changed.append((_as_known(server, entry), differences))
        else:
            plan.unchanged.append(server)
    if prune:
        wanted_ids = {server.record.id for server in wanted.servers if server.record is not None}
        plan.pruned = sorted(
            id for id, each in there.items() if id not in wanted_ids and _is_of(each, wanted.source)
        )
    return plan


def _as_known(server: PlannedServer, entry: Mapping[str, Any]) -> PlannedServer:
    """``server``, with what the same command was found to offer before where its file is silent."""
    record = server.record
    assert record is not None
    if not server.names_nothing or entry.get("endpoint") != record.to_dict()["endpoint"]:
        return server
    known = {name: entry[name] for name in _DESCRIBED if entry.get(name)}
    body = {**server.body, **known}
    return replace(server, body=body, record=Record.parse(record.to_dict() | known))


def _is_of(entry: Mapping[str, Any], source: str | None) -> bool:
    metadata, lease = entry.get("metadata"), entry.get("lease")
    return (
        source is not None
        and isinstance(metadata, Mapping)
        and metadata.get(MARK) == source
        and isinstance(lease, Mapping)
        and lease.get("by") == "facade"
    )


def _differences(server: PlannedServer, entry: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    assert server.record is not None
    wanted = server.record.to_dict()
    # The server may have given it.
    from_there = {*FROM_SERVER, *(FROM_CARD if server.record.kind == AGENT else ())}
    for name in GIVEN:
        if name in from_there and name not in server.body:
            continue
        before, after = entry.get(name), wanted.get(name)
        if (before or None) != (after or None):
            yield name, before, after
    if "document" in server.body and entry.get("protocol") != wanted.get("protocol"):
        yield "protocol", entry.get("protocol"), wanted.get("protocol")
    if "capabilities" in server.body:
        lists = [*KINDS.values(), *(["digest"] if server.record.capabilities.digest else ())]
        before = {name: (entry.get("capabilities") or {}).get(name) or [] for name in lists}
        after = {name: (wanted.get("capabilities") or {}).get(name) or [] for name in lists}
        if before != after:
            yield "capabilities", before, after
