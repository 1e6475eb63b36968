"""Targets: what readers of a facade ask."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import strategies as st
from yarl import URL

from mcp_discovery.errors import OutdatedRevisionError
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers.filters import parse
from mcp_discovery.facade.servers.list_json import read_position
from mcp_discovery.facade.servers.paging import BY_NAME, Cursor, Sort
from mcp_discovery.facade.servers.query import read_query
from mcp_discovery.facade.websocket.messages import InvalidMessageError
from mcp_discovery.facade.websocket.messages import parse as parse_message
from mcp_discovery.health import utcnow
from tests.faults.fuzz.corpus import json_like, text_like
from tests.faults.fuzz.target import Target

_CURSOR = Cursor("question", utcnow(), "name", "id", 10).encode()


def _request(data: bytes) -> web.Request:
    text = data.decode("latin-1").replace("#", "%23")
    request = make_mocked_request("GET", "/servers")
    url = URL.build(
        path="/servers", query_string=text.replace("\n", "").replace("\r", ""), encoded=True
    )
    return request.clone(rel_url=url)


def _query(data: bytes) -> None:
    found = parse(_request(data))
    found.failed  # noqa: B018
    assert parse(_request(data)) == found


def _asked(data: bytes) -> None:
    read_query(_request(data))


def _cursor(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for sort in (BY_NAME, Sort("version"), Sort("load"), replace(BY_NAME, descending=True)):
        try:
            Cursor.decode(text, sort, "question")
        except ProblemError:
            continue


def _signed(data: bytes) -> None:
    import base64

    _cursor(base64.urlsafe_b64encode(data).rstrip(b"="))


_PARAMETERS = [
    *("tags", "match", "capability", "tool", "status", "name", "version", "transport", "zone"),
    *("owner", "min_uptime", "q", "fields", "sort", "limit", "cursor", "explain", "wait", "index"),
]
_VALUES = [
    *(
        "",
        "a",
        "%00",
        "%ff%fe",
        "%ed%a0%80",
        "1" * 400,
        "-1",
        "1e9",
        "a,b,,",
        "all",
        "healthy",
        "10m",
    ),
    *(">=1.2,<2", "1 - x - 2", "a - b", "\u0661", "%D9%A1", "[", "-name", "relevance", "true", "%"),
    *("a:1", "a:" + "9" * 30, "%E2%80%AE", "<script>", "'\"", "%25", "+", "x" * 3000),
]
_QUERIES = st.lists(
    st.tuples(
        st.sampled_from(_PARAMETERS), st.one_of(st.sampled_from(_VALUES), st.text(max_size=8))
    ),
    max_size=5,
).map(lambda pairs: "&".join(f"{k}={v}" for k, v in pairs).encode("utf-8", "surrogatepass"))

TARGETS = (
    Target("query", _query, (ProblemError,), st.one_of(_QUERIES, st.binary(max_size=40))),
    Target("question", _asked, (ProblemError,), _QUERIES),
    Target("cursor", _cursor, (), text_like(_CURSOR, "", "bnVsbA")),
    Target("signed-cursor", _signed, (), json_like([1, "question", 1, "name", "id", 10])),
    Target(
        "position",
        lambda data: read_position(data.decode("utf-8", "surrogateescape")),
        (OutdatedRevisionError,),
        text_like("0a1b2c:17", "a:", ":1", "a:٣"),
    ),
    Target(
        "websocket-message",
        parse_message,
        (InvalidMessageError,),
        json_like(
            {"action": "subscribe", "events": ["health-check"], "tags": ["a"], "match": "all"},
            {"action": "subscribe", "ids": ["a"], "capabilities": [], "resume": "a:1"},
            {"action": "unsubscribe", "events": None},
        ),
    ),
)
