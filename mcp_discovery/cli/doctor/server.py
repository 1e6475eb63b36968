"""Can one server be found and used from here: listed, healthy, reachable, speaking MCP?"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from mcp_discovery.cli.doctor.case import Case, DoctorFinding, host_of, ok, unchecked, wrong
from mcp_discovery.cli.doctor.machine import is_address, resolvable
from mcp_discovery.cli.facade_connection import get, instances_of
from mcp_discovery.credential_files import Secret
from mcp_discovery.errors import DiscoveryError, InvalidInputError
from mcp_discovery.plural import counted
from mcp_discovery.probe import (
    BadAnswerError,
    Introspection,
    ProbeError,
    ServerTls,
    probe_of,
    probing_session,
)
from mcp_discovery.probe.verdict import NOT_DIALLED
from mcp_discovery.record import A2A
from mcp_discovery.tls_files import TLSFiles

Entry = Mapping[str, Any]
_STEPS = ("reachable", "speaks MCP", "tools as listed")


async def check_server(case: Case) -> AsyncIterator[DoctorFinding]:
    """Step by step; where one fails, those behind it could not be checked."""
    if case.server is None:
        why = "no server is named"
        yield unchecked(why, "name one with --server to have it checked end to end")
        return
    try:
        async with case.api() as api:
            found = await instances_of(api, case.server)
    except DiscoveryError:
        yield unchecked(f"whether {case.server} is listed: the facade cannot be asked")
        return
    if not found:
        advice = (
            "see that its sidecar runs, that it registers in the store of this facade, and how the "
            "name is spelled: `mcp-discovery servers --status all`"
        )
        yield wrong(f"{case.server} is not listed", advice)
        return
    healthy = [each for each in found if each["status"] == "healthy"]
    for each in found:
        yield _health(case, each)
    # One that should answer says more than one that is known to be down.
    async for finding in _check_reachable(case, (healthy or found)[0]):
        yield finding


def _health(case: Case, entry: Entry) -> DoctorFinding:
    text = f"{entry['id']} is {entry['status']} since {entry['since']}: {entry['reason']}"
    if entry["status"] == "degraded" and entry["reason"] == NOT_DIALLED:
        named = len((entry.get("capabilities") or {}).get("tools") or ())
        return unchecked(f"{text}; it names {counted(named, 'tool')}", _served(case, entry))
    match entry["status"]:
        case "healthy":
            return ok(text)
        case "draining":
            return wrong(text, "it is about to leave; start another instance")
        case "degraded":
            return wrong(text, "see the server's own log; it answers, but not well")
        case _:
            advice = "see that the server runs, and the log of its sidecar"
            return wrong(text, advice)


def _served(case: Case, entry: Entry) -> str:
    """What makes agents reach a command that is registered to be started by each of them."""
    line = case.bridge(_command(entry), entry["tags"], "--name", entry["name"])
    return f"to have it probed, and started once for all agents, run {line}"


def _command(entry: Entry) -> tuple[str, ...]:
    return (entry["endpoint"]["command"], *entry["endpoint"].get("args", ()))


async def _check_reachable(case: Case, entry: Entry) -> AsyncIterator[DoctorFinding]:
    url = entry.get("url")
    if not url:
        why = f"{entry['id']} is started by its clients (stdio); it has no address to be reached at"
        line = shlex.join(("mcp-discovery", "doctor", "--", *_command(entry)))
        yield unchecked(why, f"check the command itself: `{line}`")
        return
    host, port = host_of(url)
    if not is_address(host):
        named = await resolvable(host, case.timeout)
        yield named
        if named.state != "ok":
            yield _steps_left(0)
            return
    try:
        async with asyncio.timeout(case.timeout):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
    except (TimeoutError, OSError) as error:
        problem = getattr(error, "strerror", None) or f"no answer within {case.timeout:g} s"
        advice = (
            "see that the server listens on that address and not on loopback alone, that the "
            "sidecar's --advertise-url is reachable from here, and that no firewall is between"
        )
        yield wrong(f"{host}:{port} cannot be reached from here: {problem}", advice)
        yield _steps_left(1)
        return
    yield ok(f"{host}:{port} can be reached from here")
    async for finding in _check_mcp(case, entry, url):
        yield finding


async def _check_mcp(case: Case, entry: Entry, url: str) -> AsyncIterator[DoctorFinding]:
    try:
        token = Secret("server's token", case.server_token, case.server_token_file).current()
        tls = ServerTls(TLSFiles(case.server_ca, whom="server").current)
    except InvalidInputError as error:
        yield wrong(str(error), "mend --server-token, --server-token-file or --server-ca")
        yield _steps_left(2)
        return
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    spoken = "A2A" if entry["transport"] == A2A else "MCP"
    async with probing_session(aiohttp.TCPConnector()) as http:
        how: dict[str, Any] = {"session": http, "headers": headers, "tls": tls}
        try:
            probe = probe_of(url, transport=entry["transport"], **how)
        except ValueError as error:
            yield wrong(f"{url} cannot be asked: {error}", "register it by a URL of its transport")
            yield _steps_left(2)
            return
        try:
            await probe.connect(case.timeout)
            offered = await probe.introspect(case.timeout)
        except BadAnswerError as error:
            advice = f"see that its URL is that of {spoken}, and the server's log"
            if error.wants_credentials:
                advice = "give its bearer token in MCP_DISCOVERY_SERVER_TOKEN"
            if error.refuses_host:
                advice = "allow that host in the server's protection against DNS rebinding"
            yield wrong(f"{url} does not answer as {spoken}: {error}", advice)
            yield _steps_left(2)
            return
        except ProbeError as error:
            advice = "see the server's log, and whether what listens there is the server"
            yield wrong(f"{url} does not answer {spoken}: {error}", advice)
            yield _steps_left(2)
            return
        finally:
            await probe.close()
    facts = ", ".join(filter(None, (offered.era, *offered.versions)))
    yield ok(f"{url} speaks {spoken} ({facts})")
    for finding in offered.findings:
        yield wrong(f"its answers are not all right: {finding}", "mend the server")
    yield await _compare(case, entry, "tools" if spoken == "MCP" else "skills", offered)


async def _compare(case: Case, entry: Entry, what: str, offered: Introspection) -> DoctorFinding:
    try:
        async with case.api() as api:
            path = f"/servers/{quote(str(entry['id']), safe='')}/capabilities"
            listed = (await get(api, path))[what]
    except DiscoveryError as error:
        return unchecked(f"whether its {what} are those that are listed: {error}")
    offers = {str(each.get("name")): each for each in getattr(offered, what)}
    known = {str(each.get("name")): each for each in listed}
    if offers == known:
        return ok(f"its {what} are those that are listed: {len(offers)}")
    differ = [name for name in offers.keys() & known.keys() if offers[name] != known[name]]
    parts = (
        ("not listed", sorted(offers.keys() - known.keys())),
        ("listed but not offered", sorted(known.keys() - offers.keys())),
        ("of another definition", sorted(differ)),
    )
    differences = "; ".join(f"{how}: {', '.join(names[:5])}" for how, names in parts if names)
    advice = "wait for the next reading; where it stays so, see the log of its sidecar or facade"
    return wrong(f"its {what} are not those that are listed ({differences})", advice)


def _steps_left(step: int) -> DoctorFinding:
    return unchecked(f"the rest could not be checked: {', '.join(_STEPS[step:])}")
