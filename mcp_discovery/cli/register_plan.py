"""A file of servers to register, and how it differs from what a facade lists.

Servers of a file that names its ``source`` carry that name in their metadata. So the same file,
later and shorter, knows which of the servers that are listed were its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_discovery.document import KINDS
from mcp_discovery.errors import DiscoveryError, InvalidInputError
from mcp_discovery.probe.offer import FROM_CARD
from mcp_discovery.record import AGENT, Record
from mcp_discovery.record_fields import FROM_SERVER, GIVEN

#: Where a server's metadata names the file that it was registered from.
MARK = "registered-from"


@dataclass(frozen=True, slots=True)
class PlannedServer:
    """One server of a file: the body to post, and its record, or the error that refuses it."""

    body: Mapping[str, Any]
    record: Record | None
    refused: DiscoveryError | None

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
    from mcp_discovery.cli.server_files import servers_of
    from mcp_discovery.host_files import read

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
    servers = [_server(body, source) for body in bodies]
    seen: dict[str, int] = {}
    for number, each in enumerate(servers, start=1):
        if each.record is not None and (first := seen.setdefault(each.record.id, number)) != number:
            raise InvalidInputError(
                f"{file}: servers {first} and {number} have the same id, {each.record.id}; give "
                "one of them another id or url"
            )
    return PlannedServers(servers, source)


def _server(body: Mapping[str, Any], source: str | None) -> PlannedServer:
    from mcp_discovery.facade.registration.body import parse

    if source is not None:
        metadata = body.get("metadata") or {}
        if isinstance(metadata, Mapping):
            body = {**body, "metadata": {**metadata, MARK: source}}
    try:
        return PlannedServer(body, parse(body, remote="").record, None)
    except DiscoveryError as error:
        return PlannedServer(body, None, error)


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
        if server.record is None:
            plan.refused.append(server)
            continue
        entry = there.get(server.record.id)
        if entry is None:
            plan.added.append(server)
        elif differences := list(_differences(server, entry)):
            plan.changed.append((server, differences))
        else:
            plan.unchanged.append(server)
    if prune:
        wanted_ids = {server.record.id for server in wanted.servers if server.record is not None}
        plan.pruned = sorted(
            id for id, each in there.items() if id not in wanted_ids and _is_of(each, wanted.source)
        )
    return plan


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
    if "capabilities" in server.body:
        lists = KINDS.values()
        before = {name: (entry.get("capabilities") or {}).get(name) or [] for name in lists}
        after = {name: (wanted.get("capabilities") or {}).get(name) or [] for name in lists}
        if before != after:
            yield "capabilities", before, after
