"""Tools found by words, beside SQLite's full-text search in the same process."""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import closing

from benchmarks.harness import Contender, Contest, Goal, Scale, row
from mcp_discovery.query.corpus import Corpus, Definitions
from mcp_discovery.query.index import SearchIndex
from mcp_discovery.query.question import Question
from mcp_discovery.record import Capabilities
from tests.records import record

_TOOLS = 1000
_TOP = 10
_VERBS = ("search", "list", "create", "update", "delete", "export", "approve", "archive", "merge")
_SUBJECTS = (
    *("orders", "invoices", "products", "customers", "shipments", "returns", "prices", "stock"),
    *("branches", "commits", "tickets", "alerts", "dashboards", "files", "calendars", "payments"),
)
_PURPOSES = (
    "for one customer and the time that is asked for, newest first",
    "across all regions, with totals and the taxes that apply there",
    "and sends a notice by mail to everyone who follows the project",
    "as a table that a spreadsheet can read, one line for each change",
    "after somebody with the right to do so has confirmed it",
)
#: What is asked: whole words and beginnings of words, alone and together.
_QUESTIONS = (
    *("orders", "search orders", "export invoices table", "cust", "approve pay", "archive tick"),
    *("notice mail", "merge branches project", "list", "spreadsheet", "sto", "update prices"),
    *("delete files", "region totals", "calendar", "create dashboards alerts", "nothing"),
)


@row(
    12,
    "words",
    f"{_TOOLS:,} tools found by words, top {_TOP}, beside SQLite FTS5 in process",
    unit="µs",
    goals=(Goal(1.0),),
)
async def found_by_words(scale: Scale) -> AsyncGenerator[Contest, None]:
    """The mean over the same questions; both rank what has any of the words."""
    tools = _tools()
    index = SearchIndex(Corpus())
    offered = Capabilities(tools=tuple(each["name"] for each in tools), digest="0" * 64)
    index.put(record("all", capabilities=offered))
    definitions: Definitions = {("tool", each["name"]): (each["name"], each) for each in tools}
    for _ in (*index.work(), *index.describe("0" * 64, definitions), *index.work()):
        pass
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE VIRTUAL TABLE tools USING fts5(name, title, description)")
        database.executemany("INSERT INTO tools VALUES (:name, :title, :description)", tools)
        database.commit()

        def ours(question: str) -> list[str]:
            found = index.tools(Question(question), most=_TOP)
            return [key[0] for key in sorted(found, key=found.score, reverse=True)[:_TOP]]

        def theirs(question: str) -> list[str]:
            wanted = " OR ".join(f'"{word}"*' for word in question.split())
            found = database.execute(
                "SELECT name FROM tools WHERE tools MATCH ? "
                f"ORDER BY bm25(tools, 3, 2, 2) LIMIT {_TOP}",
                (wanted,),
            )
            return [name for (name,) in found]

        times = scale.of(30, 5)
        yield Contest(
            [Contender("facade", _mean(ours, times))], Contender("FTS5", _mean(theirs, times))
        )


def _mean(ask: Callable[[str], list[str]], times: int) -> Callable[[], Awaitable[float]]:
    async def run() -> float:
        began = time.perf_counter()
        for _ in range(times):
            for question in _QUESTIONS:
                ask(question)
        return (time.perf_counter() - began) * 1e6 / times / len(_QUESTIONS)

    return run


def _tools() -> list[dict[str, str]]:
    found = []
    names = itertools.product(_VERBS, _SUBJECTS, range(1, 100))
    for number, (verb, subject, version) in enumerate(itertools.islice(names, 0, None, 14)):
        if number == _TOOLS:
            break
        found.append(
            {
                "name": f"{verb}_{subject}_{version}",
                "title": f"{verb.title()} {subject}",
                "description": f"Will {verb} {subject} {_PURPOSES[number % len(_PURPOSES)]}.",
            }
        )
    return found
