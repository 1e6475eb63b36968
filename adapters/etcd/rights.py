"""Which rights on which keys a request or a role takes, and which of them a user lacks.

etcd says no more than "permission denied". It checks every operation of a transaction, also those
that are not executed, so that each right is asked for in a transaction that does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mcp_discovery.adapters.dns_names import SERVER, TAG
from mcp_discovery.adapters.etcd.keys import Json, Keys, delete, get, key_text, prefix_end
from mcp_discovery.adapters.etcd.skydns import DNSZone
from mcp_discovery.record import Record

#: How many keys a sentence names.
_SHOWN = 6

Access = Literal["READ", "WRITE"]
_BOTH: tuple[Access, ...] = ("READ", "WRITE")


@dataclass(frozen=True, slots=True)
class KeyRight:
    """To read or to write one key, or with ``end`` the range up to that."""

    access: Access
    key: str
    end: str | None = None

    @property
    def place(self) -> str:
        """The key, or the range: as a prefix where it is one."""
        if self.end is None:
            return self.key
        return f"{self.key}*" if self.end == prefix_end(self.key) else f"{self.key} to {self.end}"


def question(rights: Iterable[KeyRight]) -> Json:
    """A transaction that etcd refuses unless the user has all of ``rights``, and that does nothing.

    Without a comparison the other branch is executed, which is empty. To remove takes what to write
    takes, and may be asked for beside a read of the same key.
    """
    operations = [
        get(each.key, end=each.end, keys_only=True)
        if each.access == "READ"
        else delete(each.key, each.end)
        for each in rights
    ]
    return {"compare": [], "success": [], "failure": operations}


def needed(path: str, body: Mapping[str, Any]) -> Iterator[KeyRight]:
    """What a request to the gateway takes: one of ``kv/range``, ``kv/txn`` and ``watch``."""
    match path:
        case "kv/range":
            yield _of("READ", body)
        case "watch":
            yield _of("READ", body["create_request"])
        case "kv/txn":
            for each in body.get("compare", ()):
                yield _of("READ", each)
            for operation in (*body.get("success", ()), *body.get("failure", ())):
                for kind, request in operation.items():
                    yield _of("READ" if kind == "request_range" else "WRITE", request)


def _of(access: Access, request: Mapping[str, Any]) -> KeyRight:
    end = request.get("range_end")
    return KeyRight(access, key_text(request["key"]), key_text(end) if end else None)


def of_sidecar(keys: Keys, zone: DNSZone | None, record: Record) -> list[KeyRight]:
    """What it takes to keep ``record`` registered, through all that its instance may go through."""
    found = [keys.name_of(record.id), keys.live(record.id), keys.record(record.name, record.id)]
    below: list[str] = []  # documents are named by what is in them
    reads: list[str] = []
    if zone is not None:
        for key in zone.records(record):
            folder, _, last = key.rpartition("/")
            if last == record.id:
                found.append(key)
            elif f"{folder}/" not in below:
                below.append(f"{folder}/")
        reads += [zone.below(f"{record.name}.{kind}") for kind in (TAG, SERVER)]
        reads += [keys.record(tag, "") for tag in record.tags if tag != record.name]
    return [
        *(KeyRight(access, *keys.documents) for access in _BOTH),
        *(KeyRight(access, key) for key in found for access in _BOTH),
        *(KeyRight(access, each, prefix_end(each)) for each in below for access in _BOTH),
        *(KeyRight("READ", each, prefix_end(each)) for each in reads),
    ]


def of_list(keys: Keys) -> list[KeyRight]:
    """What it takes to list and watch all instances, and to read what they offer."""
    return [KeyRight("READ", *keys.watched), KeyRight("READ", *keys.documents)]


def of_queries(keys: Keys) -> list[KeyRight]:
    """What it takes to keep named queries."""
    return [KeyRight(access, *keys.queries) for access in _BOTH]


def lacking_sentence(user: str, lacking: Sequence[KeyRight]) -> str:
    """What ``user`` lacks, and what to do."""
    places: dict[str, set[Access]] = {}
    for each in lacking:
        places.setdefault(each.place, set()).add(each.access)
    told = [f"{_together(kinds)} on {place}" for place, kinds in places.items()]
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    named = ", ".join(told[:_SHOWN])
    return f"permission denied: the user {user!r} lacks {named}{more}; grant it to one of its roles"


def _together(kinds: Iterable[Access]) -> str:
    return "READWRITE" if len(set(kinds)) > 1 else next(iter(kinds))
