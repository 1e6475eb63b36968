"""The chain: each entry of a log carries the hash of the one before it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from mcp_discovery.facade.access.audit.event import LogEntry

#: What stands for the hash before the first entry.
NOTHING = "0" * 64


class ChainHead(NamedTuple):
    """The last entry of a chain: all that is needed to go on with it, or to find it cut off."""

    chain: str
    sequence: int
    hash: str

    @classmethod
    def new(cls) -> ChainHead:
        """The beginning of a new chain."""
        return cls(secrets.token_hex(8), 0, NOTHING)

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> ChainHead:
        """The head of which ``entry`` is the last; raises :class:`ValueError`."""
        found = entry.get("chain"), entry.get("sequence"), entry.get("hash")
        if not (isinstance(found[0], str) and isinstance(found[1], int)):
            raise ValueError("is no entry of an audit log")
        if not isinstance(found[2], str):
            raise ValueError("is no entry of an audit log")
        return cls(found[0], found[1], found[2])

    @classmethod
    def parse(cls, text: str) -> ChainHead:
        """What :meth:`__str__` has made; raises :class:`ValueError`."""
        chain, sequence, digest = text.strip().split(":")
        return cls(chain, int(sequence), digest)

    def __str__(self) -> str:
        return f"{self.chain}:{self.sequence}:{self.hash}"


def canonical(value: Any) -> bytes:
    """JSON whose members are sorted, without blanks: the same bytes for the same value."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()


def link(head: ChainHead, entry: LogEntry) -> tuple[ChainHead, bytes]:
    """``entry`` as the next of the chain, as canonical JSON, and the head that it is."""
    linked = entry.json() | {
        "chain": head.chain,
        "sequence": head.sequence + 1,
        "previous": head.hash,
    }
    digest = digest_of(linked)
    return ChainHead(head.chain, head.sequence + 1, digest), canonical({**linked, "hash": digest})


@dataclass(frozen=True, slots=True)
class ChainFault:
    """What is wrong with a chain, ``where``."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def _line(text: bytes | str) -> bytes:
    line = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return line.removesuffix(b"\n")


class ChainCheck:
    """Follows the entries of a log, in their order, and tells what is wrong with them.

    ``heads`` are the last entries of the chains that were seen, ``entries`` is how many entries
    were. Entries of several chains may stand in one log: of several processes that write to one
    pipe.
    """

    def __init__(self) -> None:
        self.heads: dict[str, ChainHead] = {}
        self.entries = 0
        #: Where chains begin that do not begin with their first entry, until that is accounted for.
        self._begun_late: dict[str, tuple[str, ChainHead]] = {}
        self._anchors: dict[tuple[str, int], str] = {}

    def expect(self, anchors: Iterable[ChainHead]) -> None:
        """Has :meth:`finish` look for entries whose hash was noted elsewhere."""
        self._anchors.update({(each.chain, each.sequence): each.hash for each in anchors})

    def take(self, text: bytes | str, where: str) -> Iterator[ChainFault]:
        """Follows one more entry; yields what is wrong with it."""
        try:
            entry = orjson.loads(text)
            found = ChainHead.of(entry)
            previous = entry["previous"]
        except (ValueError, KeyError, TypeError, AttributeError):
            yield ChainFault(where, "is no entry of an audit log, or not whole")
            return
        self.entries += 1
        if digest_of({name: each for name, each in entry.items() if name != "hash"}) != found.hash:
            yield ChainFault(where, f"entry {found.sequence} was changed: its hash is another")
        elif canonical(entry) != _line(text):
            # Such as a member that is there twice, of which some readers take the first.
            yield ChainFault(where, f"entry {found.sequence} was changed: it was written otherwise")
        last = self.heads.get(found.chain)
        if last is None:
            if previous != NOTHING or found.sequence != 1:
                before = ChainHead(found.chain, found.sequence - 1, previous)
                self._begun_late[found.chain] = where, before
        elif found.sequence > last.sequence + 1:
            missing = f"{last.sequence + 1} to {found.sequence - 1}"
            if found.sequence == last.sequence + 2:
                missing = str(last.sequence + 1)
            yield ChainFault(where, f"entry {missing} is missing, or comes later")
        elif found.sequence <= last.sequence:
            what = f"entry {found.sequence} comes after entry {last.sequence}: it was moved, or is"
            yield ChainFault(where, f"{what} there twice")
        elif previous != last.hash:
            what = f"entry {found.sequence} does not continue entry {last.sequence}: one of them"
            yield ChainFault(where, f"{what} was put in or exchanged")
        if last is None or found.sequence > last.sequence:
            self.heads[found.chain] = found
        expected = self._anchors.pop((found.chain, found.sequence), None)
        if expected is not None and expected != found.hash:
            yield ChainFault(where, f"entry {found.sequence} is not the one that was noted")
        self._note_pruned(entry)

    def _note_pruned(self, entry: Mapping[str, Any]) -> None:
        if entry.get("eventType") != "system":
            return
        details = entry.get("details")
        pruned = details.get("prunedThrough") if isinstance(details, dict) else None
        late = self._begun_late.get(entry["chain"])
        if isinstance(pruned, str) and late is not None and str(late[1]) == pruned:
            del self._begun_late[entry["chain"]]

    def finish(self) -> Iterator[ChainFault]:
        """What is wrong with the whole, once all entries were followed."""
        for where, before in self._begun_late.values():
            what = f"the log begins behind entry {before.sequence}, and nothing says that what is "
            yield ChainFault(
                where, f"{what}before was removed by age; verify it with the files before it"
            )
        for chain, sequence in self._anchors:
            what = f"entry {sequence} of chain {chain}, which was noted, is not there: the log was "
            yield ChainFault("the end", f"{what}cut off")
