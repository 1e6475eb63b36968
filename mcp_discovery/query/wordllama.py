"""WordLlama's static vectors: a table of 32,000 tokens, looked up and summed.

The wheel ``wordllama`` ships the model and its tokenizer; its own code is not imported, and nothing
is downloaded. The table is mapped into memory, so that what is in use of its 16 MB is shared by all
processes and dropped when memory is short.

A vector is the sum of those of the text's tokens, each times the square root of how often it
occurs: a word repeated two hundred times counts as fourteen. Tokens that are not Latin letters or
digits are left out: the model was trained with English, and has no meaning of Chinese.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from mcp_discovery.tokens import llama_tokenizer, plain

_WEIGHTS: Final = "weights/l2_supercat_256.safetensors"
#: The tokens that have a meaning for the model: ``▁`` is the space before a word. Those of single
#: bytes, as ``<0xE6>``, have none.
_MEANS: Final = re.compile(r"▁?[!-~]*[A-Za-z0-9][!-~]*")
_BYTE: Final = re.compile(r"<.*>")


class WordLlama:
    """The model of the extra ``semantic``. Raises :class:`OSError` where a file is not as in the
    version that was tried."""

    name = "wordllama"

    def __init__(self) -> None:
        tokenizer = llama_tokenizer()
        spec = find_spec("wordllama")
        if tokenizer is None or spec is None or spec.origin is None:
            raise OSError("the package wordllama is not installed, or has no tokenizer in it")
        self._tokenizer = tokenizer
        self._table = _mapped(Path(spec.origin).parent / _WEIGHTS)
        self.dimensions = self._table.shape[1]
        tokens = (self._tokenizer.id_to_token(id) or "" for id in range(len(self._table)))
        self._means = np.array(
            [bool(_MEANS.fullmatch(t) and not _BYTE.fullmatch(t)) for t in tokens]
        )

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The sums; not normalized."""
        found = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in zip(found, texts, strict=True):
            encoded = self._tokenizer.encode(plain(text.lower()), add_special_tokens=False)
            ids, times = np.unique(np.array(encoded.ids, np.intp), return_counts=True)
            means = self._means[ids]
            weights = np.sqrt(times[means], dtype=np.float32)
            # Not by BLAS, whose threads would wait for each other.
            row += np.einsum("i,ij->j", weights, self._table[ids[means]].astype(np.float32))
        return found


def _mapped(path: Path) -> NDArray[np.float16]:
    """The one table of a file in the format of safetensors: eight bytes that say how long its
    header is, the header in JSON, and the numbers."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = orjson.loads(file.read(length))
    table = header.get("embedding.weight", {})
    if table.get("dtype") != "F16":
        raise OSError(f"{path} has no table embedding.weight of F16")
    start = 8 + length + table["data_offsets"][0]
    return np.memmap(path, np.float16, "r", start, tuple(table["shape"]))
