"""Do host names resolve on this machine, and does its clock agree with the others'?

TTLs do not depend on the clock, but certificates, tokens and every time that is shown do.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

from mcp_discovery.adapters.http import HttpClient, remedies_for
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.cli.doctor.case import Case, DoctorFinding, host_of, ok, unchecked, wrong
from mcp_discovery.errors import DiscoveryError

#: Seconds of difference that are too much; a Date header is exact to one (RFC 9110, 6.6.1).
_MOST_DRIFT = 3.0


async def check_hosts(case: Case) -> AsyncIterator[DoctorFinding]:
    """One finding for each host that has a name; an address needs no resolving."""
    hosts = {host_of(each)[0]: None for each in (case.facade, *case.store_urls)}
    if case.dns:
        hosts[case.dns[0]] = None
    for host in hosts:
        if host and not is_address(host):
            yield await resolvable(host, case.timeout)


async def resolvable(host: str, timeout: float) -> DoctorFinding:
    """Whether ``host`` resolves on this machine."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        why = f"the name {host} did not resolve within {timeout:g} s"
        return wrong(why, "see that the DNS servers of this machine answer")
    except (OSError, UnicodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        advice = "see how the name is spelled, and the DNS settings of this machine"
        return wrong(f"the name {host} does not resolve here ({problem})", advice)
    addresses = dict.fromkeys(str(each[4][0]) for each in found)
    return ok(f"{host} is {', '.join(addresses)}")


def is_address(host: str) -> bool:
    """Whether ``host`` is an address rather than a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


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
        # Only the facade is asked at a path: its readiness.
        http = HttpClient(url, credentials, remedies=remedies_for(url, facade=bool(path)))
    except DiscoveryError as error:
        return unchecked(f"that of {who} is not known: {error}")
    try:
        before = time.time()
        # No credentials are needed: every answer has a date, a refusal too.
        answer = await http.request("GET", f"{url.rstrip('/')}{path}", timeout=timeout)
        after = time.time()
    except DiscoveryError as error:
        return unchecked(f"that of {who} is not known: {error}")
    finally:
        await http.close()
    if path and answer.status == 404:
        return unchecked(f"that of {who} is not known: what answers at {url} is none")
    try:
        remote = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return unchecked(f"{who} does not tell the time")
    # The header leaves out fractions: the time lies within the second that it names.
    ahead = max(remote - after, 0.0) - max(before - (remote + 1), 0.0)
    if abs(ahead) <= _MOST_DRIFT:
        return ok(f"agrees with that of {who}, to a second or so")
    way = "ahead of" if ahead > 0 else "behind"
    advice = "let both machines take their time from NTP; see `timedatectl` for which one does not"
    message = f"that of {who} is {_span(abs(ahead))} {way} this machine's"
    return wrong(message, advice)


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
