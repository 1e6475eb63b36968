"""Classifies every error of etcd: of responses, of streams and of cancelled watches.

etcd 3.4 answers ``{"error", "message", "code"}``, 3.5 ``{"code", "message"}``, streams
``{"error": {"message", "code" or "grpc_code"}}``, and a cancelled watch says
``rpc error: code = PermissionDenied desc = …``; the message is the same in all of them.
"""

from __future__ import annotations

from typing import Any

import orjson

from mcp_discovery.adapters.http import StoreResponse
from mcp_discovery.errors import (
    StoreDeniedError,
    StoreError,
    StoreFault,
    StoreUnavailableError,
)


class MemberUnavailableError(StoreUnavailableError):
    """This member cannot serve now; another one, or the next leader, may: retry."""


class RequestRefusedError(StoreUnavailableError):
    """Every member would refuse the request: do not retry."""


class TokenRejectedError(StoreError):
    """The token is missing, expired or older than the last change of users: authenticate again."""


class PermissionDeniedError(StoreDeniedError):
    """The user's roles lack a right; etcd does not say which."""

    fault = StoreFault.FORBIDDEN


class LeaseNotFoundError(StoreError):
    """The lease does not exist: it expired, was revoked, or the store was wiped."""


class RevisionGoneError(StoreError):
    """The revision was compacted, or is in the future of a store that was restored: list again."""


#: The gRPC codes of temporary failures: DeadlineExceeded, ResourceExhausted and Unavailable.
_PASSING = {4, 8, 14}
#: The gRPC codes of failures that are one member's own: Unknown, FailedPrecondition, Internal and
#: DataLoss. Another member may well answer.
_OF_MEMBER = {2, 9, 13, 15}

# Part of a message → error, fault and text; the first that matches applies.
_BY_TEXT: tuple[tuple[str, type[StoreError], StoreFault, str | None], ...] = (
    ("invalid auth token", TokenRejectedError, StoreFault.DENIED, None),
    ("auth store is old", TokenRejectedError, StoreFault.DENIED, None),
    ("user name is empty", TokenRejectedError, StoreFault.DENIED, None),
    (
        "authentication failed",
        StoreDeniedError,
        StoreFault.DENIED,
        "etcd refuses the user or the password; check both",
    ),
    (
        "permission denied",
        PermissionDeniedError,
        StoreFault.FORBIDDEN,
        "permission denied; see what the role is granted",
    ),
    ("requested lease not found", LeaseNotFoundError, StoreFault.OTHER, None),
    ("has been compacted", RevisionGoneError, StoreFault.COMPACTED, None),
    ("future revision", RevisionGoneError, StoreFault.OTHER, None),
    (
        "database space exceeded",
        RequestRefusedError,
        StoreFault.OUT_OF_SPACE,
        "etcd is out of space (alarm NOSPACE) and takes no writes; compact and defragment it, "
        "raise --quota-backend-bytes, then disarm the alarm",
    ),
    (
        "request is too large",
        RequestRefusedError,
        StoreFault.OVERLOADED,
        "etcd refuses a request over its --max-request-bytes; leave that at 1.5 MiB or more",
    ),
    ("message larger than max", RequestRefusedError, StoreFault.OTHER, None),
    ("authentication is not enabled", RequestRefusedError, StoreFault.OTHER, None),
    (
        "no leader",
        MemberUnavailableError,
        StoreFault.NO_LEADER,
        "this member has no leader: the cluster has lost its quorum (start the members that are "
        "down), is electing, or this member is cut off from the others",
    ),
    ("leader changed", MemberUnavailableError, StoreFault.NO_LEADER, None),
    *(
        (
            f"request timed out, possibly due to {why}",
            MemberUnavailableError,
            StoreFault.NO_LEADER,
            "etcd could not commit in time: it has just lost its leader, or members of its quorum",
        )
        for why in ("previous leader failure", "connection lost")
    ),
    (
        "request timed out",
        MemberUnavailableError,
        StoreFault.OVERLOADED,
        "etcd could not commit in time: no quorum, or overloaded",
    ),
    (
        "too many requests",
        MemberUnavailableError,
        StoreFault.OVERLOADED,
        "etcd is overloaded (too many requests): it commits more slowly than it is written to; "
        "give it a faster disk, or write less",
    ),
    (
        "not supported for learner",
        MemberUnavailableError,
        StoreFault.LEARNER,
        "this member is a learner, which serves no clients until it is promoted",
    ),
    (
        "remote error: tls:",
        MemberUnavailableError,
        StoreFault.TLS,
        "this member's gateway is refused by its own etcd, whose client it is: the member's server "
        "certificate has run out, or is not for client use as well; where it was renewed since, "
        "restart the member, or wait for up to two minutes",
    ),
    ("not capable", MemberUnavailableError, StoreFault.OTHER, None),
    ("server stopped", MemberUnavailableError, StoreFault.UNREACHABLE, None),
)


def refusal(store: str, message: str, code: int | None = None) -> StoreError:
    """The error for etcd's ``message`` and gRPC ``code``; ``store`` is the store's URL."""
    for text, kind, fault, sentence in _BY_TEXT:
        if text in message:
            return kind(store, sentence or message, fault=fault)
    if code == 16:
        return TokenRejectedError(store, message, fault=StoreFault.DENIED)
    if code == 7:
        return StoreDeniedError(store, message, fault=StoreFault.FORBIDDEN)
    if code in _PASSING or "code = Unavailable" in message or "code = DeadlineExceeded" in message:
        return MemberUnavailableError(store, message)
    if code in _OF_MEMBER:
        return MemberUnavailableError(store, f"etcd refused the request: {message}")
    return RequestRefusedError(store, f"etcd refused the request: {message}")


def from_response(store: str, response: StoreResponse) -> StoreError:
    """The error for an HTTP response with a status other than 200."""
    status, later = response.status, response.retry_after
    try:
        content = response.json()
    except orjson.JSONDecodeError:
        content = None
    if isinstance(content, dict) and (error := from_object(store, content)) is not None:
        if status == 404 and "Not Found" in error.problem:
            return _no_etcd(store, status)
        return error
    text = response.text[:200]
    if "CommonName of client" in text:
        return RequestRefusedError(
            store,
            "etcd's JSON gateway refuses a client certificate with a common name; give one without",
            fault=StoreFault.TLS,
        )
    if status == 429:
        limits = "it, or a proxy before it, limits requests: raise that limit"
        problem = f"answers 429: {text}; {limits}"
        return MemberUnavailableError(
            store, problem, fault=StoreFault.OVERLOADED, retry_after=later
        )
    if status in (502, 503, 504):
        return MemberUnavailableError(store, f"answers {status}: {text}", retry_after=later)
    return _no_etcd(store, status)


def from_object(store: str, content: dict[str, Any]) -> StoreError | None:
    """The error in a JSON object, flat or under ``error``; ``None`` if there is none."""
    fault = content.get("error")
    if not isinstance(fault, dict):
        fault = content
    message = fault.get("message") or fault.get("error")
    if not isinstance(message, str):
        return None
    code = fault.get("code", fault.get("grpc_code"))
    return refusal(store, message, code if isinstance(code, int) else None)


def _no_etcd(store: str, status: int) -> StoreError:
    return RequestRefusedError(
        store,
        f"answers {status} where etcd's JSON gateway should be; give the client port of an etcd "
        "of 3.4 or later that runs with --enable-grpc-gateway",
    )
