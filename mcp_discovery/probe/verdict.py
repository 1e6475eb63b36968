"""What each answer of an MCP server means: the one table of status and reason, whoever asks.

===============================================  ==========  ======================================
answer                                           status      reason
===============================================  ==========  ======================================
MCP round trip                                   `healthy`   answers MCP
MCP refused for want of credentials (401, 403,   `healthy`   answers, and asks for credentials as
407) that the record announces and the probe                 its record says
did not send
one of these, and the health URL refuses for     `healthy`   answers MCP; its health endpoint asks
want of credentials (401, 403, 407) that the                 for credentials, which a sidecar takes
probe did not send                                           with --health-token-file
one of these, and the health URL answers, but    `degraded`  the health endpoint answered HTTP 503
not 2xx
one of these, and the health URL does not        `degraded`  answers MCP; its health endpoint:
answer                                                       connection refused
one of these, after the slow-after time          `degraded`  slower than 1 s
one of these, and what answers at the            `degraded`  answers MCP, but its advertised address
advertised address is another server, refuses                leads to another server, 'x'; …, but
that host name (421), or is no MCP                           not at its advertised address: HTTP 421
one of these, and the advertised address cannot  `healthy`   answers MCP; its advertised address
be tried from here: no route, no answer in                   cannot be tried from here: no answer
time, no such name, a CA that is not known                   within 15 s
one of these, and what the server offers cannot  `degraded`  answers MCP, but its tools cannot be
be read or listed                                            read: HTTP 500 from the MCP endpoint
MCP refused for too many requests (429), however `degraded`  HTTP 429 from the MCP endpoint
often
any other answer to MCP, or none, whatever the   `down`      the sentence of the probe's error, such
health URL answers                                           as "HTTP 500 from the MCP endpoint"
stdio, and the health URL answers 2xx            `healthy`   its health endpoint answers
stdio, and the health URL refuses for want of    `degraded`  its health endpoint asks for
credentials                                                  credentials, as above
stdio, and the health URL answers, but not 2xx   `degraded`  the health endpoint answered HTTP 503
stdio, and the health URL does not answer        `down`      its health endpoint: connection refused
stdio without a health URL                       `degraded`  not probed: its clients start it
                                                             themselves
===============================================  ==========  ======================================

A server with an MCP endpoint is never healthy without an answer from there: agents speak MCP to it,
and nothing else.

Of an A2A agent the same is said, with "A2A" for "MCP", by these answers:

===============================================  ===============================================
answer                                           counts as
===============================================  ===============================================
its interface knows no such task, or refuses     MCP round trip
the question by another error of A2A
its interface refuses for want of credentials    MCP refused for want of credentials
its card answers, none of its interfaces can be  stdio, with the reason "serves its card, but
asked: gRPC, or at another origin                none of its interfaces … can be asked here"
its card cannot be read, its interface answers   what the server offers cannot be read
anything else, and no card where none was ever   any other answer to MCP
read
===============================================  ===============================================

What makes a server `down` makes it `degraded` at first, with the same reason, until so many answers
in a row were bad: as many as the fail-after option says, or else

===============================================  =====
the last bad answer                              after
===============================================  =====
HTTP 502, 503 or 504; no answer in time              2
any other: connection refused or reset, 500, …       1
===============================================  =====
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mcp_discovery.health import ANSWERS, ANSWERS_A2A, Health, Status
from mcp_discovery.probe.errors import (
    BadAnswerError,
    NoAnswerError,
    NotAskedError,
    NotOkError,
    ProbeError,
)
from mcp_discovery.probe.introspection import UnreadList
from mcp_discovery.probe.wire import is_elsewhere
from mcp_discovery.quoted import quoted

#: The reason of a server that asks for credentials as its record announces.
ASKS_FOR_CREDENTIALS = "answers, and asks for credentials as its record says"
#: What is said of a health URL that asks for credentials: that is no sickness, nor the contrary.
HEALTH_URL_ASKS = (
    "its health endpoint asks for credentials, which a sidecar takes with --health-token-file"
)
#: The reason of a stdio server whose health URL answers.
HEALTH_URL_ANSWERS = "its health endpoint answers"
#: The reason of a stdio server without a health URL: there is nothing that could be dialled.
NOT_DIALLED = "not probed: its clients start it themselves"
#: The reason of a posted entry until its first probe has ended.
NOT_PROBED = "not probed yet"
#: The reason of a posted entry whose health checks are switched off.
UNPROBED = "not probed: its health checks are switched off"


#: A server that answers so is alive, and wants to be asked less often (RFC 6585, 4).
_TOO_MANY_REQUESTS = 429
#: What a proxy says while the server behind it restarts or is overloaded.
_PASSING = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one question: ``seconds`` that the answer took, or the ``failure``.

    Neither is set while the answer is awaited; both are where a refusal counts as an answer.
    """

    seconds: float | None = None
    failure: ProbeError | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status of a server, with the reason."""

    status: Status
    reason: str


def is_usable(health: Health) -> bool:
    """Whether the server can be used: healthy, or degraded only because nobody probes it."""
    unprobed = health.status is Status.DEGRADED and health.reason in (NOT_DIALLED, UNPROBED)
    return health.status is Status.HEALTHY or unprobed


def mcp_verdict(reply: Reply, *, expects_credentials: bool = False) -> Verdict:
    """What the MCP endpoint's answer means by itself.

    ``expects_credentials`` says that the record announces them and the probe carried none.
    """
    failure = reply.failure
    if failure is None:
        return Verdict(Status.HEALTHY, ANSWERS)
    if expects_credentials and isinstance(failure, BadAnswerError) and failure.wants_credentials:
        return Verdict(Status.HEALTHY, ASKS_FOR_CREDENTIALS)
    if limits_requests(failure) or isinstance(failure, NotAskedError):
        return Verdict(Status.DEGRADED, str(failure))
    return Verdict(Status.DOWN, str(failure))


def limits_requests(failure: ProbeError | None) -> bool:
    """Whether the server refused to answer because it was asked too often."""
    match failure:
        case BadAnswerError(status=status) | NotOkError(status=status):
            return status == _TOO_MANY_REQUESTS
    return False


def unless_repeated(
    found: Verdict, failure: ProbeError | None, times: int, fail_after: int | None = None
) -> Verdict:
    """``found``, or ``degraded`` for the same reason where its server is not ``down`` yet.

    ``times`` answers in a row were bad, the last of which is ``failure``; ``fail_after`` of them
    make a server ``down``, by the second table above where that is ``None``.
    """
    if fail_after is None:
        status = failure.status if isinstance(failure, BadAnswerError) else None
        fail_after = 2 if status in _PASSING or isinstance(failure, NoAnswerError) else 1
    if found.status is Status.DOWN and times < fail_after:
        return Verdict(Status.DEGRADED, found.reason)
    return found


def verdict(
    mcp: Reply | None,
    health: Reply | None,
    *,
    slower_than: float | None = None,
    expects_credentials: bool = False,
) -> Verdict:
    """The verdict on a server, by the table above.

    ``mcp`` and ``health`` are what its MCP endpoint and its health URL answered, ``None`` where it
    has none; ``slower_than`` is the slow-after time in seconds, where that was exceeded.
    """
    if mcp is not None and isinstance(mcp.failure, NotAskedError) and health is not None:
        mcp = None
    if mcp is not None:
        found = mcp_verdict(mcp, expects_credentials=expects_credentials)
    elif health is not None:
        found = Verdict(Status.HEALTHY, HEALTH_URL_ANSWERS)
    else:
        return Verdict(Status.DEGRADED, NOT_DIALLED)
    if found.status is not Status.HEALTHY:
        return found
    failure = health.failure if health is not None else None
    if isinstance(failure, NotOkError) and failure.wants_credentials:
        if mcp is None:
            return Verdict(Status.DEGRADED, HEALTH_URL_ASKS)
        found = Verdict(found.status, f"{found.reason}; {HEALTH_URL_ASKS}")
    elif isinstance(failure, NotOkError):
        return Verdict(Status.DEGRADED, str(failure))
    elif failure is not None:
        reason = f"its health endpoint: {failure}"
        if mcp is None:
            return Verdict(Status.DOWN, reason)
        return Verdict(Status.DEGRADED, f"{ANSWERS}; {reason}")
    if slower_than is not None:
        return Verdict(Status.DEGRADED, f"slower than {slower_than:g} s")
    return found


def of_agent(found: Verdict) -> Verdict:
    """``found`` in the words for an agent."""
    if not found.reason.startswith(ANSWERS):
        return found
    return Verdict(found.status, ANSWERS_A2A + found.reason.removeprefix(ANSWERS))


def cannot_be_read(unread: Iterable[UnreadList]) -> str:
    """Which lists cannot be read, and why the first of them cannot; empty where there is none."""
    lists = list(unread)
    if not lists:
        return ""
    *others, last = (each.noun for each in lists)
    nouns = f"{', '.join(others)} and {last}" if others else last
    return f"its {nouns} cannot be read: {lists[0].reason}"


def unless_unread(found: Verdict, trouble: str) -> Verdict:
    """``found``, unless all is well but for ``trouble`` with what the server offers."""
    if not trouble or found.status is not Status.HEALTHY:
        return found
    return Verdict(Status.DEGRADED, f"{ANSWERS}, but {trouble}")


def address_verdict(
    failure: ProbeError | None,
    *,
    expected: Mapping[str, Any],
    answers: Mapping[str, Any],
    announced: bool,
    elsewhere: bool,
) -> Verdict | None:
    """What came of trying the address that a server is advertised under, by the table above.

    ``failure`` is that of the handshake, if it failed; ``expected`` and ``answers`` are what the
    server and what is there call themselves. ``announced`` says that the record announces
    credentials, of which none were sent; ``elsewhere`` that the address may be one for other
    machines alone. ``None`` where there is nothing to say.
    """
    if failure is None:
        names = expected.get("name"), answers.get("name")
        if names[0] == names[1] or None in names:
            return None
        other = quoted(names[1])
        reason = f"{ANSWERS}, but its advertised address leads to another server, {other!r}"
        return Verdict(Status.DEGRADED, reason)
    if announced and isinstance(failure, BadAnswerError) and failure.wants_credentials:
        return None
    if elsewhere and is_elsewhere(failure):
        reason = f"{ANSWERS}; its advertised address cannot be tried from here: {failure}"
        return Verdict(Status.HEALTHY, reason)
    return Verdict(Status.DEGRADED, f"{ANSWERS}, but not at its advertised address: {failure}")


def at_address(found: Verdict, address: Verdict | None) -> Verdict:
    """``found``, and what was found at the advertised address, which matters where all is well."""
    if address is None or found.status is not Status.HEALTHY:
        return found
    if found.reason in (ANSWERS, ANSWERS_A2A) or address.status is not Status.HEALTHY:
        return address
    return found
