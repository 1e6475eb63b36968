"""Does DNS name the servers that the facade lists?

The messages are dnspython's, which the extra ``doctor`` brings: it is imported by the check alone.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

from mcp_discovery.adapters.dns_names import TAG
from mcp_discovery.cli.doctor.case import Case, DoctorFinding, ok, unchecked, wrong
from mcp_discovery.cli.facade_connection import get
from mcp_discovery.errors import DiscoveryError, MissingExtraError
from mcp_discovery.extras import require_extra

#: Response codes (RFC 1035, 4.1.1) in words; any other is named by its number.
_CODES = {0: "no error", 1: "format error", 2: "server failure", 3: "no such name", 5: "refused"}
_NO_ERROR, _NO_SUCH_NAME = 0, 3


async def check_dns(case: Case) -> AsyncIterator[DoctorFinding]:
    """A and SRV records of one tag, or of all servers where no tag is known."""
    if case.dns is None:
        yield unchecked("no DNS server is named", "name it with --dns 127.0.0.1:8600")
        return
    try:
        require_extra("doctor", "the DNS check")
    except MissingExtraError as error:
        yield unchecked(str(error))
        return
    import dns.exception

    listed, known = await _listed(case)
    tag = next(iter(case.tags), None) or next(
        (tag for each in listed for tag in each["tags"]), None
    )
    names = {each["name"] for each in listed}
    listed = [each for each in listed if tag is None or tag in each["tags"]]
    server_name = listed[0]["name"] if listed else None
    if (domain := case.domain_of(server_name)) is None:
        why = "each server has a Consul service of its own, and no server is listed"
        yield unchecked(why, "name one with --dns-domain mcp-NAME.service.consul")
        return
    if case.domain_of(None) is None:
        listed = [each for each in listed if each["name"] == server_name]
    healthy = len(listed)
    if tag in names and case.domain_of(None) is not None:
        tag = f"{tag}.{TAG}"  # alone it is ambiguous, and not served
    name = f"{tag}.{domain}" if tag else domain
    server = f"{case.dns[0]}:{case.dns[1]}"
    for kind in ("A", "SRV"):
        try:
            code, records = await _resolve(case.dns, name, kind, case.timeout)
        except (TimeoutError, dns.exception.Timeout):
            advice = "see that DNS is served there, by UDP; Consul's port is 8600"
            yield wrong(f"{server}: no answer within {case.timeout:g} s", advice)
            return
        except (dns.exception.DNSException, EOFError) as error:
            advice = "see that DNS is served there; Consul's port is 8600"
            yield wrong(f"{server}: no valid DNS answer for {name} ({error})", advice)
            return
        except OSError as error:
            advice = "see that DNS is served there; Consul's port is 8600"
            yield wrong(f"{server}: {error}", advice)
            return
        yield _finding_of(name, kind, code, records, healthy if known else None)


async def _listed(case: Case) -> tuple[list[dict[str, Any]], bool]:
    """The healthy servers of the facade, and whether it could be asked."""
    try:
        async with case.api() as api:
            return (await get(api, "/servers", [("fields", "name,tags")]))["servers"], True
    except DiscoveryError:
        return [], False


async def _resolve(
    server: tuple[str, int], name: str, kind: str, timeout: float
) -> tuple[int, Sequence[str]]:
    """The response code of ``server`` and its records: addresses, or ``host:port`` for SRV.

    By UDP, and by TCP where the response is too long for that. Raises :class:`TimeoutError`,
    :class:`OSError`, :class:`EOFError` where a response by TCP ends early, and
    ``dns.exception.DNSException``.
    """
    import dns.asyncquery
    import dns.message
    import dns.rdatatype

    query = dns.message.make_query(name, kind)
    async with asyncio.timeout(timeout):
        found = await asyncio.get_running_loop().getaddrinfo(*server, type=socket.SOCK_DGRAM)
        address, port = found[0][4][:2]
        response, _ = await dns.asyncquery.udp_with_fallback(
            query, str(address), timeout=timeout, port=int(port)
        )
    records = [
        f"{each.target.to_text(omit_final_dot=True)}:{each.port}" if kind == "SRV" else each.address
        for rrset in response.answer
        if rrset.rdtype == dns.rdatatype.from_text(kind)
        for each in rrset
    ]
    return int(response.rcode()), records


def _finding_of(
    name: str, kind: str, code: int, records: Sequence[str], healthy: int | None
) -> DoctorFinding:
    if records:
        shown = ", ".join(records[:5])
        more = f" and {len(records) - 5} more" if len(records) > 5 else ""
        return ok(f"{name} has {kind} records: {shown}{more}")
    meaning = _CODES.get(code, f"code {code}")
    if code not in (_NO_ERROR, _NO_SUCH_NAME):
        advice = f"see --dns-domain, whether the server answers for {name}, and its ACLs"
        return wrong(f"{name} {kind}: {meaning}", advice)
    if healthy == 0:
        why = f"{name} has no {kind} records, and the facade lists no healthy server for it"
        return unchecked(why, "name another tag with --tag")
    counted = f", though the facade lists {healthy} healthy" if healthy else ""
    advice = (
        "see that the facade's store is the one that DNS is served from, how the service is named "
        "(--dns-domain), and whether DNS has an ACL token that may read it"
    )
    return wrong(f"{name} has no {kind} records ({meaning}){counted}", advice)
