"""Exit codes, and how an error becomes one."""

from __future__ import annotations

from mcp_discovery.errors import (
    DiscoveryError,
    DuplicateInstance,
    InvalidInput,
    StoreDenied,
    StoreUnavailable,
)

FAILED = 1
INVALID_INPUT = 2
UNAVAILABLE = 3
DENIED = 4
DUPLICATE = 5
PORT_IN_USE = 6

#: Told at the end of ``mcp-discovery --help``.
EXPLAINED = (
    "Exit codes: 0 done; 1 failed; 2 the input cannot be used; 3 the store or the facade cannot be "
    "reached; 4 it refuses the credentials; 5 the id is held by another instance; 6 the port is in "
    "use. A sidecar that runs a command ends with the command's own code (127: not found, 126: "
    "cannot be run, 128+n: killed by signal n)."
)


def code_of(error: DiscoveryError) -> int:
    """The exit code for an error that ended a command."""
    match error:
        case InvalidInput():
            return INVALID_INPUT
        case StoreUnavailable():
            return UNAVAILABLE
        case StoreDenied():
            return DENIED
        case DuplicateInstance():
            return DUPLICATE
        case _:
            return FAILED
