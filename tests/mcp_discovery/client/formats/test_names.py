"""Names: accepted by each API, one for each tool, the same in any order, found again."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_discovery.client.formats import Format, export
from mcp_discovery.errors import UnknownToolError
from tests.mcp_discovery.client.formats.schemas import tool

RULES: dict[Format, str] = {
    "openai": r"[a-zA-Z0-9_-]{1,64}",
    "anthropic": r"[a-zA-Z0-9_-]{1,64}",
    "gemini": r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}",
}
#: Names that meet each other when they are made fit, and names that try to.
_TRICKY = st.sampled_from(
    ("a.b", "a__b", "a/b", "a b", "a_b", "1", "_1", "ä", "ö", "", "a" * 70, "a" * 71, "a.b.c")
)
_NAMES = st.lists(_TRICKY | st.text(max_size=80), unique=True, max_size=12)


@pytest.mark.parametrize("format", RULES)
@given(names=_NAMES, seed=st.integers())
def test_each_tool_has_one_fit_name_whatever_the_order(
    format: Format, names: list[str], seed: int
) -> None:
    tools = [tool({"type": "object"}, name) for name in names]
    exported = export(tools, format)
    assert len(exported.names) == len(tools)
    assert all(re.fullmatch(RULES[format], name) for name in exported.names)
    assert [each.name for each in exported.names.values()] == names
    random.Random(seed).shuffle(tools)
    assert dict(export(tools, format).names) == dict(exported.names)


def test_a_fit_name_stays_and_others_say_how_they_are_seen() -> None:
    names = ("search_products", "shop.search", "shop__search", "x" * 100, "prüfen")
    exported = export([tool({}, name) for name in names], "openai")
    seen = {each.name: name for name, each in exported.names.items()}
    assert seen["search_products"] == "search_products"
    assert seen["shop__search"] == "shop__search"
    assert re.fullmatch(r"shop__search_[0-9a-f]{8}", seen["shop.search"])
    assert re.fullmatch(r"x{55}_[0-9a-f]{8}", seen["x" * 100])
    assert seen["prüfen"] == "pr_fen"
    said = {note.tool: note.said for note in exported.notes if note.path == "name"}
    assert said["prüfen"] == "the model sees it as pr_fen"
    assert said.keys() == {"shop.search", "x" * 100, "prüfen"}


def test_a_hash_that_another_tool_is_called_by_is_not_taken_twice() -> None:
    first = export([tool({}, "a.b"), tool({}, "a__b")], "openai")
    (taken,) = first.names.keys() - {"a__b"}
    second = export([tool({}, name) for name in ("a.b", "a__b", taken)], "openai")
    assert len(second.names) == 3
    assert second.names[taken].name == taken


def test_two_servers_with_a_tool_of_one_name_are_told_apart() -> None:
    tools = [tool({}, "search", server=server) for server in ("shop", "library", "shop")]
    exported = export(tools, "anthropic")
    assert len(exported) == len(exported.names) == 2
    assert {each.server for each in exported.names.values()} == {"shop", "library"}


def test_a_name_that_the_model_made_up_is_unknown_with_the_nearest() -> None:
    exported = export([tool({}, "search_products")], "gemini")
    with pytest.raises(UnknownToolError, match="did you mean 'search_products'"):
        exported.restore("search_product", {})
