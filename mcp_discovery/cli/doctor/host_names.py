"""Do the names of facade, store and DNS server resolve here?"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator

from mcp_discovery.cli.doctor.case import Case, DoctorFinding, host_of, ok, wrong


async def check_hosts(case: Case) -> AsyncIterator[DoctorFinding]:
    """One finding for each host that has a name; an address needs no resolving."""
    hosts = {host_of(each)[0]: None for each in (case.facade, *case.store_urls)}
    if case.dns:
        hosts[case.dns[0]] = None
    for host in hosts:
        if host and not is_address(host):
            yield await resolvable("names", host, case.timeout)


async def resolvable(check: str, host: str, timeout: float) -> DoctorFinding:
    """Whether ``host`` resolves on this machine."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        why = f"the name {host} did not resolve within {timeout:g} s"
        return wrong(check, why, "see that the DNS servers of this machine answer")
    except (OSError, UnicodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        advice = "see how the name is spelled, and the DNS settings of this machine"
        return wrong(check, f"the name {host} does not resolve here ({problem})", advice)
    addresses = dict.fromkeys(str(each[4][0]) for each in found)
    return ok(check, f"{host} is {', '.join(addresses)}")


def is_address(host: str) -> bool:
    """Whether ``host`` is an address rather than a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
