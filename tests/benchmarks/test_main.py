"""``python -m benchmarks`` as a command."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import orjson
import psutil
import pytest

from benchmarks import figures
from benchmarks.harness import Outcome, load_rows
from tests.programs import ROOT
from tests.stores.waiting import bounded, until


async def started(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    out, err = await bounded(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "word"], "no row is called 'word'; did you mean words?"),
        (["--only", "words", "qqq"], "no row is called 'qqq'; --list says which there are"),
        (
            ["--json", "/proc/nothing/f.json"],
            "cannot write /proc/nothing: No such file or director",
        ),
        (["--json", "FOLDER"], "cannot write FOLDER: it is no file"),
        (["--plots", "/proc/self"], "cannot write into /proc/self: "),
        (["--page", "FOLDER/none.md", "--json", "FOLDER/f.json"], "cannot read FOLDER/none.md: No"),
        (
            ["--page", "FOLDER/page.md", "--json", "FOLDER/f.json"],
            "FOLDER/page.md has no lines <!-- table --> and <!-- end of table -->",
        ),
        (["--page", "FOLDER/page.md"], "--page needs --json"),
        (["--page", "FOLDER/page.md", "--quick"], "--page is for full runs, not for --quick"),
    ],
)
async def test_what_cannot_be_is_said_in_one_sentence(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "page.md").write_text("no table\n")
    given = [each.replace("FOLDER", str(tmp_path)) for each in arguments]
    code, out, err = await ended(await started(*given))
    assert (code, out) == (2, "")
    said = said.replace("FOLDER", str(tmp_path))
    assert err.startswith(f"python -m benchmarks: {said}") and err.count("\n") == 1


async def test_one_row_measured_anew_leaves_the_others_in_the_page(tmp_path: Path) -> None:
    """A full run of the quickest row."""
    file, page = tmp_path / "figures.json", tmp_path / "page.md"
    empty = "<!-- table -->\n<!-- end of table -->\n"
    page.write_text(empty)
    arguments = ("--only", "words", "--json", str(file), "--page", str(page))
    code, out, err = await ended(await started(*arguments))
    assert code in (0, 1), err
    assert "is left as it is" in out and page.read_text() == empty
    rows = [Outcome(each.number, each.name, each.what, "", problem="old") for each in load_rows()]
    figures.write(file, rows, {}, quick=False)
    code, out, err = await ended(await started(*arguments))
    assert code in (0, 1), err
    assert page.read_text().count("not run: old") == len(rows) - 1
    assert "| 12 words | facade | " in page.read_text()


async def test_what_there_is() -> None:
    code, out, _ = await ended(await started("--list"))
    assert code == 0 and "words: 1,000 tools found by words" in out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_it_with_what_was_measured_and_without_its_children(
    number: signal.Signals, tmp_path: Path
) -> None:
    """One row is over, one under way, with facades of its own; another would come after it."""
    file = tmp_path / "figures.json"
    process = await started(
        *("--only", "latency-by-size", "client", "words", "--quick", "--json", str(file)),
        *("--plots", str(tmp_path)),
    )
    try:

        async def begun() -> list[psutil.Process]:
            return psutil.Process(process.pid).children(recursive=True)

        children = await until(begun, timeout=60, what="the programs being started")
        process.send_signal(number)
        code, out, err = await ended(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert code == 128 + number, err
    assert "4 latency-by-size" in out and "it was ended before it was over" in out
    (row,) = orjson.loads(file.read_bytes())["rows"]
    assert row["problem"]
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert gone and not alive
