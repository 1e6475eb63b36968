"""What becomes of a check that fails itself: it is never taken for a pass."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from mcp_discovery.cli import failures
from mcp_discovery.cli.doctor import checks
from mcp_discovery.cli.doctor.case import Case, DoctorFinding, ok
from mcp_discovery.cli.doctor.facade import check_facade
from tests.mcp_discovery.test_connection_errors import HTTP, port, saying, serving


async def crashing(_: Case) -> AsyncIterator[DoctorFinding]:
    yield ok("the first step")
    raise AttributeError("no 'reason'")


async def hanging(_: Case) -> AsyncIterator[DoctorFinding]:
    yield ok("the first step")
    await asyncio.Event().wait()


async def fine(_: Case) -> AsyncIterator[DoctorFinding]:
    yield ok("all of it")


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (crashing, "the check itself failed: AttributeError: no 'reason'"),
        (hanging, "the check did not end within 0.06 s"),
    ],
)
async def test_a_check_that_fails_itself_is_wrong_and_the_others_go_on(
    check: Callable[[Case], AsyncIterator[DoctorFinding]],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(checks, "CHECKS", (("store", check), ("clock", fine)))
    case = Case(facade="http://127.0.0.1:9", timeout=0.01)
    for shown in (False, True):
        monkeypatch.setattr(failures, "_shown", shown)
        assert await checks.examine(case, json=True) == 1
        said = capsys.readouterr()
        first, second, third = map(json.loads, said.out.splitlines())
        assert (first["state"], second["state"], third["state"]) == ("ok", "wrong", "ok")
        assert second["message"].startswith(says)
        assert second["advice"]
        assert ("Traceback" in said.err) == (shown and check is crashing)


async def test_a_facade_that_speaks_another_protocol_is_not_told_to_be_started() -> None:
    for scheme, served in (("https", saying(HTTP)), ("https", serving()), ("http", serving())):
        async with port(served, heard=scheme == "https") as there:
            case = Case(facade=f"{scheme}://{there}")
            (only,) = [each async for each in check_facade(case)]
        assert only.state == "wrong"
        assert only.advice.startswith("see the scheme of its address"), only
