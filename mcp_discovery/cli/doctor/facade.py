"""Does the facade answer, is its list there and fresh, and is it of this version?"""

from __future__ import annotations

from collections.abc import AsyncIterator

from mcp_discovery.adapters.remote.api import FacadeApi
from mcp_discovery.cli.doctor.case import Case, DoctorFinding, ok, unchecked, wrong
from mcp_discovery.cli.facade_connection import get, get_or_none
from mcp_discovery.errors import (
    DiscoveryError,
    StoreDeniedError,
    StoreUnavailableError,
    UnauthenticatedError,
)
from mcp_discovery.facade_url import without_path
from mcp_discovery.plural import counted
from mcp_discovery.version import installed_version


async def check_facade(case: Case) -> AsyncIterator[DoctorFinding]:
    """Reachable, of the same version, ready, and its list up to date."""
    async with case.api() as api:
        try:
            health = await get(api, "/health")
            remote_version = str(health["version"])
        except StoreDeniedError as error:
            advice = "give the token that the proxy before it asks for: MCP_DISCOVERY_FACADE_TOKEN"
            yield wrong(str(error), advice)
            return
        except StoreUnavailableError as error:
            advice = "start one with `mcp-discovery facade`, or give its address with --facade"
            if "TLS" in error.problem or "certificate" in error.problem:
                advice = "see the scheme of its address, and SSL_CERT_FILE for a private CA"
            yield wrong(str(error), advice)
            return
        except (DiscoveryError, KeyError, TypeError, ValueError):
            such = without_path(case.facade) or "http://127.0.0.1:4000"
            advice = f"give the address of a facade with --facade, such as {such}"
            yield wrong(f"what answers at {case.facade} is no facade", advice)
            return
        yield ok(f"{case.facade} answers, up for {health.get('uptime', 0):,} s")
        own = installed_version()
        if remote_version == own:
            yield ok(f"it is of version {remote_version}, as this command is")
        else:
            advice = "install the same version on both sides, the facade's first"
            yield wrong(f"it is of version {remote_version}, this command of {own}", advice)
        rights = await _rights(case, api)
        if rights is not None:
            yield rights
            if rights.state == "wrong":
                return
        try:
            ready = await get(api, "/ready")
            status = await get(api, "/status")
        except DiscoveryError as error:
            advice = "see that the facade reaches its store; its log says why it does not"
            yield wrong(f"it has no list yet: {error}", advice)
            return
        if since := ready.get("staleSince"):
            advice = "see that the facade reaches its store; `doctor --store URL` checks that"
            why = ready.get("problem") or "its store is away"
            yield wrong(f"its list is as of {since}: {why}", advice)
        else:
            origin = f", from {status['store']}" if "store" in status else ""
            yield ok(f"its list is up to date{origin}")
        if partial := ready.get("partial"):
            advice = "grant it to the facade's own token; `doctor --store URL` checks one"
            yield wrong(f"its list is only a part: {partial}", advice)
        for finding in _of_list(status):
            yield finding


async def _rights(case: Case, api: FacadeApi) -> DoctorFinding | None:
    """Whether the facade wants credentials and takes these; ``None`` for one of before 0.3."""
    advice = (
        f"run: mcp-discovery login --facade {case.facade}, or give a token by "
        "MCP_DISCOVERY_FACADE_TOKEN or --facade-token-file"
    )
    try:
        found = await get_or_none(api, "/whoami")
    except UnauthenticatedError as error:
        return wrong(f"it wants credentials and refuses these: {error.problem}", advice)
    except DiscoveryError:
        return None
    if found is None:
        return None
    verbs: list[str] = found["verbs"]
    may = ", ".join(verbs)
    if found["by"] == "anonymous":
        if not verbs:
            return wrong("it wants credentials, and none are given", advice)
        return ok(f"it asks for no credentials to {may}")
    who = f"{found['subject']} (roles: {', '.join(found['roles']) or 'none'})"
    if "read" not in verbs:
        return wrong(f"it takes these credentials, of {who}, who may not read", "ask for a role")
    return ok(f"it takes these credentials, of {who}, who may {may}")


def _of_list(status: dict[str, dict[str, int]]) -> list[DoctorFinding]:
    summary = status["summary"]
    total = summary["total"]
    counts = ", ".join(f"{n} {name}" for name, n in summary.items() if n and name != "total")
    found = [
        ok(f"it lists {counted(total, 'instance')}: {counts}")
        if total
        else unchecked("it lists no server", "start a sidecar, or use `register`")
    ]
    if total and not summary.get("healthy"):
        advice = "`mcp-discovery servers --status all` tells the reason of each"
        found = [wrong(f"it lists no healthy server, of {counted(total, 'instance')}", advice)]
    if skipped := status.get("skipped", {}).get("total"):
        number = counted(skipped, "key") + (" that is" if skipped == 1 else " that are")
        advice = f"GET /status names them under skipped: {number} no record"
        found.append(wrong("its store holds what cannot be read", advice))
    return found
