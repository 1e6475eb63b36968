"""The chain: whatever is changed, removed, put in or moved is found, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable

import orjson
import pytest

from mcp_discovery.facade.access.audit.chain import (
    ChainCheck,
    ChainHead,
    canonical,
    digest_of,
    link,
)
from mcp_discovery.facade.access.audit.event import LogEntry
from mcp_discovery.facade.access.audit.journal import system_entry


def entries(count: int, head: ChainHead | None = None) -> list[bytes]:
    """So many entries in one chain."""
    head = head or ChainHead.new()
    found = []
    for number in range(count):
        head, line = link(head, LogEntry.new("whole", {"eventType": "change", "n": number}))
        found.append(line)
    return found


def faults(lines: list[bytes], *anchors: ChainHead) -> list[str]:
    check = ChainCheck()
    check.expect(anchors)
    found = [
        str(each) for number, line in enumerate(lines, 1) for each in check.take(line, f"{number}")
    ]
    return found + [str(each) for each in check.finish()]


def rehashed(line: bytes, **changes: object) -> bytes:
    """An entry that was changed by somebody who knows how hashes are made."""
    entry = {**orjson.loads(line), **changes}
    del entry["hash"]
    return canonical({**entry, "hash": digest_of(entry)})


def test_a_whole_log_has_no_faults() -> None:
    assert faults(entries(20)) == []


Tamper = Callable[[list[bytes]], list[bytes]]
TAMPERED: dict[str, tuple[Tamper, str]] = {
    "changed": (
        lambda it: [*it[:4], it[4].replace(b'"n":4', b'"n":5'), *it[5:]],
        "5: entry 5 was changed",
    ),
    "changed with its hash": (
        lambda it: [*it[:4], rehashed(it[4], n=99), *it[5:]],
        "6: entry 6 does not continue entry 5",
    ),
    "a member twice": (
        lambda it: [*it[:4], it[4].replace(b"{", b'{"eventType":"fake",', 1), *it[5:]],
        "5: entry 5 was changed",
    ),
    "blanks": (lambda it: [*it[:4], it[4] + b" ", *it[5:]], "5: entry 5 was changed"),
    "spelled otherwise": (
        lambda it: [*it[:4], it[4].replace(b"change", rb"\u0063hange"), *it[5:]],
        "5: entry 5 was changed",
    ),
    "removed": (lambda it: it[:4] + it[5:], "5: entry 5 is missing"),
    "several removed": (lambda it: it[:4] + it[7:], "5: entry 5 to 7 is missing"),
    "the first removed": (lambda it: it[1:], "1: the log begins behind entry 1"),
    "doubled": (lambda it: it[:5] + it[4:], "6: entry 5 comes after entry 5"),
    "moved": (lambda it: [*it[:3], it[4], it[3], *it[5:]], "4: entry 4 is missing, or comes later"),
    "put in": (
        lambda it: [*it[:4], rehashed(it[4], sequence=5, n=77), *it[4:]],
        "6: entry 5 comes after entry 5",
    ),
    "half a line": (lambda it: [*it[:-1], it[-1][:40]], "10: is no entry of an audit log"),
    "not an object": (lambda it: [*it[:-1], b"[1]"], "10: is no entry of an audit log"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_tampered_with_is_found(name: str) -> None:
    tamper, says = TAMPERED[name]
    found = faults(tamper(entries(10)))
    assert any(each.startswith(says) for each in found), found


def test_any_change_of_any_byte_is_found() -> None:
    drawn = random.Random(5)
    whole = entries(8)
    for _ in range(300):
        place = drawn.randrange(len(whole))
        line = bytearray(whole[place])
        at = drawn.randrange(len(line))
        line[at] = drawn.choice([each for each in range(32, 127) if each != line[at]])
        changed = [*whole[:place], bytes(line), *whole[place + 1 :]]
        assert faults(changed), (whole[place], bytes(line))


def test_an_end_that_is_missing_is_found_by_what_was_noted_and_not_without() -> None:
    whole = entries(10)
    head = ChainHead.of(orjson.loads(whole[-1]))
    assert ChainHead.parse(str(head)) == head
    assert faults(whole[:7]) == []  # nothing in the rest says that it is not all
    [said] = faults(whole[:7], head)
    assert "which was noted, is not there" in said
    assert faults(whole, head) == []
    anew = entries(10, ChainHead(head.chain, 0, "0" * 64))
    [said] = faults(anew, head)
    assert said == "10: entry 10 is not the one that was noted"


def test_chains_of_several_processes_may_stand_in_one_log() -> None:
    first, second = entries(5), entries(5)
    mixed = [each for pair in zip(first, second, strict=True) for each in pair]
    assert faults(mixed) == []
    assert faults(mixed[:4] + mixed[5:])


def test_what_was_removed_by_age_is_accounted_for() -> None:
    whole = entries(6)
    last = orjson.loads(whole[-1])
    removed = ChainHead.of(orjson.loads(whole[2]))
    pruned = system_entry("pruned", {"prunedThrough": str(removed)})
    _, told = link(ChainHead.of(last), pruned)
    assert faults([*whole[3:], told]) == []
    assert faults([*whole[2:], told])
    assert faults([*whole[4:], told])
