"""What comes back from a server: its own errors, whatever their code; answers of any size."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil
import pytest
from mcp.shared.exceptions import MCPError

from mcp_discovery import Discovery
from mcp_discovery.errors import (
    AnswerTooLargeError,
    BadServerError,
    CallLostError,
    ServerRefusedError,
)
from tests.mcp_discovery.client.verbatim import FORMS, VerbatimServer, failed, result, verbatim

#: Every code that JSON-RPC and MCP reserve has neighbours here; the SDK uses -32000 and -32001
#: for what it makes itself.
CODES = (*range(-32099, -31999), *range(-32700, -32599, 9), -32700, -32601, 0, 1, -1, 404, 2**31)
DATA: tuple[Any, ...] = (
    None,
    True,
    0,
    1.5,
    "text",
    "",
    [],
    [1, {"a": None}],
    {},
    {"why": ["x"]},
    2**70,
)


@pytest.fixture(params=[(form, True) for form in FORMS] + [("json", False), ("events", False)])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[VerbatimServer]:
    """A server of each form, and of both eras."""
    form, legacy = request.param
    async with verbatim(form, legacy=legacy) as server:
        yield server


async def error_of(discovery: Discovery, server: VerbatimServer, error: Any) -> MCPError:
    """The error with which a call ends that the server answers with ``error``."""
    server.answer = lambda id: failed(id, json.dumps(error))
    before = len(server.calls)
    with pytest.raises(MCPError) as raised:
        await discovery.call("say", timeout=5)
    # A modern client reads the tools again after -32020 and calls once more, as MCP tells it to.
    again = server.legacy is False and error["code"] == -32020
    assert len(server.calls) - before == 1 + again
    return raised.value


async def test_every_error_of_a_server_arrives(server: VerbatimServer) -> None:
    async with Discovery(server.source()) as discovery:
        for code in CODES:
            said = await error_of(discovery, server, {"code": code, "message": f"no {code}"})
            assert (said.code, said.message, said.data) == (code, f"no {code}", None)
        for data in DATA:
            said = await error_of(
                discovery, server, {"code": -32000, "message": "Connection closed", "data": data}
            )
            assert (said.code, said.message, said.data) == (-32000, "Connection closed", data)
        assert not (await discovery.call("read")).is_error, "no breaker has opened"


@pytest.mark.parametrize(
    ("error", "code", "message", "data"),
    [
        ('{"code": -32001}', -32001, "", None),
        ('{"code": -32001, "message": ""}', -32001, "", None),
        ('{"code": 7, "message": null, "data": 1}', 7, "", 1),
        ('{"code": 7, "message": {"en": "no"}}', 7, '{"en": "no"}', None),
        ('{"code": "-32001", "message": "text"}', -32001, "text", None),
        ('{"code": 7.0, "message": "float"}', 7, "float", None),
        ('{"message": "no code"}', -32603, "no code", None),
        ('"boom"', -32603, "boom", None),
        ('{"code": 7, "message": "half \\ud800"}', 7, "half \ufffd", None),
    ],
)
async def test_irregular_errors_arrive(
    server: VerbatimServer, error: str, code: int, message: str, data: Any
) -> None:
    server.answer = lambda id: failed(id, error)
    async with Discovery(server.source()) as discovery:
        with pytest.raises(MCPError) as raised:
            await discovery.call("say", timeout=5)
    said = raised.value
    assert (said.code, said.message, said.data) == (code, message, data)


@pytest.mark.parametrize("form", ["json", "events"])
@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": "m"}}',
        '{"jsonrpc": "2.0", "id": "other", "error": {"code": -32000, "message": "m"}}',
        '{"error": {"code": -32000, "message": "m"}}',
        '{"jsonrpc": "2.0", "result": null, "id": 1, "error": {"code": -32000, "message": "m"}}',
    ],
)
async def test_an_error_in_the_place_of_the_answer_is_the_answer(form: str, text: str) -> None:
    async with verbatim(form) as server:
        server.answer = lambda _: text.encode()
        async with Discovery(server.source()) as discovery:
            with pytest.raises(MCPError, match=r"^m$") as raised:
                await discovery.call("say", timeout=5)
            assert raised.value.code == -32000


@pytest.mark.parametrize("id", [None, "other", 10**6])
async def test_an_answer_with_a_wrong_id_is_told_as_that(id: Any) -> None:
    async with verbatim("json") as server:
        server.answer = lambda _: result(id, "for another")
        async with Discovery(server.source()) as discovery:
            with pytest.raises(BadServerError, match=f"with the id {json.dumps(id)}"):
                await discovery.call("say", timeout=5)


@pytest.mark.parametrize("form", ["json", "events", "sse"])
async def test_local_ends_are_told_as_what_they_are(form: str) -> None:
    async with verbatim(form) as server, Discovery(server.source(), deadline=0.5) as discovery:
        server.pause = 30
        with pytest.raises(CallLostError, match="no answer within"):
            await discovery.call("read", timeout=1)
        if form != "sse":
            server.answer = lambda _: b'{"jsonrpc": "2.0", "id": 1, "re'
            with pytest.raises(BadServerError, match="breaks its own contract"):
                await discovery.call("say", timeout=2)
        if form == "events":
            server.answer = lambda _: b""
            with pytest.raises(CallLostError, match="the stream ended without an answer"):
                await discovery.call("say", timeout=2)


# -- HTTP statuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "legacy", "raises"),
    [
        (400, False, MCPError),
        (404, False, MCPError),
        (400, True, MCPError),
        (404, True, MCPError),
        (422, True, MCPError),
        (500, True, MCPError),
        (500, False, MCPError),
        (503, True, CallLostError),
        (403, True, ServerRefusedError),
    ],
)
async def test_an_error_with_a_status(status: int, legacy: bool, raises: type[Exception]) -> None:
    async with verbatim("json", legacy=legacy) as server:
        server.status = status
        server.answer = lambda id: failed(id, '{"code": -32001, "message": "so it is"}')
        async with Discovery(server.source()) as discovery:
            with pytest.raises(raises, match="so it is") as raised:
                await discovery.call("say", timeout=5)
        if isinstance(raised.value, MCPError):
            assert raised.value.code == -32001


# -- sizes -------------------------------------------------------------------------------------

MIB = 2**20


def spread(id: Any, size: int, *, id_last: bool = False) -> Iterator[bytes]:
    """The result of a tool with ``size`` bytes of text, in parts."""
    begin, end = (
        (b"", b',"jsonrpc":"2.0","id":%d}') if id_last else (b'"jsonrpc":"2.0","id":%d,', b"}")
    )
    yield (b"{" + begin) % (() if id_last else id)
    yield b'"result":{"resultType":"complete","content":[{"type":"text","text":"'
    for _ in range(size // 2**16):
        yield b"x" * 2**16
    yield b'"}]}' + (end % id if id_last else end)


async def test_a_large_answer_is_taken(server: VerbatimServer) -> None:
    server.answer = lambda id: spread(id, 8 * MIB)
    async with Discovery(server.source()) as discovery:
        said = await discovery.call("say", timeout=30)
        assert len(said.content[0].text) == 8 * MIB  # type: ignore[union-attr]


@pytest.mark.parametrize("id_last", [False, True])
async def test_one_over_the_limit_ends_its_call_alone(
    server: VerbatimServer, id_last: bool
) -> None:
    server.answer = lambda id: spread(id, 5 * MIB, id_last=id_last)
    async with Discovery(server.source(), max_answer_bytes=2 * MIB) as discovery:
        assert not (await discovery.call("read")).is_error
        server.pause = 1.0
        other = asyncio.create_task(discovery.call("read"))
        await asyncio.sleep(0.1)
        if server.form == "websocket":  # which ends with it, and the read is made again
            with pytest.raises(CallLostError, match="an answer ended it: the answer is over 2 MiB"):
                await discovery.call("say", timeout=10)
        else:
            with pytest.raises(AnswerTooLargeError, match=r"over 2 MiB; .*max_answer_bytes"):
                await discovery.call("say", timeout=10)
        assert not (await other).is_error
        assert server.calls.count("say") == 1
        assert server.calls.count("read") == 2 + (server.form == "websocket")
        server.pause = 0.0
        server.answer = lambda id: result(id, "small")
        assert not (await discovery.call("say")).is_error


async def test_the_limit_holds_for_what_is_unpacked() -> None:
    async with verbatim("json") as server:
        server.encoding = "gzip"
        server.answer = lambda id: gzip.compress(b"".join(spread(id, 5 * MIB)))
        async with Discovery(server.source(), max_answer_bytes=2 * MIB) as discovery:
            with pytest.raises(AnswerTooLargeError):
                await discovery.call("say")
        async with Discovery(server.source()) as discovery:
            assert not (await discovery.call("say")).is_error


@pytest.mark.parametrize("form", ["json", "events", "sse"])
@pytest.mark.parametrize("id_last", [False, True])
async def test_an_endless_answer_takes_no_memory(form: str, id_last: bool) -> None:
    def endless(id: Any) -> Iterator[bytes]:
        return spread(id, 2**50, id_last=id_last)

    async with verbatim(form) as server:
        server.answer = endless
        async with Discovery(server.source(), max_answer_bytes=2 * MIB) as discovery:
            await discovery.call("read")
            before = psutil.Process().memory_info().rss
            with pytest.raises(AnswerTooLargeError):
                await discovery.call("say", timeout=10)
            assert psutil.Process().memory_info().rss - before < 40 * MIB


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, '{"code": -32001, "message": "Session not found"}'),
        (404, '{"code": -32600, "message": "Session terminated"}'),
        (400, '{"code": -32000, "message": "Bad Request: No valid session ID provided"}'),
    ],
)
async def test_a_session_that_a_server_lost_is_opened_anew(status: int, error: str) -> None:
    async with verbatim("json") as server, Discovery(server.source()) as discovery:

        def answer(id: Any) -> bytes:
            first = server.calls.count("say") == 1
            server.status = status if first else 200
            return failed(id, error) if first else result(id, "said")

        server.answer = answer
        assert not (await discovery.call("say")).is_error
        assert server.calls.count("say") == 2
