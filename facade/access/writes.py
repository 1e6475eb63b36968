"""Which changes a facade refuses whoever asks, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from mcp_discovery.errors import InvalidInputError, raise_all
from mcp_discovery.facade.access.rights import Need, Verb
from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.front_door import host_name

#: What changes the list, what is probed, or how servers are ranked. ``admin`` is not among them: it
#: shows what concerns the facade itself, such as its metrics, and changes nothing of the list.
_WRITES: tuple[Verb, ...] = ("register", "report")
_READ_ONLY = "this facade changes nothing for anybody (--read-only); ask one that does"
_OPEN = (
    "this facade changes nothing for others: it listens beyond this machine and asks nobody who "
    "they are; start it with --auth FILE, or with --open-writes where everybody who reaches it may "
    "change the list"
)


def refused_verbs(options: FacadeOptions) -> Mapping[Verb, str]:
    """The verbs that nobody has here, each with the reason."""
    if options.read_only:
        return dict.fromkeys(_WRITES, _READ_ONLY)
    if not options.open_writes and options.auth is None:
        return dict.fromkeys(_WRITES, _OPEN)
    return {}


class ReadOnlyHosts:
    """The names by which a facade only shows what it has, such as that of an Ingress."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Raises :class:`InvalidInputError` for what is no name of a host."""
        raise_all(
            InvalidInputError(
                f"--read-only-host {each[:100]!r} is no host; write one name alone, such as "
                "mcp.example.com"
            )
            for each in names
            if not each or "*" in each or host_name(each) != each.lower().rstrip(".")
        )
        self._names = {host_name(each) for each in names}

    def check(self, request: web.Request, need: Need) -> None:
        """Raises :class:`ProblemError` (403) for a change by one of these names."""
        if not self._names or need not in _WRITES:
            return
        for host in (request.host, client_of(request).host):
            if (name := host_name(host)) in self._names:
                detail = (
                    f"by the name {name} this facade changes nothing (--read-only-host); ask it by "
                    "a name that it has inside"
                )
                raise ProblemError(403, "refused-here", detail, needs=need)
