"""What each answer of an MCP server means: the one table of status and reason, whoever asks.

===============================================  ==========  ======================================
answer                                           status      reason
===============================================  ==========  ======================================
MCP round trip                                   `healthy`   answers MCP
MCP refused for want of credentials (401, 403,   `healthy`   answers, and asks for credentials as
407) that the record announces and the probe                 its record says
did not send
one of these, and the health URL answers, but    `degraded`  the health endpoint answered HTTP 503
not 2xx
one of these, and the health URL does not        `degraded`  answers MCP; its health endpoint:
answer                                                       connection refused
one of these, after the slow-after time          `degraded`  slower than 1 s
any other answer to MCP, or none, whatever the   `down`      the sentence of the probe's error, such
health URL answers                                           as "HTTP 500 from the MCP endpoint"
stdio, and the health URL answers 2xx            `healthy`   its health endpoint answers
stdio, and the health URL answers, but not 2xx   `degraded`  the health endpoint answered HTTP 503
stdio, and the health URL does not answer        `down`      its health endpoint: connection refused
stdio without a health URL                       `degraded`  not probed: its clients start it
                                                             themselves
===============================================  ==========  ======================================

A server with an MCP endpoint is never healthy without an answer from there: agents speak MCP to it,
and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcp_discovery.health import ANSWERS, Health, Status
from mcp_discovery.probe.errors import BadAnswerError, NotOkError, ProbeError

#: The reason of a server that asks for credentials as its record announces.
ASKS_FOR_CREDENTIALS = "answers, and asks for credentials as its record says"
#: The reason of a stdio server whose health URL answers.
HEALTH_URL_ANSWERS = "its health endpoint answers"
#: The reason of a stdio server without a health URL: there is nothing that could be dialled.
NOT_DIALLED = "not probed: its clients start it themselves"
#: The reason of a posted entry until its first probe has ended.
NOT_PROBED = "not probed yet"
#: The reason of a posted entry whose health checks are switched off.
UNPROBED = "not probed: its health checks are switched off"


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
    return Verdict(Status.DOWN, str(failure))


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
    if mcp is not None:
        found = mcp_verdict(mcp, expects_credentials=expects_credentials)
    elif health is not None:
        found = Verdict(Status.HEALTHY, HEALTH_URL_ANSWERS)
    else:
        return Verdict(Status.DEGRADED, NOT_DIALLED)
    if found.status is Status.DOWN:
        return found
    failure = health.failure if health is not None else None
    if isinstance(failure, NotOkError):
        return Verdict(Status.DEGRADED, str(failure))
    if failure is not None:
        reason = f"its health endpoint: {failure}"
        if mcp is None:
            return Verdict(Status.DOWN, reason)
        return Verdict(Status.DEGRADED, f"{ANSWERS}; {reason}")
    if slower_than is not None:
        return Verdict(Status.DEGRADED, f"slower than {slower_than:g} s")
    return found
