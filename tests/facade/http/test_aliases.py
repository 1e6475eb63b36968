"""The platform's paths are the plain ones."""

from __future__ import annotations

import pytest

from mcp_discovery.facade.app import OPERATIONS
from mcp_discovery.facade.http.operation import PREFIX
from tests.facade.harness import Client, leased
from tests.records import tool


def test_every_operation_on_servers_and_tools_has_its_alias_with_the_same_handler() -> None:
    known = {(each.method, each.path): each for each in OPERATIONS}
    aliases = [each for each in OPERATIONS if each.group == "platform"]
    assert {each.path for each in aliases} >= {
        f"{PREFIX}/servers",
        f"{PREFIX}/servers/{{id}}",
        f"{PREFIX}/tools",
        f"{PREFIX}/tools/{{name}}",
    }
    for each in aliases:
        plain = known[each.method, each.path.removeprefix(PREFIX)]
        assert each.handler is plain.handler
        assert each.parameters == plain.parameters


@pytest.mark.parametrize(
    "path",
    [
        "/servers?tags=stock",
        "/servers/a",
        "/servers/a/capabilities",
        "/tools",
        "/tools/find?tags=stock",
    ],
)
async def test_answers_are_those_of_the_plain_paths(ask: Client, path: str) -> None:
    await ask("POST", "/servers", leased("a", tags=["stock"], document={"tools": [tool("find")]}))
    plain = await ask("GET", path)
    alias = await ask("GET", PREFIX + path)
    assert alias.status == plain.status == 200
    assert alias.headers["ETag"] == plain.headers["ETag"]
    assert alias.json.keys() == plain.json.keys()


async def test_errors_name_the_path_that_was_asked_for(ask: Client) -> None:
    reply = await ask("GET", f"{PREFIX}/servers/nobody")
    assert (reply.status, reply.json["instance"]) == (404, f"{PREFIX}/servers/nobody")
    reply = await ask("GET", f"{PREFIX}/tools?taggs=x")
    assert (reply.status, reply.json["nearest"]) == (400, "tags")


async def test_what_is_posted_there_is_listed_everywhere(ask: Client) -> None:
    assert (await ask("POST", f"{PREFIX}/servers", leased("a"))).status == 201
    assert (await ask("GET", "/servers")).ids == ["a"]
    assert (await ask("DELETE", f"{PREFIX}/servers/a")).status == 204
