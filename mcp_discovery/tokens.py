"""How many tokens a text takes of a model's window: counted, or bounded from above."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: The file of the vocabulary below the package that brings it.
_VOCABULARY: Final = "tokenizers/l2_supercat_tokenizer_config.json"


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """``counts`` gives the number of tokens of each text; ``name`` says what counts, in a few
    words. ``exact`` is ``False`` for a bound that is never exceeded, whichever the model.

    It may be used from any thread, and holds up no other one.
    """

    name: str
    exact: bool
    counts: Callable[[Sequence[str]], list[int]]

    def count(self, text: str) -> int:
        """The number of tokens of one text."""
        return self.counts((text,))[0]

    def fits(self, text: str, budget: int) -> bool:
        """Whether ``text`` takes at most ``budget`` tokens; what is far too long is not read."""
        return len(text) <= _LONGEST * budget and self.count(text) <= budget

    def most_that_fit(self, texts: Iterable[str], budget: int) -> int:
        """How many of ``texts``, from the first on, take at most ``budget`` tokens together with
        one more for what separates each from the next. No more of them is read than has to be."""
        total = fit = 0
        for some in _batches(texts, budget):
            for counted in self.counts(some):
                total += counted + 1
                if total > budget:
                    return fit
                fit += 1
        return fit


#: How long the longest piece of Llama 2's vocabulary is, in characters.
_LONGEST: Final = 16
#: A token has about so many.
_USUAL: Final = 4


def _batches(texts: Iterable[str], budget: int) -> Iterator[list[str]]:
    """``texts`` in parts that take about ``budget`` tokens, up to one that alone takes more."""
    some: list[str] = []
    length = 0
    for text in texts:
        if len(text) > _LONGEST * budget:
            break
        some.append(text)
        length += len(text)
        if length > _USUAL * budget:
            yield some
            some, length = [], 0
    yield some


def _bytes(texts: Sequence[str]) -> list[int]:
    return [len(text.encode(errors="surrogatepass")) + 1 for text in texts]


#: A token of a model's text stands for one byte at least: their vocabularies are of pieces of text
#: and, for what is in none of these, of single bytes. Some begin a text with one of their own.
BYTES: Final = TokenCounter("UTF-8 bytes, an upper bound", False, _bytes)


@cache
def llama_tokenizer() -> Tokenizer | None:
    """Llama 2's tokenizer, which the package wordllama brings; ``None`` where it is not installed.

    Nothing is downloaded. The first call reads the vocabulary, which takes some 0.1 s: make it in a
    thread. It takes no halves of characters: see :func:`plain`.
    """
    found = find_spec("wordllama")
    if found is None or found.origin is None or find_spec("tokenizers") is None:
        return None
    # One text is one thread's work; and a process that used several warns when it is forked.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    file = Path(found.origin).parent / _VOCABULARY
    if not file.exists():  # another version of it
        return None
    tokenizer = Tokenizer.from_file(str(file))
    # It would keep 10,000 whole texts: some 50 MB, of which none comes again.
    tokenizer.model._resize_cache(0)
    return tokenizer


@cache
def token_counter() -> TokenCounter:
    """Counts with Llama 2's tokenizer where the extra ``semantic`` is installed, else by bytes.

    The first call takes as long as that of :func:`llama_tokenizer`.
    """
    tokenizer = llama_tokenizer()
    if tokenizer is None:
        return BYTES

    def counts(texts: Sequence[str]) -> list[int]:
        # In a batch, as that lets other threads run.
        encoded = tokenizer.encode_batch_fast(list(map(plain, texts)), add_special_tokens=False)
        return [len(each.ids) for each in encoded]

    return TokenCounter("Llama 2 tokenizer", True, counts)


def plain(text: str) -> str:
    """``text`` without halves of characters, which the tokenizer does not take."""
    return text.encode(errors="replace").decode() if not text.isascii() else text
