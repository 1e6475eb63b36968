"""Which failed requests are refusals: those that a rule decided against, not those that are
malformed.

Rules are rights, ownership, quotas and limits, the policy of addresses, and the search for secrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mcp_discovery.errors import InvalidInputError, InvalidRecordError, SecretInRecordError
from mcp_discovery.facade.access.rights import Need
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.probe import AddressRefusedError

#: Statuses that only a rule answers with, whatever was asked for.
_REFUSED: Final = frozenset((401, 403, 413, 415, 421, 429))
#: Statuses that are refusals where a change or a call was asked for.
_REFUSED_CHANGE: Final = frozenset((404, 409))
_CHANGING: Final = frozenset[Need](("register", "call", "admin"))
#: Problems that are refusals though their status is that of malformed input, or of an overload.
DECIDED: Final = frozenset(
    ("secret-in-record", "record-too-large", "ttl-not-allowed", "too-many-connections")
)
#: The problem of a registration that comes again as soon as the document that it names is there.
_NOT_YET: Final = "unknown-document"


def is_refusal(need: Need, outcome: Mapping[str, Any], error: Exception | None) -> bool:
    """Whether a request that needs the right ``need``, ended with ``outcome`` and raised ``error``
    was refused."""
    status, problem = outcome.get("status"), outcome.get("problem")
    if problem == _NOT_YET:
        return False
    return (
        status in _REFUSED
        or (need in _CHANGING and status in _REFUSED_CHANGE)
        or problem in DECIDED
        or (error is not None and (holds_secret(error) or leads_astray(error)))
    )


def holds_secret(error: Exception) -> bool:
    """Whether a secret is among the faults of what was given; it may not be the first of them."""
    return any(isinstance(each, SecretInRecordError) for each in _faults(error))


def leads_astray(error: BaseException) -> bool:
    """Whether ``error`` came of an address that the policy forbids: one in a record that was given,
    or one to which a name resolved when it was dialled."""
    return any(isinstance(each, AddressRefusedError) for each in _causes(error))


def fields_of(error: Exception) -> list[str]:
    """The fields that a rule was broken in, as paths; what stands in them is not told."""
    if isinstance(error, ProblemError):
        found = [error.facts.get("field")]
    else:
        broken = [each for each in _faults(error) if holds_secret(each) or leads_astray(each)]
        found = [each.field for each in broken if isinstance(each, InvalidRecordError)]
    return [each for each in found if isinstance(each, str) and each]


def _faults(error: Exception) -> tuple[Exception, ...]:
    return (error, *error.others) if isinstance(error, InvalidInputError) else (error,)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error``, what caused it and what it is a group of."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        if isinstance(each, InvalidInputError):
            waiting += each.others
