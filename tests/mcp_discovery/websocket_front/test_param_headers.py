"""Arguments that stand in headers besides, by the lists of tools that pass."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from multidict import CIMultiDict

from mcp_discovery.mcp_messages import JsonRpcError
from mcp_discovery.param_headers import ParamHeaders


def listing(schema: object, name: object = "t") -> bytes:
    tools = [{"name": name, "inputSchema": schema}]
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}})


def objects(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def marked(header: object) -> dict[str, Any]:
    return {"type": "string", "x-mcp-header": header}


async def test_what_a_call_repeats() -> None:
    known = ParamHeaders()
    nested = objects(inner=objects(deep=marked("Deep")))
    await known.learn(
        listing(objects(a=marked("A"), b=marked("B"), c=marked("C"), n=nested, d=marked("D")))
    )
    arguments = {"a": "plain", "b": True, "c": 1.5, "n": {"inner": {"deep": " blank "}}, "d": None}
    assert known.of({"name": "t", "arguments": arguments}) == {
        "Mcp-Param-A": "plain",
        "Mcp-Param-B": "true",
        "Mcp-Param-C": "1.5",
        "Mcp-Param-Deep": "=?base64?IGJsYW5rIA==?=",
    }
    for params in ({}, {"name": "other"}, {"name": ["t"]}, {"name": "t", "arguments": []}):
        assert known.of(params) == {}


async def test_what_a_call_must_repeat() -> None:
    known = ParamHeaders()
    await known.learn_tools([{"name": "t", "inputSchema": objects(a=marked("A"))}])
    call = {"name": "t", "arguments": {"a": " x"}}
    for header in ("=?base64?IHg=?=", " x"):
        known.check(CIMultiDict({"mcp-param-a": header}), call)
    known.check(CIMultiDict(), {"name": "t", "arguments": {"a": None}})
    known.check(CIMultiDict({"Mcp-Param-A": "x"}), {"name": "other", "arguments": {"a": "y"}})
    for headers, arguments in (
        ([], {"a": "x"}),
        ([("Mcp-Param-A", "y")], {"a": "x"}),
        ([("Mcp-Param-A", "x"), ("Mcp-Param-A", "x")], {"a": "x"}),
        ([("Mcp-Param-A", "x")], {}),
    ):
        with pytest.raises(JsonRpcError, match="Mcp-Param-A is not the argument of t"):
            known.check(CIMultiDict(headers), {"name": "t", "arguments": arguments})


@pytest.mark.parametrize(
    "message",
    [
        listing(objects(a=marked("not a token"))),
        listing(objects(a=marked("")), "t"),
        listing(objects(a=marked(["A"]))),
        listing({"properties": [marked("A")]}),
        listing(objects(a=marked("A")), ["t"]),
        b'{"x-mcp-header": 1',
        b'{"result": ["x-mcp-header"]}',
    ],
)
async def test_lists_that_say_nothing_of_use(message: bytes) -> None:
    known = ParamHeaders()
    await known.learn(message)
    assert known.of({"name": "t", "arguments": {"a": "x"}}) == {}
