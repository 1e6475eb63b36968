"""Targets: records, documents and what else is read in every store and on every way."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
from hypothesis import strategies as st

from mcp_discovery.adapters.etcd.keys import LiveValue
from mcp_discovery.adapters.etcd.watch import LineSplitter, LineTooLongError
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidDocumentError, InvalidRecordError
from mcp_discovery.health import healthy
from mcp_discovery.instance import (
    Holder,
    Instance,
    Lease,
    decode_registration,
    encode_registration,
    instance_from_dict,
    instance_to_dict,
)
from mcp_discovery.probe.errors import ProbeError
from mcp_discovery.probe.event_stream import EventReader
from mcp_discovery.probe.introspection import LISTINGS, read_page
from mcp_discovery.probe.messages import answer_in, parse, strings
from mcp_discovery.query.corpus import Corpus
from mcp_discovery.query.index import SearchIndex
from mcp_discovery.query.question import Question
from mcp_discovery.query.search_fields import TOOL_FIELDS, weights
from mcp_discovery.query.versions import VersionRange
from mcp_discovery.record import Record
from tests.faults.fuzz.corpus import json_like, text_like
from tests.faults.fuzz.target import Target
from tests.records import document, record

_LEASE = Lease(Holder("holder", "host", "sidecar"), 30, 60)
_RECORD = record(
    metadata={"a": "b"},
    icons=[{"src": "http://127.0.0.1/icon"}],
    capabilities={"tools": ["a", "b"], "digest": "0" * 64},
    protocol={"versions": ["2025-11-25"], "era": "legacy", "serverInfo": {"name": "x"}},
    auth={"type": "oauth2", "tokenEndpoint": "http://127.0.0.1/token", "scopes": ["a"]},
    startedAt="2026-01-01T00:00:00Z",
)
#: Registrations, as stores keep them.
REGISTRATIONS: tuple[Any, ...] = (
    orjson.loads(encode_registration(_RECORD, _LEASE)),
    {
        "name": "tool",
        "endpoint": {"transport": "stdio", "command": "serve", "args": ["--port", "1"]},
        "lease": _LEASE.to_dict(),
    },
)
#: An entry of a list, as facades serve it.
ENTRY: dict[str, Any] = orjson.loads(
    orjson.dumps(instance_to_dict(Instance(_RECORD, healthy(), _LEASE)))
)
#: What etcd keeps of an instance's health.
LIVE = orjson.loads(LiveValue(healthy(), None, "holder", "name").encode())
_DOCUMENT = orjson.loads(document("search", "buy").canonical)


def _shown(instance: Instance) -> None:
    """Does with an instance what a facade does with it."""
    entry = Entry(instance)
    View("epoch").with_entry(instance.id, entry).with_entry(instance.id, None)
    orjson.loads(entry.json(instance.health.since))
    index = SearchIndex(Corpus())
    index.put(instance.record)
    for _ in index.work():
        pass
    index.servers(Question("a"))


def _registration(data: bytes) -> None:
    made, lease = decode_registration(data)
    _shown(Instance(made, healthy(), lease))
    again, _ = decode_registration(encode_registration(made, lease))
    assert again == made


def _record(data: bytes) -> None:
    Record.from_json(data).to_dict()


def _entry(data: bytes) -> None:
    content = orjson.loads(data)
    if isinstance(content, dict):
        _shown(instance_from_dict(content))


def _capability_document(data: bytes) -> None:
    found = CapabilityDocument.from_json(data)
    found.names()
    assert CapabilityDocument.from_json(found.canonical, digest=found.digest) == found
    for tool in found.tools:
        weights(TOOL_FIELDS, tool)


def _unpacked(data: bytes) -> None:
    whole = gzip.compress(data, compresslevel=1)
    CapabilityDocument.from_compressed(data if data.startswith(b"\x1f") else whole)
    CapabilityDocument.from_compressed(whole[: len(data) % len(whole)])


def _events(data: bytes) -> None:
    reader = EventReader(10_000)
    step = 1 + data[0] % 7 if data else 1
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    reader.finish()


def _lines(data: bytes) -> None:
    lines = LineSplitter(10_000)
    step = 1 + data[0] % 7 if data else 1
    found = [line for at in range(0, len(data), step) for line in lines.feed(data[at : at + step])]
    assert found == [line for line in data.split(b"\n")[:-1] if line.strip()]


def _answer(data: bytes) -> None:
    """An MCP server's answer, as an introspection reads it."""
    message = answer_in(parse(data), 1).message
    if message is not None:
        for listing in LISTINGS:
            read_page(message, listing)
        strings(message.get("result"))


def _range(data: bytes) -> None:
    wanted = VersionRange.parse(data.decode("utf-8", "replace"))
    for version in ("0.0.0", "1.2.3-rc.1+build", "999999999999999999999.0.0"):
        assert (version in wanted) in (True, False)


def _words(data: bytes) -> None:
    text = data.decode("utf-8", "replace") * 200
    _ = Question(text).words


_EVENT = "id: a:1\nevent: change\ndata: {}\n\n: ping\r\n\r\ndata\rdata: b\n\n"
_PAGE = {"tools": [{"name": "a", "inputSchema": {}}], "nextCursor": "1"}

TARGETS = (
    Target("registration", _registration, (InvalidRecordError,), json_like(*REGISTRATIONS)),
    Target("record", _record, (InvalidRecordError,), json_like(*REGISTRATIONS)),
    Target("entry", _entry, (ValueError,), json_like(ENTRY)),
    Target("document", _capability_document, (InvalidDocumentError,), json_like(_DOCUMENT)),
    Target("gzip", _unpacked, (InvalidDocumentError,), text_like("\x1f")),
    Target("live", lambda data: LiveValue.decode(data), (ValueError,), json_like(LIVE)),
    Target(
        "event-stream",
        _events,
        (ProbeError,),
        st.one_of(
            text_like(_EVENT),
            st.lists(
                st.sampled_from(
                    [
                        b"data:",
                        b"data: x",
                        b"\n",
                        b"\r",
                        b"id:",
                        b"\0",
                        b"event: ",
                        b":",
                        b"\xef\xbb\xbf",
                    ]
                ),
                max_size=40,
            ).map(b"".join),
        ),
    ),
    Target("lines", _lines, (LineTooLongError,), text_like('{"a":1}\n{}\n', "\n\n")),
    Target(
        "mcp-answer",
        _answer,
        (ProbeError,),
        json_like(
            {"jsonrpc": "2.0", "id": "1", "result": _PAGE},
            {"jsonrpc": "2.0", "id": "1", "error": {"code": -32601, "message": "no"}},
        ),
    ),
    Target(
        "version-range", _range, (ValueError,), text_like(">=1.2,<2", "1.x || ^2.0.0-rc.1", "1 - 2")
    ),
    Target("words", _words, (), text_like("readFile read_file", "e\u0301\u0316", "ﷺ")),
)
