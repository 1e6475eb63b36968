"""Does this machine's clock agree with the facade's and the store's?

TTLs do not depend on it, but certificates, tokens and every time that is shown do.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

from mcp_discovery.adapters.http import HttpClient
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.cli.doctor.case import Case, DoctorFinding, ok, unchecked, wrong
from mcp_discovery.errors import DiscoveryError

_CHECK = "clock"
#: Seconds of difference that are too much; a Date header is exact to one (RFC 9110, 6.6.1).
_MOST = 3.0


async def check_clock(case: Case) -> AsyncIterator[DoctorFinding]:
    """One finding for the facade and for each address of the store."""
    yield await _compare("the facade", case.facade, StoreOptions(), case.timeout, path="/ready")
    for url in case.store_urls:
        if url != case.facade:
            yield await _compare(f"the store at {url}", url, case.credentials, case.timeout)


async def _compare(
    who: str, url: str, credentials: StoreOptions, timeout: float, *, path: str = ""
) -> DoctorFinding:
    try:
        http = HttpClient(url, credentials)
    except DiscoveryError as error:
        return unchecked(_CHECK, f"that of {who} is not known: {error}")
    try:
        before = time.time()
        # No credentials are needed: every answer has a date, a refusal too.
        answer = await http.request("GET", f"{url.rstrip('/')}{path}", timeout=timeout)
        after = time.time()
    except DiscoveryError as error:
        return unchecked(_CHECK, f"that of {who} is not known: {error}")
    finally:
        await http.close()
    if path and answer.status == 404:
        return unchecked(_CHECK, f"that of {who} is not known: what answers at {url} is none")
    try:
        remote = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return unchecked(_CHECK, f"{who} does not tell the time")
    # The header leaves out fractions: the time lies within the second that it names.
    ahead = max(remote - after, 0.0) - max(before - (remote + 1), 0.0)
    if abs(ahead) <= _MOST:
        return ok(_CHECK, f"agrees with that of {who}, to a second or so")
    way = "ahead of" if ahead > 0 else "behind"
    advice = "let both machines take their time from NTP; see `timedatectl` for which one does not"
    message = f"that of {who} is {_span(abs(ahead))} {way} this machine's"
    return wrong(_CHECK, message, advice)


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
