"""What a body holds as servers may read it: which batches pass, and which calls are in them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from mcp_discovery.facade.gateway.messages import MOST_MESSAGES, NOT_SEEN, Messages
from mcp_discovery.facade.http.problems import ProblemError
from tests.facade.access.tokens import bearer, guarded
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import Client, Reply, leased

PATH = "/gateway/gate/mcp"
JSON = {"Content-Type": "application/json"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def a_call(tool: str, id: int = 1, **arguments: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def tools(body: bytes, *, whole: bool = True) -> list[str]:
    request = make_mocked_request("POST", PATH, headers=JSON)
    return [each.tool for each in Messages.of(request, body, whole=whole).calls]


def kind_of(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json["error"]["data"]["type"].rpartition(":")[2]


# -- which tool ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"method":"tools/call","params":{"name":"sum"}}', ["sum"]),
        (b'{"params":{"name":"s\\u0075m"},"method":"tools\\/call"}', ["sum"]),
        (b'{"method":"tools/list"}', []),
        (b'{"id":3,"result":{"text":"tools/call"}}', []),
        (b"", []),
        # A member twice, in other letters, or of another kind: some server reads another tool.
        (b'{"method":"tools/call","params":{"name":"wipe","name":"sum"}}', [""]),
        (b'{"method":"tools/call","params":{"name":"wipe"},"params":{"name":"sum"}}', [""]),
        (b'{"method":"tools/call","params":{"NAME":"wipe","name":"sum"}}', [""]),
        (b'{"method":"tools/call","Params":{"name":"wipe"},"params":{"name":"sum"}}', [""]),
        ('{"method":"tools/call","param\u017f":{},"params":{"name":"sum"}}'.encode(), [""]),
        (b'{"method":"tools/call","params":{"name":"sum","arguments":{"a":1,"a":2}}}', [""]),
        (b'{"method":"tools/call","params":{"name":"sum","Arguments":{"a":1}}}', [""]),
        (b'{"method":"ping","method":"tools/call"}', [""]),
        (b'{"method":"Tools/Call\\u0000","params":{"name":"sum"}}', [""]),
        (b'{"method":["tools/call"],"params":{"name":"sum"}}', [""]),
        (b'{"method":"tools/call","params":["sum"]}', [""]),
        (b'{"method":"tools/call","params":{"name":["sum"]}}', [""]),
        # What is none as JSON is read here.
        (b'{"method":"ping"} {"method":"tools/call","params":{"name":"sum"}}', [""]),
        (json.dumps(a_call("sum")).encode("utf-16-le"), [""]),
        (b'{"method":"ping","id":Infinity}', [""]),
        (b'{"a":' + b"[" * 30_000, [""]),
        # Asked of each message of a batch.
        (
            b'[{"method":"tools/call","params":{"name":"sum"}},{"METHOD":"tools/call"},'
            b'{"method":"ping"},{"method":"tools/call","params":{"name":"a","name":"b"}}]',
            ["sum", "", ""],
        ),
    ],
)
def test_the_tool_is_known_or_it_is_empty(body: bytes, found: list[str]) -> None:
    assert tools(body) == found


def test_of_a_body_that_is_not_read_whole_no_tool_is_known() -> None:
    decoy = b'{"meta":{"params":{"name":"sum"}},"note":"'
    request = make_mocked_request("POST", PATH, headers={**JSON, "Mcp-Name": "sum"})
    messages = Messages.of(request, decoy, whole=False)
    assert [(each.tool, each.arguments) for each in messages.calls] == [("", NOT_SEEN)]
    assert not messages.whole


@pytest.mark.parametrize(
    "body",
    [b'[{"method":"ping"},', b"\n \t[", b"\xef\xbb\xbf[", b"\0[\0{", b" " * 70_000],
)
def test_a_batch_that_is_not_read_whole_is_refused(body: bytes) -> None:
    with pytest.raises(ProblemError) as error:
        tools(body, whole=False)
    assert error.value.status == 413
    assert "one by one" in error.value.detail


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([a_call("sum")]).encode("utf-16"),
        b"\xef\xbb\xbf[]",
        b"[[" + json.dumps(a_call("sum")).encode() + b"]]",
        b'["tools/call"]',
        b"[{},]",
    ],
)
def test_a_batch_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(ProblemError) as error:
        tools(body)
    assert error.value.status == 400


# -- at the gateway --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gate", "nobody"])
async def test_batches_are_bounded_for_everybody(
    name: str, gate: Client, server: FaultyServer
) -> None:
    path = f"/gateway/{name}/mcp"
    large: list[dict[str, Any]] = [a_call("a", text="x" * 90_000)] * 2
    for body in ([PING] * (MOST_MESSAGES + 1), [{"a": 1}] * 5000, large):
        reply = await gate("POST", path, body)
        assert kind_of(reply) == (413, "batch-too-large"), reply.body
        assert reply.json["error"]["data"]["detail"]
    assert server.requests == []
    whole = [PING] * MOST_MESSAGES
    assert (await gate("POST", PATH, whole)).json == whole
    assert len(server.requests) == 1


async def test_a_body_that_is_encoded_is_refused(gate: Client, server: FaultyServer) -> None:
    packed = gzip.compress(json.dumps([PING] * 5000).encode())
    reply = await gate("POST", PATH, packed, headers={**JSON, "Content-Encoding": "gzip"})
    assert kind_of(reply) == (415, "unknown-encoding")
    strange = {"Content-Type": "application/json; charset=utf-7"}
    reply = await gate("POST", PATH, b"+AFs-1+AF0-", headers=strange)
    assert kind_of(reply) == (415, "unknown-encoding")
    fine = {"Content-Type": "application/json; charset=UTF-8", "Content-Encoding": "identity"}
    assert (await gate("POST", PATH, json.dumps(PING).encode(), headers=fine)).status == 200
    assert len(server.requests) == 1


async def test_each_call_of_a_batch_counts(tmp_path: Path) -> None:
    limits = {"limits": {"roles": {"operator": {"calls": "10/minute"}}}}

    async with faulty() as server, guarded(tmp_path, limits, gateway=True) as ask:
        operator = bearer("operator")
        listed = leased("a", name="gate", url=server.url)
        assert (await ask("POST", "/servers", listed, headers=operator)).status == 201
        batch = [a_call("sum", id) for id in range(4)]
        first = await ask("POST", PATH, [*batch, PING], headers=operator)
        assert first.status == 200
        assert "r=6" in first.headers["RateLimit"]
        # Nothing of what goes nowhere counts but the request.
        assert (await ask("POST", "/gateway/nobody/mcp", batch, headers=operator)).status == 404
        assert "r=1" in (await ask("POST", PATH, batch, headers=operator)).headers["RateLimit"]
        refused = await ask("POST", PATH, batch, headers=operator)
        assert kind_of(refused) == (429, "quota-exceeded")
        assert len(server.requests) == 2
