"""Which model ranks by meaning, and what is done until it is loaded, or where it cannot be."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import pytest

from mcp_discovery.errors import InvalidInputError, MissingExtraError
from mcp_discovery.query.corpus import Corpus
from mcp_discovery.query.embedding import (
    BUILT_IN,
    GROUP,
    Embedder,
    Meaning,
    chosen,
    embedded_text,
    load,
)
from mcp_discovery.query.index import SearchIndex
from mcp_discovery.query.question import Question
from tests.records import record

FILES = record(name="my-files", title="The files", description="", tags=["paper"])
#: Another distribution's model: it knows the letters of a text.
_LETTERS = """
class Letters:
    name = "letters"
    dimensions = 26

    def embed(self, texts):
        return [[t.lower().count(chr(97 + n)) for n in range(26)] for t in texts]

class Broken:
    def __init__(self):
        raise OSError("its file is half there")
"""
_ENTRY_POINTS = """
[mcp_discovery.embedders]
letters = letters_model:Letters
broken = letters_model:Broken
absent = nowhere_to_be_found:Model
"""


@pytest.fixture
def another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with models of its own is installed."""
    (tmp_path / "letters_model.py").write_text(_LETTERS)
    metadata = tmp_path / "letters_model-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: letters-model\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("letters_model", None)


def test_auto_is_the_model_of_the_extra_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert chosen("auto") == chosen("wordllama") == BUILT_IN
    assert chosen("none") is None
    monkeypatch.setitem(sys.modules, "wordllama", None)  # as if it were not installed
    assert chosen("auto") is None
    with pytest.raises(MissingExtraError, match=r"pip install 'mcp-discovery\[semantic\]'"):
        chosen("wordllama")


@pytest.mark.usefixtures("another_model")
def test_a_name_that_nobody_has_is_told_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInputError, match=r"'lettres' is no model .* letters, wordllama"):
        chosen("lettres")


def _embedder(name: str) -> Embedder:
    point = chosen(name)
    assert point is not None
    return load(point)


@pytest.mark.usefixtures("another_model")
def test_another_distribution_brings_a_model() -> None:
    embedder = _embedder("letters")
    assert embedder.name == "letters"
    assert embedder.embed(["abba"])[0][:3] == [2, 2, 0]


@pytest.mark.usefixtures("another_model")
@pytest.mark.parametrize(
    ("name", "why"), [("broken", "half there"), ("absent", "nowhere_to_be_found")]
)
async def test_one_that_cannot_be_loaded_leaves_the_words(name: str, why: str) -> None:
    point = chosen(name)
    assert point is not None
    meaning = Meaning(point)
    meaning.put(0, FILES, None)
    await meaning.run()
    assert meaning.status()["state"] == "failed"
    assert why in meaning.status()["problem"]
    meaning.put(1, FILES, {"name": "write", "title": "Write"})
    assert not meaning.is_ready


@pytest.mark.usefixtures("another_model")
@pytest.mark.parametrize("name", ["letters", "wordllama"])
async def test_what_is_put_before_it_is_loaded_is_ranked_then(name: str) -> None:
    point = chosen(name)
    assert point is not None
    meaning = Meaning(point)
    meaning.put(0, FILES, None)
    meaning.put(1, FILES, {"name": "gone", "description": "x"})
    meaning.drop(1)
    assert meaning.status() == {"model": name, "state": "loading"}
    await meaning.run()
    meaning.put(1, FILES, {"name": "zoo", "description": "The zoo's opening hours."})
    assert meaning.status() == {"model": name, "state": "ready"}
    assert _best(meaning, "where are my files") == 0
    assert _best(meaning, "when does the zoo open") == 1


def _best(meaning: Meaning, question: str) -> int:
    found = meaning.blend(question, [0, 0], 1, [1, 1])
    assert found
    return max(found, key=lambda number: found[number])


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        (None, "my files the files:  paper"),
        ({"name": "readFile"}, "my files read file:  "),
        (
            {
                "name": "read",
                "title": "Read it",
                "description": "x" * 200,
                "inputSchema": {"properties": {"filePath": {}, "n": {}}},
            },
            f"my files read read it: {'x' * 150} file path n",
        ),
        ({"name": 1, "description": [], "inputSchema": {"properties": 3}}, "my files:  "),
        ({"name": "a", "inputSchema": True}, "my files a:  "),
    ],
)
def test_what_is_embedded(tool: Mapping[str, object] | None, text: str) -> None:
    assert embedded_text(FILES, tool) == text


def test_what_a_server_answers_is_embedded() -> None:
    answering = record(
        name="files", description="Files.", tags=["a"], exampleQueries=["is it kept"]
    )
    assert embedded_text(answering, None) == "files: Files. is it kept a"


_FAULTS: Mapping[str, Callable[[], object]] = {
    "raises": lambda: 1 / 0,
    "nothing": lambda: None,
    "no numbers": lambda: [["a"] * 26],
    "not a number": lambda: [[float("nan")] * 26],
    "too few": lambda: [[1.0] * 25],
    "rows of many lengths": lambda: [[1.0], [1.0, 2.0]],
    "hangs": lambda: threading.Event().wait(),
}


class Failing:
    """A model that answers well for as long as ``fault`` is ``None``."""

    name, dimensions = "failing", 26
    fault: ClassVar[str | None] = None

    def embed(self, texts: Sequence[str]) -> object:
        if Failing.fault is not None:
            return _FAULTS[Failing.fault]()
        return [[1.0] * 26 for _ in texts]


@pytest.mark.parametrize("fault", _FAULTS)
@pytest.mark.parametrize("then", ["asked", "told", "loaded"])
async def test_from_a_fault_of_another_model_on_words_rank_alone(
    then: str, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mcp_discovery.query.embedding._PATIENCE", 0.05)
    meaning = Meaning(EntryPoint("failing", f"{__name__}:{Failing.__name__}", GROUP))
    index = SearchIndex(Corpus(meaning))
    monkeypatch.setattr(Failing, "fault", fault if then == "loaded" else None)
    index.put(FILES)
    list(index.work())
    await meaning.run()
    assert meaning.is_ready == (then != "loaded")
    monkeypatch.setattr(Failing, "fault", fault)
    if then == "told":
        index.put(record("more-1", name="more-files"))
        list(index.work())
    for _ in range(2):
        assert index.servers(Question("my files")).why(FILES.id).startswith("matched: files (name)")
    assert not meaning.is_ready
    assert meaning.status()["state"] == "failed"
    assert "ranked by words alone" in meaning.status()["problem"]
    assert len([each for each in caplog.records if each.levelname == "WARNING"]) == 1
