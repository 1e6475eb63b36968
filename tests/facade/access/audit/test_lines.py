"""Files of lines: rotation, several processes, torn ends."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import orjson
import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.audit.chain import ChainCheck, ChainHead
from mcp_discovery.facade.access.audit.event import LogEntry
from mcp_discovery.facade.access.audit.lines import LinesLog
from mcp_discovery.facade.access.audit.settings import AuditSettings
from mcp_discovery.facade.access.audit.verify import verify_files
from tests.facade.harness import leased, served
from tests.programs import facade, running
from tests.stores.waiting import until


def faults(*files: Path) -> list[str]:
    return [str(each) for each in verify_files(map(str, files), ChainCheck())]


def numbers(file: Path) -> list[int]:
    return [orjson.loads(line)["number"] for line in file.read_bytes().splitlines()]


def entries(*given: int) -> list[LogEntry]:
    return [LogEntry.new("whole", {"eventType": "change", "number": each}) for each in given]


async def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    for number in range(3):
        log = LinesLog(str(file))
        await log.open()
        await log.write(entries(number), again=False)
        await log.close()
    assert numbers(file) == [0, 1, 2]
    assert faults(file) == []
    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_rotated_file_is_continued_in_the_next(tmp_path: Path) -> None:
    file, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    one, two = LinesLog(str(file)), LinesLog(str(file))
    for log in (one, two, one):
        await log.write(entries(0), again=False)
    file.rename(old)
    for log in (two, one, two):
        await log.write(entries(1), again=False)
    assert numbers(old) == [0, 0, 0]
    assert numbers(file) == [1, 1, 1]
    assert faults(old, file) == []
    [said] = faults(file)
    assert "the log begins behind entry 3" in said
    for log in (one, two):
        await log.close()


async def test_several_writers_of_one_file_keep_one_chain(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    logs = [LinesLog(str(file)) for _ in range(4)]

    async def write(log: LinesLog) -> None:
        for number in range(25):
            await log.write(entries(number), again=False)

    await asyncio.gather(*map(write, logs))
    assert len(numbers(file)) == 100
    assert faults(file) == []
    for log in logs:
        await log.close()


async def test_a_torn_end_is_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    log = LinesLog(str(file))
    await log.write(entries(1, 2), again=False)
    await log.close()
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:50])
    assert faults(file)
    log = LinesLog(str(file))
    await log.write(entries(3), again=False)
    await log.close()
    assert numbers(file) == [1, 2, 3]
    assert faults(file) == []


async def test_what_is_no_log_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("my notes\n")
    with pytest.raises(InvalidInputError, match="does not end with an entry of an audit log; move"):
        await LinesLog(str(file)).open()
    assert file.read_text() == "my notes\n"
    with pytest.raises(InvalidInputError, match="name a file in a folder that can be written"):
        await LinesLog(str(tmp_path / "nowhere" / "audit.jsonl")).open()


async def test_a_removed_file_is_made_anew_and_the_chain_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with served(audit=AuditSettings(file=str(file))) as ask:
        assert (await ask("POST", "/servers", leased("a-1"))).status == 201
        first = file.read_bytes()
        os.unlink(file)
        assert (await ask("POST", "/servers", leased("a-2"))).status == 201
    (tmp_path / "old").write_bytes(first)
    assert faults(tmp_path / "old", file) == []


async def test_workers_share_a_file_and_its_chain(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with facade(tmp_path, "embedded:") as behind:
        port = ("--port", "0", "--workers", "2")
        arguments = ("facade", "--store", behind.url, *port, "--audit", str(file))
        async with running(tmp_path, *arguments):

            async def both() -> bool:
                return file.exists() and file.read_text().count("recording-began") == 2

            await until(both, timeout=30, what="both workers recording")
    assert faults(file) == []


async def test_standard_output(tmp_path: Path) -> None:
    arguments = ("facade", "--port", "0", "--audit", "-")
    async with running(tmp_path, *arguments) as process:

        async def began() -> bool:
            return "recording-began" in process.log

        await until(began, timeout=30, what="the facade recording")
        await process.stop()
        told = [each for each in process.log.splitlines() if each.startswith("{")]
    check = ChainCheck()
    assert [fault for line in told for fault in check.take(line, "")] == []
    assert len(told) == 2
    assert next(iter(check.heads.values())) == ChainHead.of(orjson.loads(told[-1]))


async def test_a_rotation_that_left_a_file_empty_is_no_fault(tmp_path: Path) -> None:
    file, new = tmp_path / "trail.1", tmp_path / "trail"
    log = LinesLog(str(file))
    await log.write(entries(1, 2), again=False)
    await log.close()
    new.touch()
    assert faults(file, new) == []


async def test_a_file_that_is_no_log_is_named_among_those_that_are(tmp_path: Path) -> None:
    file, other = tmp_path / "trail.1", tmp_path / "hosts"
    log = LinesLog(str(file))
    await log.write(entries(1), again=False)
    await log.close()
    other.write_text("10.1.2.3 shop\n\n10.1.2.4 stock\n")
    with pytest.raises(InvalidInputError, match="hosts is no audit log; name a file"):
        faults(file, other)


async def test_a_log_of_which_one_line_is_left_is_a_log(tmp_path: Path) -> None:
    file = tmp_path / "trail"
    log = LinesLog(str(file))
    await log.write(entries(1), again=False)
    await log.close()
    file.write_bytes(b"scribbled over\n" + file.read_bytes() + b"and here\n")
    assert [each.partition("trail:")[2] for each in faults(file)] == [
        f"{number}: is no entry of an audit log, or not whole" for number in (1, 3)
    ]


async def test_details_of_another_kind_are_followed(tmp_path: Path) -> None:
    file = tmp_path / "trail"
    log = LinesLog(str(file))
    await log.write([LogEntry.new("whole", {"eventType": "system", "details": "x"})], again=False)
    await log.close()
    assert faults(file) == []
