"""The text index: what is found, in which order, and that nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.query.search import TextIndex, words
from mcp_discovery.record import Record
from tests.records import document, record


def test_words() -> None:
    assert words("readFile read_file READ-FILE") == ["read", "file"] * 3
    assert words("Größe ﬁle 商品 v2.1") == ["grösse", "file", "商品", "v2", "1"]
    assert words("… !") == []


def test_where_a_word_stands_decides() -> None:
    index = TextIndex()
    plain: dict[str, Any] = {"name": "some", "description": "", "tags": []}
    texts: dict[str, dict[str, Any]] = {
        "name": {"name": "orders-api"},
        "title": {"title": "All orders"},
        "tag": {"tags": ["orders"]},
        "tool": {"capabilities": {"tools": ["list_orders"]}},
        "beginning": {"title": "Ordersheet"},
        "description": {"description": "Keeps orders"},
        "nothing": {"description": "Keeps order"},
    }
    for id, fields in texts.items():
        index.put(record(id, **(plain | fields)))
    scores = index.search(["orders"])
    assert sorted(scores, key=lambda id: -scores[id]) == [*texts][:-1]
    assert index.search(["orders", "keeps"]).keys() == {"description"}
    assert index.search(["nowhere"]) == {}
    assert index.search([]) == {}


def test_descriptions_of_tools_count_once_they_are_known() -> None:
    index = TextIndex()
    text = CapabilityDocument(tools=({"name": "t", "description": "Keeps invoices"}, {"name": 3}))
    index.put(record("a", capabilities={"tools": ["t"], "digest": text.digest}))
    index.put(record("b", description="invoices"))
    assert index.search(["invoices"]).keys() == {"b"}
    assert index.undescribed() == [text.digest]
    before = index.search(["invoices"])["b"]
    index.describe(text.digest, text)
    assert index.undescribed() == []
    found = index.search(["invoices"])
    assert found["b"] == before > found["a"] > 0  # what was found keeps its place
    index.remove("a")
    assert index.search(["invoices"]).keys() == {"b"}
    index.describe(text.digest, text)  # nobody has it any more
    index.put(record("a", capabilities={"tools": ["t"], "digest": text.digest}))
    assert index.undescribed() == [text.digest]
    index.describe(text.digest, None)  # it is lost
    assert index.undescribed() == []


def test_an_endless_document_is_read_in_part() -> None:
    index = TextIndex()
    text = document("big", filler=300_000)
    index.put(record("a", capabilities={"tools": ["big"], "digest": text.digest}))
    index.describe(text.digest, text)
    assert index.search(["does"]) == {"a": 1}


VOCABULARY = ("order", "orders", "stock", "or")
records = st.builds(
    lambda id, name, tags, text: record(id, name=name, tags=sorted(tags), description=text),
    st.sampled_from("abcd"),
    st.sampled_from(VOCABULARY),
    st.sets(st.sampled_from(VOCABULARY), max_size=2),
    st.lists(st.sampled_from(VOCABULARY), max_size=2).map(" ".join),
)


@pytest.mark.parametrize("sought", [["or"], ["orders"], ["stock", "order"]])
@settings(deadline=None)
@given(changes=st.lists(records | st.sampled_from("abcd"), max_size=20))
def test_any_sequence_leaves_what_a_new_index_has(
    sought: list[str], changes: list[Record | str]
) -> None:
    index, known = TextIndex(), dict[str, Record]()
    for change in changes:
        if isinstance(change, str):
            known.pop(change, None)
            index.remove(change)
        else:
            known[change.id] = change
            index.put(change)
    fresh = TextIndex()
    for one in known.values():
        fresh.put(one)
    assert index.search(sought) == fresh.search(sought)
    assert sorted(index.ids) == sorted(known)
    for id in known:
        index.remove(id)
    assert not index._texts._having
    assert not index._texts._words
