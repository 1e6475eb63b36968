"""A file of servers to register, and how it differs from what a facade lists.

Servers of a file that names its ``source`` carry that name in their metadata. So the same file,
later and shorter, knows which of the servers that are listed were its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_discovery.errors import DiscoveryError, InvalidInputError, InvalidRecordError
from mcp_discovery.record import Record

#: Where a server's metadata names the file that it was registered from.
MARK = "registered-from"

#: Fields that a server tells of itself where the file does not.
_TOLD = ("title", "description", "version", "websiteUrl", "icons")
#: Fields that are as the file says, or as they are without it.
_SAID = (
    *("name", "registryName", "endpoint", "healthUrl", "auth"),
    *("tags", "weight", "zone", "owner", "metadata"),
)


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a file: as it is posted, and what it comes to, or why it comes to nothing."""

    body: Mapping[str, Any]
    record: Record | None
    refused: DiscoveryError | None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        if self.record is not None:
            return self.record.id
        return str(self.body.get("id") or self.body.get("name") or "one without a name")


@dataclass(frozen=True, slots=True)
class ServerList:
    """The servers of a file, and the name of the source that they are of."""

    servers: Sequence[Server]
    source: str | None


@dataclass(slots=True)
class Plan:
    """What registering a list would change. ``changed`` tells field, before and after."""

    added: list[Server] = field(default_factory=list)
    changed: list[tuple[Server, list[tuple[str, Any, Any]]]] = field(default_factory=list)
    unchanged: list[Server] = field(default_factory=list)
    refused: list[Server] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.added or self.changed or self.pruned)


def read_list(file: str, *, source: str | None = None, empty: bool = False) -> ServerList:
    """The servers in ``file``; ``source`` goes before the one that the file names.

    Raises :class:`InvalidInputError`; what is wrong with a single server is with that server. With
    ``empty`` there may be none.
    """
    from mcp_discovery.cli.server_files import read, servers_of

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
    return ServerList(servers, source)


def _server(body: Mapping[str, Any], source: str | None) -> Server:
    from mcp_discovery.facade.http.problems import ProblemError
    from mcp_discovery.facade.registration.body import parse

    if source is not None:
        metadata = body.get("metadata") or {}
        if isinstance(metadata, Mapping):
            body = {**body, "metadata": {**metadata, MARK: source}}
    try:
        return Server(body, parse(body, remote="").record, None)
    except DiscoveryError as error:
        return Server(body, None, error)
    except ProblemError as error:
        return Server(body, None, InvalidRecordError("", str(error)))


def compare(wanted: ServerList, listed: Sequence[Mapping[str, Any]], *, prune: bool) -> Plan:
    """What has to be done so that a facade lists what is wanted.

    ``listed`` are a facade's entries. Only entries that a facade keeps, and that carry the list's
    source, are ever pruned.
    """
    plan = Plan()
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
        kept = {server.record.id for server in wanted.servers if server.record is not None}
        plan.pruned = sorted(
            id for id, each in there.items() if id not in kept and _is_of(each, wanted.source)
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


def _differences(server: Server, entry: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    assert server.record is not None
    wanted = server.record.to_dict()
    names = [*_SAID, *(name for name in _TOLD if name in server.body)]
    for name in names:
        before, after = entry.get(name), wanted.get(name)
        if (before or None) != (after or None):
            yield name, before, after
    if "capabilities" in server.body:
        kinds = ("tools", "resources", "prompts")
        before = {kind: (entry.get("capabilities") or {}).get(kind) or [] for kind in kinds}
        after = {kind: (wanted.get("capabilities") or {}).get(kind) or [] for kind in kinds}
        if before != after:
            yield "capabilities", before, after
