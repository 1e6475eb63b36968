"""The search index: what is found, in which order and why, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_discovery.query.corpus import Corpus
from mcp_discovery.query.index import SearchIndex
from mcp_discovery.query.question import Question
from mcp_discovery.query.ranking import Ranking
from mcp_discovery.record import Record
from tests.records import record

K = TypeVar("K")
PLAIN: Mapping[str, Any] = {"name": "some", "description": "", "tags": []}


def tool(name: str, description: str = "", **parameters: str) -> dict[str, Any]:
    properties = {name: {"type": "string", "description": it} for name, it in parameters.items()}
    schema = {"type": "object", "properties": properties}
    return {"name": name, "description": description, "inputSchema": schema}


class Filled:
    """An index, and shorthands for what is put in and asked for."""

    def __init__(self, corpus: Corpus | None = None) -> None:
        self.corpus = corpus or Corpus()
        self.index = SearchIndex(self.corpus)

    def put(self, id: str, *tools: Mapping[str, Any], **fields: Any) -> None:
        names = [each["name"] for each in tools]
        digest = f"{hash(str(tools)) % 2**64:064x}" if tools else None
        offered = {"tools": names, "digest": digest}
        self.index.put(record(id, **{**PLAIN, **fields, "capabilities": offered}))
        self.work()
        if digest is not None:
            self.describe(digest, tools)

    def describe(self, digest: str, tools: Iterable[Mapping[str, Any]]) -> None:
        for _ in self.index.describe(digest, {("tool", it["name"]): (str(it), it) for it in tools}):
            pass
        self.work()

    def work(self) -> None:
        for _ in self.index.work():
            pass

    def servers(self, text: str, match: str = "any") -> list[str]:
        found = self.index.servers(Question(text, match))
        return sorted(found, key=lambda id: (-found.score(id), id))

    def tools(self, text: str, match: str = "any", most: int | None = None) -> list[str]:
        found = self.index.tools(Question(text, match), most=most)
        return [key[0] for key in sorted(found, key=lambda key: (-found.score(key), key[:2]))]

    def why(self, text: str) -> dict[str, str]:
        found = self.index.tools(Question(text))
        return {key[0]: found.why(key) for key in found}


def scores(ranking: Ranking[K]) -> dict[K, int]:
    return {key: ranking.score(key) for key in ranking}


@pytest.fixture
def filled() -> Filled:
    found = Filled()
    found.put(
        "w",
        tool("get_forecast", "Tells the weather of the next days.", city="Where, such as Oslo"),
        tool("get_alerts", "Warnings for a region."),
        name="weather",
        description="Weather reports.",
    )
    found.put("s", tool("search_products", "Finds products."), name="shop", tags=["catalog"])
    found.put("g", tool("create_issue", "Opens an issue on GitHub."), title="GitHub")
    return found


def test_a_sentence_finds_what_has_any_of_its_words(filled: Filled) -> None:
    assert filled.servers("What is the weather tomorrow?") == ["w"]
    assert filled.tools("What is the weather tomorrow?") == ["get_forecast", "get_alerts"]
    assert filled.tools("weather tomorrow", "all") == []
    assert filled.servers("nowhere at all") == []


def test_all_words_may_be_asked_for(filled: Filled) -> None:
    assert filled.tools("weather region", "all") == ["get_alerts"]  # one word is its server's
    assert filled.servers("weather products", "all") == []
    assert filled.servers("region oslo", "all") == ["w"]  # each in another of its tools


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("oslo", ["get_forecast"]),  # a parameter's description
        ("city", ["get_forecast"]),  # a parameter
        ("product searches", ["search_products"]),  # stems
        ("catalog", ["search_products"]),  # its server's tag
        ("github", ["create_issue"]),
        ("forec", ["get_forecast"]),  # while it is typed
        ("forcast", ["get_forecast"]),  # one slip
        ("get", ["get_alerts", "get_forecast"]),  # there is nothing else in the question
    ],
)
def test_where_words_are_found(filled: Filled, text: str, found: list[str]) -> None:
    assert filled.tools(text) == found


def test_every_result_says_why(filled: Filled) -> None:
    assert filled.why("weather forecast in Oslo") == {
        "get_forecast": "matched: forecast (name), weather, oslo; 3 of 3 words",
        "get_alerts": "matched: weather; 1 of 3 words",
    }
    assert filled.why("forcast") == {
        "get_forecast": "matched: forecast for forcast (name); 1 of 1 word"
    }
    found = filled.index.servers(Question("weather forecast"))
    assert found.why("w") == "matched: weather, forecast (name); 2 of 2 words"


def test_where_a_word_stands_decides() -> None:
    filled = Filled()
    filled.put("name", name="orders-api")
    filled.put("title", title="All orders")
    filled.put("tool", tool("list_orders"))
    filled.put("tag", tags=["orders", "other"])
    filled.put("description", description="Keeps the orders of a shop, and much more than these.")
    filled.put("nothing", description="Keeps other things")
    found = filled.servers("orders")
    assert set(found) == {"name", "title", "tool", "tag", "description"}
    assert found[0] == "name"
    assert {*found[-2:]} == {"description", "tag"}


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    filled = Filled()
    filled.put("a", *(tool(f"list_{kind}") for kind in ("cats", "dogs", "birds", "invoices")))
    assert filled.tools("list invoices")[0] == "list_invoices"


def test_the_best_are_the_same_however_many_are_wanted(filled: Filled) -> None:
    every = filled.tools("weather products issue")
    assert len(every) == 4
    for most in (1, 2, 3):
        assert filled.tools("weather products issue", most=most)[:most] == every[:most]


def test_tools_are_found_by_name_until_their_document_is_known() -> None:
    filled = Filled()
    offered = {"tools": ["pay_invoice"], "digest": "0" * 64}
    filled.index.put(record("a", **{**PLAIN, "capabilities": offered}))
    filled.work()
    assert filled.tools("invoice") == ["pay_invoice"]
    assert filled.tools("money") == []
    assert filled.index.undescribed() == ["0" * 64]
    filled.describe("0" * 64, [tool("pay_invoice", "Sends money.")])
    assert filled.index.undescribed() == []
    assert filled.tools("money") == ["pay_invoice"]
    filled.index.put(record("b", **{**PLAIN, "name": "b", "capabilities": offered}))
    filled.work()
    assert filled.index.undescribed() == ["0" * 64]
    filled.describe("0" * 64, [])  # it is lost
    assert filled.index.undescribed() == []
    assert filled.servers("invoice") == ["a", "b"]


def test_replicas_with_other_tools_are_found_by_their_own(filled: Filled) -> None:
    filled.put(
        "w2",
        tool("get_alerts", "Warnings of avalanches."),
        name="weather",
        description="Weather reports.",
    )
    assert filled.servers("avalanches") == ["w2"]
    assert filled.servers("forecast") == ["w"]


def test_a_list_is_ranked_by_its_own_texts_alone() -> None:
    """What another list of the same corpus has changes nothing, not even what a slip is."""
    shared = Filled()
    for number in range(20):
        shared.put(f"x{number}", tool(f"forcast_{number}", "weather weather"), name=f"x{number}")
    alone = Filled()
    for each in (part := Filled(shared.corpus), alone):
        each.put("a", tool("get_forecast", "Tells the weather."), name="a")
        each.put("b", tool("weather"), name="b")
    for text in ("weather", "forcast", "forecast of the weather"):
        question = Question(text)
        assert scores(part.index.tools(question)) == scores(alone.index.tools(question))
    assert shared.tools("forcast weather")[0].startswith("forcast")


def test_scales_of_an_earlier_ranking_keep_scores_as_they_were(filled: Filled) -> None:
    question = Question("weather warnings")
    before = filled.index.servers(question)
    filled.put("n", tool("weather", "weather"), name="weather-too")
    now = filled.index.servers(question)
    again = filled.index.servers(question, scales=before.scales)
    assert now.score("w") != before.score("w") == again.score("w")


VOCABULARY = ("order", "orders", "stock", "or")
records = st.builds(
    lambda id, name, tags, text, tools: record(
        id, name=name, tags=sorted(tags), description=text, capabilities={"tools": sorted(tools)}
    ),
    st.sampled_from("abcd"),
    st.sampled_from(VOCABULARY),
    st.sets(st.sampled_from(VOCABULARY), max_size=2),
    st.lists(st.sampled_from(VOCABULARY), max_size=2).map(" ".join),
    st.sets(st.sampled_from(VOCABULARY), max_size=2),
)


@pytest.mark.parametrize("sought", ["or", "orders", "stock order", "stoc"])
@settings(deadline=None)
@given(changes=st.lists(records | st.sampled_from("abcd"), max_size=20), steps=st.integers(1, 9))
def test_any_sequence_leaves_what_a_new_index_has(
    sought: str, changes: list[Record | str], steps: int
) -> None:
    filled, known = Filled(), dict[str, Record]()
    for number, change in enumerate(changes):
        if isinstance(change, str):
            known.pop(change, None)
            filled.index.remove(change)
        else:
            known[change.id] = change
            filled.index.put(change)
        for _ in zip(filled.index.work(), range(number % steps), strict=False):
            pass  # some of it is left for later
    filled.work()
    fresh = Filled()
    for one in known.values():
        fresh.index.put(one)
    fresh.work()
    question = Question(sought)
    assert scores(filled.index.servers(question)) == scores(fresh.index.servers(question))
    assert scores(filled.index.tools(question)) == scores(fresh.index.tools(question))
    assert sorted(filled.index.ids) == sorted(known)
    for id in known:
        filled.index.remove(id)
    filled.work()
    for _ in filled.corpus.sweep():
        pass
    assert not filled.corpus.postings
    assert len(filled.corpus) == 0
    assert not filled.corpus.beginning("")


def test_a_sweep_that_was_left_undone_is_done_the_next_time(filled: Filled) -> None:
    words = set(filled.corpus.postings)
    filled.put("x", tool("unheard", "Words that nobody else has."), name="x")
    filled.index.remove("x")
    filled.work()
    for _ in zip(filled.corpus.sweep(), range(3), strict=False):
        pass
    filled.put("y", tool("unheard", "Words that nobody else has."), name="y")
    assert filled.tools("unheard nobody") == ["unheard"]
    filled.index.remove("y")
    filled.work()
    for _ in (*filled.corpus.sweep(), *filled.corpus.sweep()):
        pass
    assert set(filled.corpus.postings) == words == set(filled.corpus.beginning(""))
    assert filled.tools("unheard nobody") == []
