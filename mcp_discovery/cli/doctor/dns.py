"""Does DNS name the servers that the facade lists?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from mcp_discovery.cli.doctor.dns_message import NO_SUCH_NAME, DnsAnswer, DnsResponseError, ask
from mcp_discovery.cli.doctor.finding import Finding, ok, unchecked, wrong
from mcp_discovery.cli.doctor.targets import Case
from mcp_discovery.cli.facade_connection import asking, get
from mcp_discovery.errors import DiscoveryError

_CHECK = "dns"


async def check_dns(case: Case) -> AsyncIterator[Finding]:
    """A and SRV records of one tag, or of all servers where no tag is known."""
    if case.dns is None:
        yield unchecked(_CHECK, "no DNS server is named", "name it with --dns 127.0.0.1:8600")
        return
    listed, known = await _listed(case)
    tag = case.tag or next((tag for each in listed for tag in each["tags"]), None)
    healthy = sum(1 for each in listed if tag is None or tag in each["tags"])
    name = f"{tag}.{case.dns_domain}" if tag else case.dns_domain
    server = f"{case.dns[0]}:{case.dns[1]}"
    for kind in ("A", "SRV"):
        try:
            answer = await ask(case.dns, name, kind, case.timeout)
        except TimeoutError:
            advice = "see that DNS is served there, by UDP; Consul's port is 8600"
            yield wrong(_CHECK, f"{server}: no answer within {case.timeout:g} s", advice)
            return
        except (OSError, ValueError, DnsResponseError) as error:
            advice = "see that DNS is served there; Consul's port is 8600"
            yield wrong(_CHECK, f"{server}: {error}", advice)
            return
        yield _judged(name, kind, answer, healthy if known else None)


async def _listed(case: Case) -> tuple[list[dict[str, Any]], bool]:
    """The healthy servers of the facade, and whether it could be asked."""
    try:
        async with asking(case.facade, case.facade_token, timeout=case.timeout) as api:
            return (await get(api, "/servers", [("fields", "name,tags")]))["servers"], True
    except DiscoveryError:
        return [], False


def _judged(name: str, kind: str, answer: DnsAnswer, healthy: int | None) -> Finding:
    if answer.records:
        shown = ", ".join(answer.records[:5])
        more = f" and {len(answer.records) - 5} more" if len(answer.records) > 5 else ""
        return ok(_CHECK, f"{name} has {kind} records: {shown}{more}")
    if answer.code not in (0, NO_SUCH_NAME):
        advice = f"see --dns-domain, whether the server answers for {name}, and its ACLs"
        return wrong(_CHECK, f"{name} {kind}: {answer.meaning}", advice)
    if healthy == 0:
        why = f"{name} has no {kind} records, and the facade lists no healthy server for it"
        return unchecked(_CHECK, why, "name another tag with --tag")
    counted = f", though the facade lists {healthy} healthy" if healthy else ""
    advice = (
        "see that the facade's store is the one that DNS is served from, how the service is named "
        "(--dns-domain), and whether DNS has an ACL token that may read it"
    )
    return wrong(_CHECK, f"{name} has no {kind} records ({answer.meaning}){counted}", advice)
