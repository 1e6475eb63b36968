"""Is a command an MCP server that speaks stdio, and what is wrong with it if not?"""

from __future__ import annotations

from collections.abc import AsyncIterator

from mcp_discovery.cli.doctor.case import Case, DoctorFinding, wrong
from mcp_discovery.cli.introspection import advice, introspect
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.plural import counted

#: Many a command loads itself from a registry first.
_LONGER = 5
_MEND = "mend the server: clients read its output, which is for messages of MCP alone"


async def check_command(case: Case) -> AsyncIterator[DoctorFinding]:
    """Starts the command once, with few of the variables that are set here, as clients do."""
    try:
        found = await introspect(case.program(), "command", _LONGER * case.timeout)
    except DiscoveryError as error:
        yield wrong(
            str(error), advice(error, "--timeout") or "mend the command line, and try again"
        )
        return
    offered = {
        "tool": found.tools,
        "resource": (*found.resources, *found.resource_templates),
        "prompt": found.prompts,
    }
    said = ", ".join(counted(len(items), noun) for noun, items in offered.items() if items)
    given = [each for name in case.env for each in ("--env", name)]
    given += ["--env-file", case.env_file] if case.env_file is not None else []
    facts = ", ".join(filter(None, (found.era, *found.versions)))
    yield DoctorFinding(
        "ok",
        f"it speaks MCP over stdio ({facts}): {said or 'it offers nothing'}",
        f"agents find it while this runs: {case.bridge(case.command, case.tags, *given)}",
    )
    for finding in found.findings:
        yield wrong(f"its answers are not all right: {finding}", _MEND)
