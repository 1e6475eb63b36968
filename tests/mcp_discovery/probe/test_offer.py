"""What a server says that no record takes is left out of its record."""

from __future__ import annotations

import pytest

from mcp_discovery.errors import RecordTooLargeError
from mcp_discovery.probe import Introspection
from mcp_discovery.probe.offer import ServerOffer

FIELDS = {"name": "catalog", "endpoint": {"url": "http://127.0.0.1:8000/mcp"}}


def found(**more: object) -> Introspection:
    """An introspection of a server with one tool; ``more`` goes before what is usual."""
    usual: dict[str, object] = {
        "era": "modern",
        "versions": ("2026-07-28",),
        "server_info": {"name": "x", "version": "v1.4", "extra": {"deep": ["a" * 500]}},
        "instructions": None,
        "capabilities": {},
        "tools": ({"name": "find"},),
        "resources": (),
        "resource_templates": (),
        "prompts": (),
    }
    return Introspection(**(usual | more))  # type: ignore[arg-type]


def test_only_what_a_record_takes_of_the_protocol() -> None:
    offer = ServerOffer(found(versions=("2026-07-28", "v" * 33, *map(str, range(40)))))
    record, notes = offer.record(FIELDS)
    assert len(record.protocol.versions) == 32
    assert "v" * 33 not in record.protocol.versions
    assert record.protocol.server_info == {"name": "x", "version": "v1.4"}
    assert record.protocol.instructions is None
    assert (offer.version, notes) == ("1.4.0", ())
    assert (record.capabilities.tools, record.capabilities.digest) == (
        ("find",),
        offer.document.digest,
    )


def test_what_others_put_into_the_fields_is_not_cut() -> None:
    with pytest.raises(RecordTooLargeError):
        ServerOffer(found()).record(FIELDS | {"metadata": {f"k{n}": "v" * 4096 for n in range(64)}})


@pytest.mark.parametrize("number", [0, 1, 2, 5, 6])
def test_more_or_fewer_example_queries_than_others_want_are_noted(number: int) -> None:
    queries = [f"what is {n}" for n in range(number)]
    record, notes = ServerOffer(found()).record(FIELDS | {"exampleQueries": queries})
    assert record.example_queries == tuple(queries)
    assert [note for note in notes if "example quer" in note] == (
        [f"{number} example {'query' if number == 1 else 'queries'}; other registries want 2 to 5"]
        if number in (1, 6)
        else []
    )
