"""Which changes a facade refuses whoever asks, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_discovery.facade.access.rights import Verb
from mcp_discovery.facade.options import FacadeOptions

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
