"""Runs every check within its deadline, none stopping another, and prints their findings."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from mcp_discovery.cli.doctor.case import Case, DoctorFinding, wrong
from mcp_discovery.cli.doctor.certificates import check_certificates
from mcp_discovery.cli.doctor.command import check_command
from mcp_discovery.cli.doctor.dns import check_dns
from mcp_discovery.cli.doctor.facade import check_facade
from mcp_discovery.cli.doctor.machine import check_clock, check_hosts
from mcp_discovery.cli.doctor.server import check_server
from mcp_discovery.cli.doctor.server_names import check_server_names
from mcp_discovery.cli.doctor.store import check_store
from mcp_discovery.cli.exit_codes import DONE, FAILED
from mcp_discovery.cli.failures import brief, trace
from mcp_discovery.cli.terminal import line, say, say_json

Check = Callable[[Case], AsyncIterator[DoctorFinding]]
CHECKS: tuple[tuple[str, Check], ...] = (
    ("names", check_hosts),
    ("facade", check_facade),
    ("servers", check_server_names),
    ("store", check_store),
    ("certificates", check_certificates),
    ("clock", check_clock),
    ("dns", check_dns),
    ("server", check_server),
)
#: A check makes a few requests, each bounded by the case's time-out; so many in all.
_STEPS = 6


async def examine(case: Case, *, json: bool) -> int:
    """Makes every check and prints what it found; returns 1 when anything is wrong."""
    report = _json_report if json else _text_report()
    states: Counter[str] = Counter()
    for name, check in (("command", check_command),) if case.command else CHECKS:
        async for finding in _guarded(check, case):
            states[finding.state] += 1
            report(name, finding)
    if not json:
        say()
        counts = f"{states['ok']} fine, {states['wrong']} wrong, {states['unchecked']} not checked"
        say(f"{counts}.")
    return FAILED if states["wrong"] else DONE


async def _guarded(check: Check, case: Case) -> AsyncIterator[DoctorFinding]:
    bound = case.timeout * _STEPS
    try:
        async with asyncio.timeout(bound), aclosing(check(case)) as findings:  # type: ignore[type-var]
            async for finding in findings:
                yield finding
    except TimeoutError:
        yield wrong(f"the check did not end within {bound:g} s", "try a longer --timeout")
    except Exception as error:  # noqa: BLE001  the guard: one check must not stop the others
        trace(error)
        advice = "please report this, with what --debug shows"
        yield wrong(f"the check itself failed: {brief(error)}", advice)


def _json_report(name: str, finding: DoctorFinding) -> None:
    counts = {"check": name, "state": finding.state, "message": finding.message}
    say_json(counts | ({"advice": finding.advice} if finding.advice else {}))


def _text_report() -> Callable[[str, DoctorFinding], None]:
    from rich.text import Text

    from mcp_discovery.cli.tables import console

    out = console()
    marks = {"ok": ("✓", "green"), "wrong": ("✗", "bold red"), "unchecked": ("–", "yellow")}

    def report(name: str, finding: DoctorFinding) -> None:
        mark, colour = marks[finding.state]
        text = Text(mark, style=colour).append(f" {name}: ", style="bold")
        text.append(line(finding.message), style="default not bold")
        if finding.advice:
            text.append(f"\n  → {line(finding.advice)}", style="default not bold")
        out.print(text, soft_wrap=not out.is_terminal)

    return report
