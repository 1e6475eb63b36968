"""The seam for a model of meaning: what an embedder is, and which one a facade uses.

An embedder is an entry point of the group ``mcp_discovery.embedders``, whose object is called
without arguments and answers with an :class:`Embedder`; the distribution that brings it brings the
model's files, too::

    [project.entry-points."mcp_discovery.embedders"]
    ours = "our_model:OurModel"

Nothing of a model is imported here: :func:`chosen` looks at what is installed, and what it answers
is called in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol

from mcp_discovery.document import text_of
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.extras import is_installed, require_extra
from mcp_discovery.query.words import words
from mcp_discovery.record import Record

if TYPE_CHECKING:
    from mcp_discovery.query.vectors import VectorTable

log = logging.getLogger(__name__)

GROUP: Final = "mcp_discovery.embedders"
#: The model of the extra ``semantic``; its name needs no search of what is installed.
BUILT_IN: Final = EntryPoint("wordllama", "mcp_discovery.query.wordllama:WordLlama", GROUP)

#: How many characters of a description are embedded, whatever it repeats after them.
_DESCRIPTION: Final = 150
#: How many characters of a name are, how many parameters, and of all together.
_NAME, _PARAMETERS, _TEXT = 128, 50, 800
_BY_WORDS: Final = "servers and tools are ranked by words alone"
#: For how long, in seconds, the loop is held at a stretch.
_SLICE: Final = 0.005
#: For how long, in seconds, a model of others may think about one text.
_PATIENCE: Final = 2.0


class Embedder(Protocol):
    """A model that turns texts into vectors, of which those of similar meaning are close."""

    #: The name of the model, as ``/status`` shows it.
    name: str
    #: How many numbers a vector has.
    dimensions: int

    def embed(self, texts: Sequence[str]) -> Any:
        """One row of ``dimensions`` numbers for each text: anything that numpy makes an array of.

        The length of a row does not count. A text that the model knows nothing of is a row of
        zeros, and is ranked by its words alone. Called in several threads, and for each question in
        the one that answers it: it takes a millisecond at most for a sentence.
        """
        ...


def chosen(choice: str) -> EntryPoint | None:
    """The embedder that ``--semantic`` names; ``None`` for ``none``.

    ``auto`` is the built-in one where its extra is installed. Raises :class:`MissingExtraError`
    where it is not and the built-in one is named, and :class:`InvalidInputError` for a name that
    nobody has.
    """
    if choice == "none" or (choice == "auto" and not is_installed("semantic")):
        return None
    if choice in ("auto", BUILT_IN.name):
        require_extra("semantic", f"--semantic {choice}")
        return BUILT_IN
    from importlib.metadata import entry_points

    added = {each.name: each for each in entry_points(group=GROUP)}
    if choice in added:
        return added[choice]
    known = ", ".join(["auto", "none", *sorted({BUILT_IN.name, *added})])
    raise InvalidInputError(
        f"--semantic {choice[:100]!r} is no model that is installed; use {known}, or install the "
        f"package that has it as an entry point of the group {GROUP}"
    )


def load(point: EntryPoint) -> Embedder:
    """The embedder of ``point``, with its model in memory; blocks for some tenths of a second.

    Raises :class:`InvalidInputError` where it cannot be loaded; the message says why.
    """
    try:
        make: Callable[[], Embedder] = point.load()
        embedder = make()
        embedder.name, embedder.dimensions, embedder.embed  # noqa: B018
    except Exception as error:  # whatever a model of others raises
        raise InvalidInputError(
            f"the model {point.name} ({point.value}) cannot be loaded: {error}; {_BY_WORDS}"
        ) from error
    return embedder


def embedded_text(server: Record, item: Mapping[str, Any] | None) -> str:
    """What is embedded of a tool or a skill, or of a server where there is none: names in words,
    how it is described, and what a tool takes, or which questions a server answers and its tags."""
    names: tuple[str | None, ...]
    if item is None:
        names = server.name, server.title
        described: str | None = server.description
        others: Iterable[object] = (*server.example_queries, *server.tags)
    else:
        names = server.name, text_of(item, "name"), text_of(item, "title")
        described = text_of(item, "description")
        schema = item.get("inputSchema")
        parameters = schema.get("properties") if isinstance(schema, Mapping) else None
        others = parameters if isinstance(parameters, Mapping) else ()
    beginning = (described or "")[:_DESCRIPTION]
    return f"{_in_words(names)}: {beginning} {_in_words(islice(others, _PARAMETERS))}"[:_TEXT]


def _in_words(texts: Iterable[object]) -> str:
    return " ".join(
        word
        for text in texts
        if isinstance(text, str)
        for word, again in words(text[:_NAME])
        if not again
    )


class Meaning:
    """What the texts of a corpus mean, to a model that is loaded while :meth:`run` runs.

    Until it :attr:`is_ready`, and from the first fault of the model on, the corpus ranks by words.
    Its methods are called by one thread at a time.
    """

    def __init__(self, point: EntryPoint) -> None:
        self.model = point.name
        #: Why the model is not used: it could not be loaded, or had a fault.
        self.problem: str | None = None
        #: Whether the model ranks.
        self.is_ready = False
        self._point = point
        self._vectors: VectorTable | None = None
        self._waiting: dict[int, str] = {}

    def status(self) -> dict[str, str]:
        """How ``/status`` shows it."""
        shown = {"model": self.model, "state": "ready" if self.is_ready else "loading"}
        return (
            shown if self.problem is None else shown | {"state": "failed", "problem": self.problem}
        )

    def put(self, number: int, server: Record, item: Mapping[str, Any] | None) -> None:
        """Adds a text. A tool that is known by name alone until its document is read has to wait
        for that: another text takes its place then."""
        if item is not None and len(item) == 1 and server.capabilities.digest is not None:
            return
        text = embedded_text(server, item)
        if self.is_ready and self._vectors is not None:
            try:
                self._vectors.put(number, text)
            except InvalidInputError as error:
                self._fail(error)
        elif self.problem is None:
            self._waiting[number] = text

    def drop(self, number: int) -> None:
        """Forgets a text; its number may be given to another."""
        self._waiting.pop(number, None)
        if self._vectors is not None:
            self._vectors.drop(number)

    def blend(
        self, question: str, by_words: Sequence[int], most: int, members: Sequence[int]
    ) -> Mapping[int, int] | None:
        """:meth:`mcp_discovery.query.vectors.VectorTable.blend`, once the model is ready; ``None``
        where it fails."""
        assert self._vectors is not None
        try:
            return self._vectors.blend(question, by_words, most, members)
        except InvalidInputError as error:
            self._fail(error)
            return None

    def _fail(self, error: InvalidInputError) -> None:
        self.problem = str(error)
        self.is_ready, self._vectors = False, None
        self._waiting.clear()
        log.warning("%s", error)

    async def run(self, first: Callable[[], Awaitable[object]] | None = None) -> None:
        """Loads the model in a thread, once ``first`` has returned, and embeds what waits for it;
        then it is used."""
        if first is not None:
            await first()
        started = time.monotonic()
        try:
            vectors = self._vectors = await asyncio.to_thread(self._load)
            until = time.monotonic() + _SLICE
            while self._waiting:
                vectors.put(*self._waiting.popitem())
                if time.monotonic() > until:
                    await asyncio.sleep(0)
                    until = time.monotonic() + _SLICE
        except InvalidInputError as error:
            self._fail(error)
            return
        self.is_ready = True
        took = time.monotonic() - started
        log.info(
            "the model %s is loaded, after %.1f s: it ranks beside the words", self.model, took
        )

    def _load(self) -> VectorTable:
        # For numpy, which is imported here: of products as small as these, more threads take many
        # times as long where the processors are busy, and hold up the event loop meanwhile.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        embedder = load(self._point)
        from mcp_discovery.query.vectors import VectorTable

        return VectorTable(embedder if self._point is BUILT_IN else _Guarded(embedder))


class _Guarded:
    """A model of others, which may do anything: whatever it raises is an
    :class:`InvalidInputError`, and it is not waited for for ever."""

    def __init__(self, embedder: Embedder) -> None:
        self.name, self.dimensions = embedder.name, embedder.dimensions
        self._embed = embedder.embed

    def embed(self, texts: Sequence[str]) -> Any:
        answer: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()

        def ask() -> None:
            try:
                answer.put((self._embed(texts), None))
            except Exception as error:  # noqa: BLE001  whatever a model of others raises
                answer.put((None, error))

        # In a thread of its own, one that hangs does not keep the facade from ending.
        threading.Thread(target=ask, name=f"model {self.name}", daemon=True).start()
        try:
            found, error = answer.get(timeout=_PATIENCE)
        except Empty:
            found, error = None, TimeoutError(f"no answer in {_PATIENCE:g} s")
        if error is not None:
            raise InvalidInputError(f"the model {self.name} failed: {error!r}; {_BY_WORDS}")
        return found
