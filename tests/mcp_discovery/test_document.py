"""The capability document: addressed by content, bounded, never believed unread."""

from __future__ import annotations

import gzip

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_discovery.document import MAX_DOCUMENT_BYTES, CapabilityDocument, is_digest
from mcp_discovery.errors import InvalidDocumentError
from tests.records import document

json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
items = st.lists(st.dictionaries(st.text(), json, max_size=4), max_size=4).map(tuple)


@given(st.builds(CapabilityDocument, items, items, items, items))
def test_it_round_trips_with_its_digest(made: CapabilityDocument) -> None:
    assert CapabilityDocument.from_json(made.canonical, digest=made.digest) == made
    assert CapabilityDocument.from_compressed(made.compressed(), digest=made.digest) == made
    assert is_digest(made.digest)


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    one = CapabilityDocument(tools=({"name": "a", "description": "ü"},))
    two = CapabilityDocument(tools=({"description": "ü", "name": "a"},))
    assert one.digest == two.digest
    assert document("a", "b").digest != document("b", "a").digest
    assert one.compressed() == two.compressed()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"tools": {}}', b'{"tools": [1]}', b"[" * 100_000]
)
def test_what_is_no_document(data: bytes) -> None:
    with pytest.raises(InvalidDocumentError):
        CapabilityDocument.from_json(data)
    with pytest.raises(InvalidDocumentError):
        CapabilityDocument.from_compressed(gzip.compress(data))


def test_another_digest() -> None:
    with pytest.raises(InvalidDocumentError, match="digest is"):
        CapabilityDocument.from_json(document("a").canonical, digest="0" * 64)


@pytest.mark.parametrize("data", [b"no gzip", document("a").compressed()[:-4]])
def test_broken_compression(data: bytes) -> None:
    with pytest.raises(InvalidDocumentError):
        CapabilityDocument.from_compressed(data)


def test_a_bomb_is_stopped_at_the_limit() -> None:
    with pytest.raises(InvalidDocumentError, match="over the limit"):
        CapabilityDocument.from_compressed(gzip.compress(b" " * (MAX_DOCUMENT_BYTES * 4)))
    with pytest.raises(InvalidDocumentError, match="over the limit"):
        _ = document("a", filler=MAX_DOCUMENT_BYTES).canonical


def test_what_json_cannot_hold() -> None:
    with pytest.raises(InvalidDocumentError, match="not JSON"):
        _ = CapabilityDocument(tools=({"name": "\ud800"},)).digest


def test_names_of_resources_and_templates_in_order() -> None:
    made = CapabilityDocument.from_json(
        orjson.dumps(
            {
                "tools": [{"name": "b"}, {"name": "a"}, {"name": "b"}, {"title": "nameless"}],
                "resources": [{"name": "r", "uri": "x://r"}],
                "resourceTemplates": [{"name": "t", "uriTemplate": "x://{t}"}],
                "prompts": [{"name": "p"}],
                "skills": [
                    {"uri": "skill://a/s/SKILL.md", "frontmatter": {"name": "s"}},
                    {"uri": "skill://b/s/SKILL.md", "frontmatter": {"name": "s"}},
                    {"id": "forecast", "name": "Forecast"},
                    {"uri": "skill://nameless/SKILL.md", "frontmatter": "none"},
                ],
            }
        )
    )
    assert made.names() == {
        "tools": ["b", "a"],
        "resources": ["r", "t"],
        "prompts": ["p"],
        "skills": ["s", "Forecast"],
    }


def test_documents_without_skills_are_as_they_were() -> None:
    plain = CapabilityDocument(tools=({"name": "a"},))
    assert plain.canonical == (
        b'{"prompts":[],"resourceTemplates":[],"resources":[],"tools":[{"name":"a"}]}'
    )
    skill = {"uri": "skill://a/SKILL.md", "frontmatter": {"name": "a"}, "resources": "dynamic"}
    made = CapabilityDocument(tools=plain.tools, skills=(skill,))
    assert made.digest != plain.digest
    assert CapabilityDocument.from_json(made.canonical, digest=made.digest).skills == (skill,)
    with pytest.raises(InvalidDocumentError, match="skills is not a list of objects"):
        CapabilityDocument.from_json(b'{"skills": ["a"]}')
