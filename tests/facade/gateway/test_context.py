"""The context of a trace in a message that the gateway passes on: only its own bytes change."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_discovery.facade.gateway.spans import with_context

_OLD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_NEW = "00-0af7651916cd43dd8448eb211c80319c-1111111111111111-00"
_CONTEXT = {"traceparent": _NEW, "tracestate": "a=1"}


def test_a_parent_in_the_message_is_replaced_byte_by_byte() -> None:
    body = (
        '{ "jsonrpc":"2.0",  "method":"tools/call","id":1.0,"params":{"_meta":'
        f'{{"progressToken":1e2,"traceparent" : "{_OLD}"}},"name":"\\u0061dd" }} }}\n'
    ).encode()
    assert with_context(body, _CONTEXT) == body.replace(_OLD.encode(), _NEW.encode())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '{"method":"ping","params": {} }',
            '{"method":"ping","params": {"_meta":CONTEXT} }',
        ),
        (
            '{"params":{ "name":"a"},"method":"tools/call"}',
            '{"params":{"_meta":CONTEXT, "name":"a"},"method":"tools/call"}',
        ),
        (
            '{"params":{"name":"a","_meta":{"x":1}}}',
            '{"params":{"name":"a","_meta":{CONTEXT_,"x":1}}}',
        ),
        ('{"params":{"_meta":{}}}', '{"params":{"_meta":CONTEXT}}'),
    ],
)
def test_a_message_without_one_is_given_it(before: str, after: str) -> None:
    whole = json.dumps(_CONTEXT, separators=(",", ":"))
    after = after.replace("CONTEXT_", whole[1:-1]).replace("CONTEXT", whole)
    assert with_context(before.encode(), _CONTEXT).decode() == after


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"method":"ping"}',  # no parameters
        b'{"params":[1]}',
        b'{"params":{"_meta":7}}',
        b'{"params":{"_meta":{"traceparent":"mine"}}}',
        b'{"params":{"_meta":{"traceparent":7}}}',
        # Bytes that look the same elsewhere: which of them is meant cannot be seen.
        b'{"params":{"arguments":{"params":{"a":1}}}}',
        b'{"params":{"a":1},"params":{"b":1}}',
        b'{"p\\u0061rams":{"arguments":{"params":{"a":1}}}}',
        f'{{"params":{{"_meta":{{"traceparent":"{_OLD}"}},"text":"{_OLD}"}}}}'.encode(),
    ],
)
def test_what_is_not_sure_stays_as_it_is(body: bytes) -> None:
    assert with_context(body, _CONTEXT) == body


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["params", "_meta", "traceparent", "a"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(_JSON, st.sampled_from([None, 1]))
def test_no_other_member_changes(params: object, indent: int | None) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    body = json.dumps(message, indent=indent).encode()
    found = json.loads(with_context(body, _CONTEXT))
    if found != message:
        assert isinstance(params, dict)
        meta = found["params"]["_meta"]
        for name in _CONTEXT:
            assert meta.pop(name) == _CONTEXT[name]
        assert meta == params.get("_meta", {})
        assert {**found["params"], "_meta": 0} == {**params, "_meta": 0}
