"""How two documents differ."""

from __future__ import annotations

import time
from typing import Any

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.facade.history.diff import ItemDiff, PartDiff, ToolParameter, diff


def tool(name: str, description: str = "", **properties: Any) -> dict[str, Any]:
    """A tool; a property whose schema has ``required`` is a required one."""
    required = [each for each, schema in properties.items() if schema.pop("required", False)]
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": description, "inputSchema": schema}


def of_tools(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> PartDiff:
    before, after = CapabilityDocument(tools=tuple(old)), CapabilityDocument(tools=tuple(new))
    found = diff(before, after)
    assert (found.older, found.newer) == (before.digest, after.digest)
    return found.parts["tools"]


def changed(old: dict[str, Any], new: dict[str, Any]) -> ItemDiff:
    [found] = of_tools([old], [new]).changed
    return found


def test_added_and_removed() -> None:
    found = of_tools([tool("a"), tool("b"), tool("c")], [tool("b"), tool("d"), tool("c", "new")])
    assert (found.added, found.removed, found.same) == (["d"], ["a"], 1)
    assert [each.name for each in found.changed] == ["c"]


def test_words() -> None:
    found = changed(tool("a", "Finds a thing, fast"), tool("a", "Finds two things, fast"))
    assert found.texts["description"] == [
        ("=", "Finds "),
        ("-", "a thing"),
        ("+", "two things"),
        ("=", ", fast"),
    ]
    assert (found.parameters, found.other) == ([], [])


def test_parameters() -> None:
    old = tool("a", id={"type": "string", "required": True}, limit={"type": "integer"}, x={})
    new = tool(
        "a",
        id={"type": "string"},
        limit={"type": "integer", "maximum": 9, "description": "How many"},
        kind={"enum": ["b", 1]},
    )
    assert [(each.name, each.change, each.after) for each in changed(old, new).parameters] == [
        ("id", "changed", ToolParameter("string", False, "", "")),
        ("limit", "changed", ToolParameter("integer", False, "How many", '{"maximum":9}')),
        ("x", "removed", None),
        ("kind", "added", ToolParameter('one of "b", 1', False, "", "")),
    ]
    assert changed(old, new).other == []


def test_what_else_changed() -> None:
    old, new = tool("a"), tool("a") | {"annotations": {"readOnlyHint": True}}
    new["inputSchema"]["additionalProperties"] = False
    assert changed(old, new).other == ["inputSchema", "annotations"]


def test_arguments_of_prompts_and_agents() -> None:
    old, new = (
        CapabilityDocument(
            prompts=({"name": "p", "arguments": [{"name": "x", "required": required}]},),
            skills=({"id": "s", "name": "s", "tags": [str(required)]},),
            card={"version": str(required)},
        )
        for required in (False, True)
    )
    found = diff(old, new)
    [parameter] = found.parts["prompts"].changed[0].parameters
    assert (parameter.before, parameter.after) == (
        ToolParameter("", False, "", ""),
        ToolParameter("", True, "", ""),
    )
    assert found.parts["skills"].changed[0].other == ["tags"]
    assert found.card == ["version"]


def test_names_that_occur_twice() -> None:
    found = of_tools([tool("a", "1"), tool("a", "2")], [tool("a", "1"), tool("a", "3")])
    assert [each.name for each in found.changed] == ["a (2)"]


def test_hostile_documents_end_soon() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(100):
        deep = {"type": "array", "items": deep}
    words = " ".join(f"w{n}" for n in range(100_000))
    odd: dict[str, Any] = {"name": "odd", "inputSchema": {"properties": [1], "required": 7}}
    old = [tool("a", words, x=deep), odd, {"inputSchema": 7}, tool("b", y={})]
    new = [
        tool("a", words[::-1], x={"enum": ["one of many"] * 10_000}),
        odd | {"title": "x"},
        {"name": 5},
    ]
    new += [tool("b", y={})]
    new[3]["inputSchema"]["properties"]["y"] = 5
    began = time.process_time()
    found = of_tools(old, new)
    assert time.process_time() - began < 20
    by_name = {each.name: each for each in found.changed}
    assert [kind for kind, _ in by_name["a"].texts["description"]] == ["-", "+"]
    assert by_name["a"].parameters[0].after is not None
    assert len(by_name["a"].parameters[0].after.type) == 300
    assert by_name["odd"].texts["title"] == [("+", "x")]


def test_texts_that_have_nothing_in_common_are_compared_soon() -> None:
    texts = [" ".join(f"{letter}{n}" for n in range(950)) for letter in "wv"]
    few = [" ".join(["a", letter] * 900) for letter in "wv"]
    began = time.process_time()
    for old, new in (texts, few):
        assert changed(tool("a", old), tool("a", new)).texts["description"]
    assert time.process_time() - began < 10


def test_a_long_text_is_told_word_by_word() -> None:
    words = [f"w{n % 300}" for n in range(2000)]
    new = [*words]
    new[700], new[1400] = "one", "two"
    found = changed(tool("a", " ".join(words)), tool("a", " ".join(new))).texts["description"]
    assert [each for each in found if each[0] != "="] == [
        ("-", "w100"),
        ("+", "one"),
        ("-", "w200"),
        ("+", "two"),
    ]


def test_what_says_the_same_in_another_order_is_the_same() -> None:
    old = tool("a", x={"type": "string", "required": True}, y={"type": "string", "required": True})
    new = {**old, "inputSchema": {**old["inputSchema"], "required": ["y", "x"]}}
    found = of_tools([old], [new])
    assert (found.changed, found.same) == ([], 1)


def test_nothing_hides_behind_arguments_of_a_tool() -> None:
    old, new = (tool("a", x={"description": word}) | {"arguments": []} for word in ("1", "2"))
    [parameter] = changed(old, new).parameters
    assert parameter.name == "x"
    assert changed(old, new | {"arguments": [1]}).other == ["arguments"]


def test_arguments_that_have_no_name_of_their_own_are_told_as_a_whole() -> None:
    old, new = (
        CapabilityDocument(
            prompts=(
                {"name": "p", "arguments": [{"name": "x", "description": text}, {"name": "x"}]},
            )
        )
        for text in "12"
    )
    assert diff(old, new).parts["prompts"].changed[0].other == ["arguments"]


def test_many_required_parameters_are_found_soon() -> None:
    many = [
        {f"p{n}": {"description": text, "required": True} for n in range(20_000)} for text in "12"
    ]
    old, new = tool("a", "", **many[0]), tool("a", "", **many[1])
    began = time.process_time()
    assert len(changed(old, new).parameters) == 20_000
    assert time.process_time() - began < 5
