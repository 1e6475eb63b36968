"""What a host's file of servers wants to run, followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.errors import InvalidInputError, raise_all
from mcp_discovery.host_files import HostEntry, HostServers, entries_in, parse, servers_in
from mcp_discovery.host_variables import HostVariables
from mcp_discovery.sidecar.settings import SidecarSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ServersFileSettings:
    """What a process for a ``file`` of servers needs.

    ``only`` are the names of those to take, all without any. ``process`` says where the process
    listens, and what it tells; ``of`` gives an entry's own settings, and raises
    :class:`~mcp_discovery.errors.InvalidInputError`.
    """

    file: str
    only: Sequence[str] = ()
    process: SidecarSettings
    of: Callable[[HostEntry], SidecarSettings]


class ServersFile:
    """What the file wants to run, followed."""

    def __init__(self, settings: ServersFileSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._variables = HostVariables(Path(settings.file), environ)
        self._followed = FollowedFiles("list of servers", [settings.file], self._made)
        self._read: HostServers | None = None

    def changed(self) -> bool:
        """Whether it says something else since :meth:`wanted`."""
        return self._followed.current() is not self._read

    def wanted(self) -> tuple[dict[str, tuple[HostEntry, SidecarSettings]], dict[str, str]]:
        """Each server by its name, as it is run; and why others cannot be, by their keys."""
        self._read = self._followed.current()
        only = self._settings.only
        found: dict[str, tuple[HostEntry, SidecarSettings]] = {}
        refused = {
            key: str(error) for key, error in self._read.refused.items() if not only or key in only
        }
        for entry in self._read.entries.values():
            if only and entry.key not in only and entry.name not in only:
                continue
            try:
                filled = self._variables.filled(entry)
                found[entry.name] = filled, self._settings.of(filled)
            except InvalidInputError as error:
                refused[entry.key] = "; ".join(map(str, (error, *error.others)))
        return found, refused

    def require_usable(self) -> bool:
        """Whether there is a command among what is to be run.

        Raises :class:`InvalidInputError` where there is something, and nothing that can be run.
        """
        found, refused = self.wanted()
        assert self._read is not None
        known = {*self._read.entries, *self._read.refused}
        known |= {entry.key for entry in self._read.entries.values()}
        if missing := [name for name in self._settings.only if name not in known]:
            raise InvalidInputError(
                f"{self._settings.file} has no server {', '.join(missing)}; it has "
                f"{', '.join(sorted(self._read.entries)) or 'none'}"
            )
        if refused and not found:
            raise_all(map(InvalidInputError, refused.values()))
        self._read = None
        return any(settings.bridged for _, settings in found.values())

    def _made(self, contents: Sequence[bytes]) -> HostServers:
        entries = entries_in(parse(contents[0], self._settings.file))
        if entries is None:
            raise ValueError(
                f"{self._settings.file}: names no servers; write them below mcpServers, or servers"
            )
        return servers_in(entries)
