"""Answers that must not be believed: an empty one is not the truth by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.health import Health, Status
from tests.adapters.consul.faulty import Cut, FaultyConsul, Spoiled
from tests.contract.watcher import Watching, watching
from tests.records import document, record
from tests.stores import ConsulServer

DOC = document("search_products")


@pytest.fixture
async def faulty(consul_server: ConsulServer, namespace: str) -> AsyncIterator[FaultyConsul]:
    proxy = FaultyConsul(consul_server, namespace)
    async with proxy.serving():
        yield proxy


def once(spoil: Callable[[Spoiled], None]) -> Callable[[Spoiled], None]:
    """Spoils the next answer to a blocking query about services, and no other."""
    left = [True]

    def fault(answer: Spoiled) -> None:
        if left[0] and "/health/service/" in answer.path and "index" in answer.query:
            left[0] = False
            spoil(answer)

    return fault


def backwards(answer: Spoiled) -> None:
    answer.headers["X-Consul-Index"] = "1"
    answer.body = b"[]"


def cut(_: Spoiled) -> None:
    raise Cut


def without_leader(answer: Spoiled) -> None:
    answer.headers["X-Consul-KnownLeader"] = "false"
    answer.headers.pop("X-Consul-Query-Backend", None)  # a streamed answer always says so
    answer.body = b"[]"


def no_cluster_leader(answer: Spoiled) -> None:
    answer.status, answer.body, answer.headers = 500, b"No cluster leader", {}


def login_page(answer: Spoiled) -> None:
    answer.headers, answer.body = {"Content-Type": "text/html"}, b"<html>log in</html>"


def removals(watcher: Watching) -> list[str]:
    events = watcher.events
    return [e.id for e in events if isinstance(e, Change) and e.instance is None]


@pytest.mark.parametrize("spoil", [backwards, cut, without_leader, no_cluster_leader, login_page])
async def test_one_spoiled_answer_removes_nothing(
    store: ConsulStore, faulty: FaultyConsul, spoil: Callable[[Spoiled], None]
) -> None:
    registrations = [
        await store.register(record(f"n-{n}"), DOC, ttl=60, reap_after=60) for n in range(3)
    ]
    async with ConsulStore(faulty.url) as reader, watching(reader) as watcher:
        faulty.fault = once(spoil)
        await registrations[0].heartbeat(Health(Status.DOWN, "connection refused"))
        await watcher.until_status("n-0", Status.DOWN, 5)
        await registrations[1].heartbeat(Health(Status.DOWN, "connection refused"))
        await watcher.until_status("n-1", Status.DOWN, 5)
        assert removals(watcher) == []
        assert all(len(e.instances) == 3 for e in watcher.events if isinstance(e, Snapshot))
        # After it the list is given whole once more: something may have been missed. (A connection
        # that was cut is made again by the HTTP client itself, which asks from the same index.)
        snapshots = sum(isinstance(event, Snapshot) for event in watcher.events)
        assert snapshots == (1 if spoil is cut else 2)


@pytest.mark.parametrize("spoil", [cut, without_leader, no_cluster_leader, login_page])
async def test_answers_that_stay_spoiled_end_the_watch(
    store: ConsulStore, faulty: FaultyConsul, spoil: Callable[[Spoiled], None]
) -> None:
    registration = await store.register(record(), DOC, ttl=60, reap_after=60)
    async with ConsulStore(faulty.url) as reader, watching(reader) as watcher:
        faulty.fault = spoil
        await registration.heartbeat(Health(Status.DOWN, "connection refused"))
        with pytest.raises(StoreUnavailableError):
            await watcher.until(lambda: False, 5, "an end of the watch")
        assert list(watcher.instances) == ["catalog-1"]
        assert removals(watcher) == []


async def test_a_store_that_is_empty_all_at_once_is_a_snapshot(
    store: ConsulStore, faulty: FaultyConsul
) -> None:
    """As after a wipe: the index starts anew and nothing is there. The catalog may hold it."""

    def emptied(answer: Spoiled) -> None:
        if "/health/service/" in answer.path or "/servers/" in answer.path:
            answer.body, answer.headers["X-Consul-Index"] = b"[]", "1"

    registrations = [
        await store.register(record(f"n-{n}"), DOC, ttl=60, reap_after=60) for n in range(2)
    ]
    async with ConsulStore(faulty.url) as reader, watching(reader) as watcher:
        faulty.fault = emptied
        await registrations[0].heartbeat(Health(Status.DOWN, "connection refused"))
        await watcher.until(lambda: not watcher.instances, 5, "nothing left")
        assert watcher.events[-1] == Snapshot({})
        assert removals(watcher) == []
        faulty.fault = None
        await registrations[1].heartbeat(Health(Status.DOWN, "connection refused"))
        await watcher.until(lambda: len(watcher.instances) == 2, 10, "all back")
