"""The parts without a network: lines of a stream, the change queue, the listing."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_discovery.adapters.etcd import change_queue
from mcp_discovery.adapters.etcd.change_queue import ChangeQueue
from mcp_discovery.adapters.etcd.keys import Keys, LiveValue, encode, key_text
from mcp_discovery.adapters.etcd.listing import EtcdListing
from mcp_discovery.adapters.etcd.watch import LineSplitter, LineTooLongError
from mcp_discovery.adapters.skipped_keys import SkippedKeys
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.health import Status, healthy
from mcp_discovery.instance import Holder, Lease, encode_registration
from tests.records import record

KEYS = Keys("/mcp/")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_come_whole_however_they_are_cut(size: int) -> None:
    text = b"one\n\ntwo and three\n{}\nrest"
    lines = LineSplitter(100)
    found = []
    for start in range(0, len(text), size):
        found += lines.feed(text[start : start + size])
    assert found == [b"one", b"two and three", b"{}"]


def test_a_line_without_an_end_is_not_collected_for_ever() -> None:
    lines = LineSplitter(10)
    lines.feed(b"12345")
    with pytest.raises(LineTooLongError):
        lines.feed(b"678901")


async def test_a_queue_keeps_the_order_and_ends_with_the_failure() -> None:
    queue = ChangeQueue()
    for id in "abca":
        queue.change(Change(id, None))
    queue.fail(StoreUnavailableError("etcd://h", "gone"))
    assert [each.id for each in await queue.take() if isinstance(each, Change)] == list("abca")
    with pytest.raises(StoreUnavailableError):
        await queue.take()


async def test_a_queue_that_nobody_reads_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_queue, "MOST", 10)
    queue = ChangeQueue()
    queue._merge_at = 10
    for number in range(1000):
        queue.change(Change(f"n-{number % 7}", None))
    taken = [each for each in await queue.take() if isinstance(each, Change)]
    assert len(taken) <= 14
    assert taken[-1].id == f"n-{999 % 7}"
    queue.change(Change("x", None))
    queue.snapshot(Snapshot({}))
    queue.change(Change("y", None))
    assert await queue.take() == [Snapshot({}), Change("y", None)]


def kv(key: str, value: bytes, revision: int, lease: str = "1") -> dict[str, Any]:
    return {
        "key": encode(key),
        "value": encode(value),
        "mod_revision": str(revision),
        "lease": lease,
    }


def put(listing: EtcdListing, given: dict[str, Any]) -> str | None:
    return listing.put(key_text(given["key"]), given)


def registration(holder: str, name: str = "product-catalog") -> bytes:
    lease = Lease(Holder(holder, "h", "sidecar"), 10, 30)
    return encode_registration(record(name=name), lease)


def live(holder: str, name: str = "product-catalog") -> bytes:
    return LiveValue(healthy(), None, holder, name).encode()


def status(listing: EtcdListing) -> Status | None:
    instance = listing.instance("catalog-1")
    return instance.health.status if instance else None


@pytest.fixture
def listing() -> EtcdListing:
    return EtcdListing(KEYS, SkippedKeys("etcd://h"))


RECORD = KEYS.record("product-catalog", "catalog-1")
LIVE = KEYS.live("catalog-1")


def test_an_instance_is_as_its_two_keys_say(listing: EtcdListing) -> None:
    assert put(listing, kv(LIVE, live("one"), 1)) == "catalog-1"
    assert status(listing) is None
    assert put(listing, kv(RECORD, registration("one"), 1)) == "catalog-1"
    assert status(listing) is Status.HEALTHY
    assert listing.delete(LIVE) == "catalog-1"
    down = listing.instance("catalog-1")
    assert down is not None
    assert (down.health.status, down.health.reason) == (Status.DOWN, "no heartbeat for 10 s")
    assert (down.health.since - down.health.last_seen).total_seconds() <= 10
    assert listing.delete(RECORD) == "catalog-1"
    assert status(listing) is None


def test_another_holders_live_key_does_not_speak_for_a_record(listing: EtcdListing) -> None:
    put(listing, kv(RECORD, registration("one"), 1))
    put(listing, kv(LIVE, live("two"), 2))
    assert status(listing) is Status.DOWN
    put(listing, kv(RECORD, registration("two"), 3))
    assert status(listing) is Status.HEALTHY


def test_of_two_names_the_living_one_counts(listing: EtcdListing) -> None:
    put(listing, kv(LIVE, live("one"), 1))
    put(listing, kv(RECORD, registration("one"), 1))
    put(listing, kv(KEYS.record("other", "catalog-1"), registration("two", "other"), 2))
    shown = listing.instance("catalog-1")
    assert shown is not None
    assert shown.record.name == "product-catalog"
    listing.delete(LIVE)
    shown = listing.instance("catalog-1")
    assert shown is not None
    assert (shown.record.name, shown.health.status) == ("other", Status.DOWN)


def test_what_cannot_be_read_is_skipped_until_it_is_mended() -> None:
    skipped = SkippedKeys("etcd://h")
    listing = EtcdListing(KEYS, skipped)
    put(listing, kv(RECORD, b"{", 1))
    put(listing, kv(LIVE, b"[]", 1))
    put(listing, kv(KEYS.record("other-name", "catalog-1"), registration("one"), 1))
    put(listing, kv("/mcp/live/No Label", b"", 1))
    put(listing, kv("/mcp/notes/x", b"", 1))
    put(listing, {"key": "L21jcC+A/w==", "mod_revision": "1"})
    assert len(skipped) == 6
    assert status(listing) is None
    put(listing, kv(RECORD, registration("one"), 2))
    shown = listing.instance("catalog-1")
    assert shown is not None
    assert (shown.health.status, shown.health.reason) == (
        Status.DOWN,
        "its health in the store cannot be read",
    )
    put(listing, kv(LIVE, live("one"), 3))
    assert status(listing) is Status.HEALTHY
    listing.retain([RECORD, LIVE])
    assert not skipped
    assert skipped.total == 6


def test_a_record_that_becomes_unreadable_is_no_longer_listed(listing: EtcdListing) -> None:
    put(listing, kv(RECORD, registration("one"), 1))
    put(listing, kv(LIVE, live("one"), 1))
    assert put(listing, kv(RECORD, b"{", 2)) == "catalog-1"
    assert status(listing) is None


def test_the_same_write_is_decoded_once(listing: EtcdListing) -> None:
    put(listing, kv(RECORD, registration("one"), 1))
    first = listing.instance("catalog-1")
    assert put(listing, kv(RECORD, b"not looked at", 1)) is None
    second = listing.instance("catalog-1")
    assert first is not None and second is not None
    assert second.record is first.record
    # The same revision of a store that was wiped in between is another write.
    assert put(listing, kv(RECORD, b"{", 1, lease="2")) == "catalog-1"
