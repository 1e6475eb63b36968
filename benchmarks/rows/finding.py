"""How well tools are found by sentences, and how fast, beside what others find them with."""

from __future__ import annotations

import gc
import hashlib
import itertools
import statistics
import time
import tracemalloc
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from benchmarks import other_finders
from benchmarks.harness import Contender, Contest, Goal, Scale, row
from benchmarks.other_finders import Scores, by_ranks
from benchmarks.tool_sets import SETS, Tool, ToolSet, bfcl
from mcp_discovery.query.corpus import Corpus, Definitions
from mcp_discovery.query.embedding import BUILT_IN, Meaning, embedded_text
from mcp_discovery.query.index import SearchIndex
from mcp_discovery.query.question import Question
from mcp_discovery.record import Record

_TOP = 10
_MANY = 10_000


def _least(hit: float, at_10: float, at_5: float = 0.0) -> tuple[Goal, ...]:
    figures = {"hit@1": hit, "recall@10": at_10, "recall@5": at_5}
    return tuple(
        Goal(least, at_least=True, figure=figure, absolute=True)
        for figure, least in figures.items()
        if least
    )


#: Not worse than what stands beside it.
_NO_WORSE = tuple(Goal(1.0, at_least=True, figure=figure) for figure in ("hit@1", "recall@10"))


@row(14, "finding-bfcl", "BFCL v4 by words", unit="%", goals=_least(53, 84))
async def bfcl_by_words(scale: Scale) -> AsyncGenerator[Contest, None]:
    """bm25s is told, too."""
    yield _contest("bfcl", scale, semantic=False)


@row(14, "finding-live", "LiveMCPBench by words", unit="%", goals=_least(32, 43))
async def live_by_words(scale: Scale) -> AsyncGenerator[Contest, None]:
    """bm25s is told, too."""
    yield _contest("livemcpbench", scale, semantic=False)


@row(
    14,
    "finding-bfcl-semantic",
    "BFCL v4 with the extra, beside MiniLM and bm25s by ranks",
    unit="%",
    goals=(*_least(59, 91), *_NO_WORSE),
)
async def bfcl_by_meaning(scale: Scale) -> AsyncGenerator[Contest, None]:
    """MiniLM and static vectors alone are told, too."""
    yield _contest("bfcl", scale, semantic=True)


@row(
    14,
    "finding-live-semantic",
    "LiveMCPBench with the extra, beside MiniLM and bm25s by ranks",
    unit="%",
    goals=(*_least(38, 52, 42), *_NO_WORSE),
)
async def live_by_meaning(scale: Scale) -> AsyncGenerator[Contest, None]:
    """MiniLM and static vectors alone are told, too."""
    yield _contest("livemcpbench", scale, semantic=True)


def _contest(name: str, scale: Scale, *, semantic: bool) -> Contest:
    """A quick run is of our own alone."""
    tools = SETS[name]()
    texts = [embedded_text(_record(each), each.definition) for each in tools.tools]
    questions = [question for question, _ in tools.questions]

    def other(name: str, find: Callable[[], Sequence[Scores]]) -> Contender:
        async def run() -> Mapping[str, float]:
            names = np.array([each.name for each in tools.tools])
            best = (np.argsort(-scores, kind="stable")[:_TOP] for scores in find())
            return tools.scores([list(map(str, names[each])) for each in best])

        return Contender(name, run, has_goal=False)

    async def ours() -> Mapping[str, float]:
        index = await _indexed(tools.tools, semantic=semantic)
        return tools.scores([_best(index, question) for question in questions])

    def bm25s() -> Sequence[Scores]:
        return other_finders.bm25s(texts, questions)

    if scale.quick:
        return Contest([Contender("ours", ours)], rounds=1)
    if not semantic:
        return Contest([Contender("words", ours), other("bm25s", bm25s)], rounds=1)

    def minilm() -> Sequence[Scores]:
        return other_finders.minilm(texts, questions)

    static = other("WordLlama alone", lambda: other_finders.static(texts, questions))
    return Contest(
        [Contender("words and meaning", ours), static, other("MiniLM alone", minilm)],
        other("MiniLM and bm25s", lambda: by_ranks(minilm(), bm25s())),
        rounds=1,
    )


_SPEED = (
    Goal(5.0, figure="a question", absolute=True),
    Goal(3000, figure="index of all", absolute=True),
    Goal(20, figure="longest step", absolute=True),
    Goal(1536, figure="a tool's memory", absolute=True, unit="bytes"),
)


@row(
    14,
    "finding-many",
    f"{_MANY:,} tools with the extra: a question (median), the index, memory of a tool",
    unit="ms",
    goals=_SPEED,
)
async def many_by_meaning(scale: Scale) -> AsyncGenerator[Contest, None]:
    """In processor time of this process, as one question is answered after the other."""
    known = bfcl()
    questions = [each for each, _ in known.questions[: scale.of(500, 50)]]
    tools = list(itertools.islice(_copies(known), scale.of(_MANY, 1000)))

    def contender(name: str, *, semantic: bool) -> Contender:
        async def run() -> Mapping[str, float]:
            began, steps = time.process_time(), [0.0]
            index = await _indexed(tools, semantic=semantic, steps=steps)
            took, times = time.process_time() - began, []
            for question in questions:
                began = time.process_time()
                _best(index, question)
                times.append((time.process_time() - began) * 1000)
            return {
                "a question": statistics.median(times),
                "index of all": took * 1000,
                "longest step": max(steps) * 1000,
                "a tool's memory": await _bytes(tools, semantic=semantic),
            }

        return Contender(name, run, has_goal=semantic)

    yield Contest(
        [contender("words and meaning", semantic=True), contender("words", semantic=False)],
        rounds=scale.of(3, 1),
    )


def _copies(tools: ToolSet) -> Iterator[Tool]:
    """Tools that are all different, some of each server."""
    for number in itertools.count():
        for at, each in enumerate(tools.tools):
            definition = dict(each.definition)
            definition["name"] = f"{each.name}_{number}"
            definition["description"] = f"{each.definition['description']} Variant {number}."
            yield Tool(f"server-{number}-{at // 20}", "", definition)


async def _bytes(tools: Sequence[Tool], *, semantic: bool) -> float:
    """What the index takes for each of ``tools``."""
    await _indexed(tools[:10], semantic=semantic)  # what is loaded once
    tracemalloc.start()
    try:
        index = await _indexed(tools, semantic=semantic)
        gc.collect()
        assert len(index)
        return tracemalloc.get_traced_memory()[0] / len(tools)
    finally:
        tracemalloc.stop()


def _best(index: SearchIndex, question: str) -> list[str]:
    ranking = index.tools(Question(question), most=_TOP)
    best = sorted(ranking, key=lambda key: (-ranking.score(key), key[0], key[1]))
    return [name for name, _, _ in best[:_TOP]]


async def _indexed(
    tools: Sequence[Tool], *, semantic: bool, steps: list[float] | None = None
) -> SearchIndex:
    meaning = Meaning(BUILT_IN) if semantic else None
    if meaning is not None:
        await meaning.run()
    index = SearchIndex(Corpus(meaning))
    by_server: defaultdict[str, list[Tool]] = defaultdict(list)
    for each in tools:
        by_server[each.server].append(each)
    for server, offered in by_server.items():
        index.put(_record(*offered))
        definitions: Definitions = {
            ("tool", each.name): (f"{server} {each.name}", each.definition) for each in offered
        }
        for work in (index.work, partial(index.describe, _digest(server), definitions)):
            began = time.process_time()
            for _ in work():
                if steps is not None:
                    steps.append(time.process_time() - began)
                began = time.process_time()
    return index


def _record(*tools: Tool) -> Record:
    """The record of the server that offers them."""
    server = tools[0].server
    offered = list(dict.fromkeys(each.name for each in tools))
    return Record.parse(
        {
            "id": f"{server}-1"[-63:].strip("-"),
            "name": server,
            "description": tools[0].about_server[:2000],
            "version": "1.0.0",
            "endpoint": {"url": "http://127.0.0.1:9/mcp"},
            "capabilities": {"tools": offered, "digest": _digest(server)},
        }
    )


def _digest(server: str) -> str:
    return hashlib.sha256(server.encode()).hexdigest()
