"""Exit codes, and how an error becomes one."""

from __future__ import annotations

from mcp_discovery.errors import (
    CallTimeoutError,
    DiscoveryError,
    DuplicateInstanceError,
    InvalidInputError,
    MissingExtraError,
    NoReplicaError,
    ServerRefusedError,
    StoreDeniedError,
    StoreUnavailableError,
    UnknownToolError,
)

DONE = 0
FAILED = 1
INVALID_INPUT = 2
UNAVAILABLE = 3
DENIED = 4
DUPLICATE = 5
PORT_IN_USE = 6
TOOL_ERROR = 7
TIMED_OUT = 8
CHANGES = 9
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
PIPE_CLOSED = 141  # 128 + SIGPIPE

#: Told at the end of ``mcp-discovery --help``.
EXPLAINED = (
    "Exit codes: 0 done; 1 failed, in part too, or doctor found something wrong; 2 the input "
    "cannot be used, or names what is not there; 3 the store, the facade or any server that could "
    "do it cannot be reached; 4 credentials are refused; 5 the id is held by another instance; "
    "6 the port is in use; 7 the tool answered with an error; 8 no answer in time; 9 a dry run "
    "found changes; 130 Ctrl-C; 141 the reader of the output went away. A sidecar that runs a "
    "command ends with the command's own code (127: not found, 126: cannot be run, 128+n: killed "
    "by signal n)."
)


def code_of(error: DiscoveryError) -> int:
    """The exit code for an error that ended a command."""
    match error:
        case InvalidInputError() | UnknownToolError() | MissingExtraError():
            return INVALID_INPUT
        case StoreUnavailableError() | NoReplicaError():
            return UNAVAILABLE
        case StoreDeniedError() | ServerRefusedError():
            return DENIED
        case DuplicateInstanceError():
            return DUPLICATE
        case CallTimeoutError():
            return TIMED_OUT
        case _:
            return FAILED
