"""``GET /audit/verification``: whether the log is whole, from its first entry to its end."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from aiohttp import web
from pydantic import Field

from mcp_discovery.facade.access.audit.chain import ChainCheck
from mcp_discovery.facade.access.audit.handlers import kept_audit, unavailable
from mcp_discovery.facade.access.audit.journal import AuditLogError
from mcp_discovery.facade.access.audit.verify import verify_store
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.challenge import CHALLENGES
from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.health import rfc3339

#: How many faults are listed.
_MOST_FAULTS = 100


class ChainFaultModel(Shaped):
    """What is wrong, and where."""

    where: str
    fault: str


class ChainVerification(Shaped):
    """What following the chain of the audit's store has shown."""

    whole: bool
    entries: int = Field(ge=0)
    faults: list[ChainFaultModel] = Field(description=f"The first {_MOST_FAULTS}.")
    more_faults: int = Field(ge=0)
    head: str | None = Field(
        description="`chain:sequence:hash` of the last entry, to keep elsewhere."
    )
    verified_at: datetime
    seconds: float = Field(ge=0, description="How long it took.")


async def verification(request: web.Request) -> web.Response:
    """Follows the hashes of the audit's store from its first entry to its end, and compares each
    entry with the columns that it is searched by.

    What that cannot show is in the documentation: keep `head` where the facade cannot write.
    """
    caller = caller_of(request)
    if not caller.rights.grants_all("admin"):
        detail = "the log is of all servers; ask for a role that may administer all of them"
        raise request.app[CHALLENGES].insufficient(request, "admin", detail)
    kept, store = kept_audit(request)
    check, more = ChainCheck(), 0
    faults: list[dict[str, str]] = []
    begin = time.monotonic()
    async with kept.verifying:
        await kept.journal.caught_up(1.0)
        try:
            async for fault in verify_store(store, check):
                if len(faults) < _MOST_FAULTS:
                    faults.append({"where": fault.where, "fault": fault.what})
                else:
                    more += 1
        except AuditLogError as error:
            raise unavailable(error) from error
    heads = list(check.heads.values())
    body = {
        "whole": not faults,
        "entries": check.entries,
        "faults": faults,
        "moreFaults": more,
        "head": str(heads[-1]) if heads else None,
        "verifiedAt": rfc3339(datetime.now(UTC)),
        "seconds": round(time.monotonic() - begin, 3),
    }
    return json_response(body)


OPERATIONS = (
    Operation(
        "GET",
        "/audit/verification",
        verification,
        "audit",
        answers={200: ChainVerification},
        errors=(404, 503),
        needs="admin",
    ),
)
