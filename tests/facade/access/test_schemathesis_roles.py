"""Every operation as callers of three roles: none gets to what its role has not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, settings

from mcp_discovery.facade.app import OPERATIONS
from mcp_discovery.facade.http.openapi import operation_id
from mcp_discovery.facade.http.operation import Operation
from tests.facade.access.tokens import bearer, write_auth_file
from tests.facade.harness import leased
from tests.facade.http.test_schemathesis import CHECKS, EXCLUDED, KNOWN, SCHEMA, Line
from tests.records import tool

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning"),
]
ROLES = ("employee", "manager", "admin")
#: What nobody of these roles may see, in whatever stands in the list.
HIDDEN = "zebra"
ENTRIES = (
    leased("alpha", tags=["articles"], document={"tools": [tool("get_article"), tool(HIDDEN)]}),
    leased("beta", name="tickets", capabilities=["get_ticket", "create_ticket"]),
    leased(HIDDEN, name=HIDDEN, title=HIDDEN, tags=[HIDDEN], zone=HIDDEN, owner=HIDDEN)
    | {"url": f"http://127.0.0.1:9/{HIDDEN}", "capabilities": [HIDDEN]},
)
#: What of it stands in paths and answers that say it back.
ASKED = KNOWN | {"id": HIDDEN, "name": HIDDEN, "serverName": HIDDEN}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A facade with ``--auth`` and a few entries."""
    folder: Path = tmp_path_factory.mktemp("auth")
    with Line(auth=write_auth_file(folder / "auth.yaml"), gateway=True) as running:
        for each in ENTRIES:
            answer = requests.post(
                f"{running.url}/servers", json=each, headers=bearer("registrar"), timeout=10
            )
            assert answer.status_code == 201, answer.text
        yield running


def check(case: Any, operation: Operation, url: str) -> None:
    """Sends ``case`` as each role, and as nobody."""
    for role in (*ROLES, None):
        headers = {} if role is None else bearer(role)
        response = case.call_and_validate(base_url=url, checks=CHECKS, timeout=10, headers=headers)
        allowed = operation.needs in (("open", "read", "call") if role else ("open",))
        if not allowed:
            refused = 401 if role is None else 403
            assert response.status_code in (refused, 405, 415), response.text
        if role is not None:
            assert response.status_code != 401, response.text
        assert HIDDEN not in response.text


def checking(operation: Operation) -> Any:
    """A test of one operation: a function for each, since pytest tells tests by their names."""

    @pytest.mark.timeout(60)
    @SCHEMA.include(method=operation.method, path=operation.path).parametrize()
    @settings(
        max_examples=2,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def test(case: Any, line: Line) -> None:
        check(case, operation, line.url)

    return test


globals().update(
    {
        f"test_{operation_id(each)}": checking(each)
        for each in OPERATIONS
        if each.group not in EXCLUDED
    }
)


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if "{" in each.path and each.group != "streams"],
    ids=lambda each: operation_id(each),
)
def test_what_is_hidden_is_answered_as_what_is_not_there(operation: Operation, line: Line) -> None:
    """Except that the answer says back what was asked for."""
    for role in ROLES:
        answers = []
        for word in (HIDDEN, "ghost"):
            values = dict.fromkeys(re.findall(r"{(\w+)}", operation.path), word)
            values |= ASKED | dict.fromkeys(("id", "name", "serverName"), word)
            values |= {"identifier": f"urn:air:local:mcp:{word}", "digest": "0" * 64}
            path = operation.path.format_map(values)
            reply = requests.request(
                operation.method,
                line.url + path,
                json={} if operation.method in ("POST", "PUT", "PATCH") else None,
                headers=bearer(role),
                timeout=10,
            )
            answers.append((reply.status_code, reply.text.replace(word, "WORD")))
        assert answers[0] == answers[1], (role, operation.path)
